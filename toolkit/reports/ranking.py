"""Pretrainings by label-efficiency, what each cost, and what went wrong: for the page, and as Markdown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from toolkit.reports.names import decimal, interval, method_label, panel_title, role_of, seconds
from toolkit.reports.panels import PANEL_KEYS, with_texts

ELSEWHERE = "from elsewhere, on other data: no place"
NOT_LEARNT = "not shown to beat the same network with random weights"


@dataclass(frozen=True)
class RankedCell:
    """A value as text, its interval, and the length of its bar, None for no bar; an empty text is a gap."""

    text: str = ""
    interval: str = ""
    share: float | None = None


@dataclass(frozen=True)
class RankedRow:
    """One method; `note` says what its monitors found, or why it has no score or no place."""

    name: str
    note: str
    cells: list[RankedCell]


@dataclass(frozen=True)
class RankingTable:
    """One task: pretrainings by place, then baselines, then public models."""

    title: str
    columns: list[str]
    groups: list[list[RankedRow]]


def ranking_tables(ranking: pd.DataFrame) -> list[RankingTable]:
    """Each task's ranking as finished text.

    Args:
        ranking: The columns of `finetune.rank`, and `seconds`, `memory_gb` and `note` of each pretraining; one that has
            no score is listed without a place.
    """
    table = with_texts(ranking, [*PANEL_KEYS, "pretraining", "note"])
    found = []
    for key, part in table.groupby(PANEL_KEYS, sort=False):
        at = [name for name in part if name.startswith("at_") and part[name].notna().any()]
        columns = ["mean", *(name.removeprefix("at_") for name in at), "behind the best", "time", "memory"]
        groups: dict[str, list[RankedRow]] = {"ssl": [], "baseline": [], "reference": []}
        for row in part.to_dict("records"):
            place = "" if pd.isna(row["place"]) else f"{int(row['place'])}. "
            role = role_of(row["method"])
            name = f"{place}{method_label(row['method'], row['leg'], row['pretraining'])}"
            unshown = pd.notna(row["over_random"]) and not row["over_random_low"] > 0  # one draw has no interval
            notes = [ELSEWHERE] * (role == "reference") + [NOT_LEARNT] * unshown + [row["note"]]
            groups[role].append(RankedRow(name, "; ".join(filter(None, notes)), _cells(row, at)))
        found.append(RankingTable(panel_title(*key), columns, [group for group in groups.values() if group]))
    return found


def ranking_markdown(ranking: pd.DataFrame) -> str:
    """The same as Markdown tables, for a README."""
    lines = []
    for table in ranking_tables(ranking):
        lines += [
            f"**{table.title}**",
            "",
            f"| | {' | '.join(table.columns)} |",
            "|---" * (len(table.columns) + 1) + "|",
        ]
        for row in (row for group in table.groups for row in group):
            cells = (f"{cell.text} {cell.interval}".strip() or "–" for cell in row.cells)
            name = (f"{row.name} ({row.note})" if row.note else row.name).replace("|", "\\|")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cells(row: dict[str, Any], at: list[str]) -> list[RankedCell]:
    def cell(name: str, text: Callable[[float], str], low: str = "", high: str = "", bar: bool = False) -> RankedCell:
        if pd.isna(row[name]):
            return RankedCell()
        return RankedCell(text(row[name]), interval(row[low], row[high]) if low else "", row[name] if bar else None)

    return [
        cell("score", decimal, "low", "high", bar=True),
        *(cell(name, decimal) for name in at),
        cell("behind", decimal, "behind_low", "behind_high"),
        cell("seconds", seconds),
        cell("memory_gb", "{:.2f} GB".format),
    ]
