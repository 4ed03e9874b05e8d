"""What a report is made of: tables, pictures, maps and facts, all plain data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from toolkit.errors import DataError


@dataclass(frozen=True)
class Picture:
    """A PNG for the page.

    Attributes:
        png: The file's bytes.
        title: A few words above it.
        caption: What to look for, in a sentence or two.
        alt: What it shows, for those who do not see it; the caption if empty.
    """

    png: bytes
    title: str
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Pretraining:
    """One pretraining's monitors: `metrics` are the rows of its `metrics.jsonl`, see `read_metrics`."""

    title: str
    metrics: pd.DataFrame


@dataclass(frozen=True)
class EmbeddingMap:
    """A scatter of embeddings in two dimensions.

    Attributes:
        points: Columns `x`, `y`, `label` and `text` (what hovering shows), and optionally `group`, such as
            the language or the volume; at most `embedding_map.MAX_POINTS` rows are drawn. Hover texts go into
            the page as they are: never hand in identifiers of people.
        caption: How the two dimensions were made, and what to look for.
    """

    title: str
    points: pd.DataFrame
    caption: str
    group_name: str = "group"


@dataclass(frozen=True)
class CardFacts:
    """What the page says of one data card: licence, counts, and warnings such as unknown consent."""

    name: str
    licence: str
    source: str = ""
    personal_data: str = ""
    counts: Mapping[str, int | str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """All that a page shows. Only the study's tables are needed; a section without content is left out.

    Attributes:
        results: `results.csv`, one row a measurement.
        summary: `summary.csv`, one row a method, budget and metric.
        comparisons: `comparisons.csv`, each pretrained method against every baseline.
        ranking: `ranking.csv`, pretrainings in the order of their label-efficiency, where several are compared.
        metric: The metric of the headline and the curves. Tables show all.
        config: The resolved configuration as YAML.
        provenance: As in `provenance.json`; nested mappings are shown as such.
        durations: Seconds of each stage, in the order of running.
        caveats: Sentences for the reader that come on top of those that the page always has.
    """

    title: str
    results: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame | None = None
    ranking: pd.DataFrame | None = None
    metric: str = "accuracy"
    pretrainings: Sequence[Pretraining] = ()
    pictures: Sequence[Picture] = ()
    maps: Sequence[EmbeddingMap] = ()
    cards: Sequence[CardFacts] = ()
    config: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    caveats: Sequence[str] = ()


def read_metrics(path: Path) -> pd.DataFrame:
    """The rows of a `metrics.jsonl`, one column a monitor, NaN where a row does not have it.

    Raises:
        DataError: If the file is missing, empty or has a line that is not JSON.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run the pretraining first") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: holds a line that is not JSON; delete it and run the pretraining again") from error
    if not rows:
        raise DataError(f"{path}: is empty; run the pretraining again")
    return pd.DataFrame(rows)


def read_timings(folders: Sequence[Path]) -> dict[str, float]:
    """Seconds of each stage that the `timings.jsonl` of some run folders name; of a repeated stage, its longest run."""
    durations: dict[str, float] = {}
    for folder in folders:
        for line in (folder / "timings.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # written when the disk was full or the run was killed
                continue
            if "step" not in row:
                durations[row["stage"]] = max(durations.get(row["stage"], 0.0), row["seconds"])
    return durations
