"""The evaluation of text encoders: tables as finished text, as sentences, as Markdown, and a page of one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from toolkit.files import write_atomically
from toolkit.reports.environment import page_environment
from toolkit.reports.evaluation_figure import evaluation_figure
from toolkit.reports.names import LANGUAGES, NOT_RUN, decimal, interval, score, seconds
from toolkit.reports.report import CardFacts
from toolkit.reports.style import COLOURS, svg

MEAN = "mean"
METRIC_LABELS = {
    "bits_per_character": "bits per character",
    "loss": "loss, nats a token",
    "lossless": "texts given back",
    "accuracy": "accuracy",
    "auc": "AUC",
}
LOWER_IS_BETTER = ("bits_per_character", "loss")
METHOD_LABELS = {
    "encoder": "{name}",
    "random": "random weights, {name}",
    "raw": "TF-IDF of characters",
    "bag": "bag of context words",
    "static": "token vectors of the word, {name}",
    "context": "token vectors of its context, {name}",
}
EXPLANATIONS = {
    ("held-out text", "bits_per_character"): "What it takes to spell a held-out text out, by characters, so that "
    "encoders with other tokenizers can be compared; lower is better. Masked encoders see what follows a hidden word "
    "and causal ones do not: compare like with like.",
    (
        "held-out text",
        "loss",
    ): "The pretraining's own loss on held-out text. Another tokenizer has other tokens, so only "
    "encoders that share one can be compared.",
    (
        "held-out text",
        "lossless",
    ): "Share of the texts that the tokenizer gives back. One that folds case gives few back, and has less to predict.",
    ("translations", "accuracy"): "Is a held-out message nearer to its translation than to all other messages of that "
    "language? The mean of both directions. Brackets resample messages.",
    (
        "words in context",
        "auc",
    ): "Are two sentences nearer by the vector of an ambiguous word where it has one sense? .5 "
    "is chance. A bag of the words around it shows how far topics alone go. Brackets resample words.",
}
PROBE = "A linear probe on frozen embeddings, with so many labels a class. Brackets are over draws of labels."


@dataclass(frozen=True)
class EvaluationCell:
    """A value and its interval; `ahead`: by how much it leads the best baseline, `verdict`: whether that is shown."""

    text: str = NOT_RUN
    interval: str = ""
    ahead: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class EvaluationTable:
    """One task in one metric: languages by methods, their mean last."""

    title: str
    metric: str
    explanation: str
    methods: list[str]
    rows: list[tuple[str, list[EvaluationCell]]]
    sentences: list[tuple[str, str, str]]
    """Of each encoder: its name, the verdict, and the result in words."""


@dataclass(frozen=True)
class Evaluation:
    """What a page shows.

    Attributes:
        summary: `evaluation.csv`: columns task, language, site, metric, method, pretraining, value, low, high,
            baseline, ahead, ahead_low, ahead_high; the language `mean` is the mean over a task's languages.
        config: The resolved configuration as YAML.
        provenance: As in `provenance.json`.
        durations: Seconds of each stage.
        caveats: Sentences for the reader.
    """

    title: str
    summary: pd.DataFrame
    cards: Sequence[CardFacts] = ()
    config: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    caveats: Sequence[str] = ()


def write_evaluation(path: Path, evaluation: Evaluation) -> Path:
    """Writes the page, all of it or nothing; equal evaluations give equal bytes."""
    write_atomically(path, render(evaluation).encode())
    return path


def render(evaluation: Evaluation) -> str:
    """The page as text; what comes from tables and cards is escaped."""
    environment = page_environment()
    environment.filters["seconds"] = seconds
    tables = evaluation_tables(evaluation.summary)
    figures = []
    for number, part in enumerate(_parts(evaluation.summary)):
        alt = f"{tables[number].title}, {tables[number].metric}: each language's value and interval by method."
        figures.append(Markup(svg(evaluation_figure(part, method_label, language_label), f"figure{number}", alt)))
    return environment.get_template("evaluation.html.j2").render(
        evaluation=evaluation,
        headline=headline(tables),
        tables=list(zip(tables, figures, strict=True)),
        longest=max(evaluation.durations.values(), default=0.0),
        colours=COLOURS,
        style=Markup(environment.loader.get_source(environment, "page.css")[0]),
    )


def evaluation_tables(summary: pd.DataFrame) -> list[EvaluationTable]:
    """Each task and metric as finished text, in the order of the summary."""
    return [_table(part) for part in _parts(summary)]


def evaluation_markdown(summary: pd.DataFrame) -> str:
    """The same as Markdown, for a terminal and a README."""
    lines = []
    for table in evaluation_tables(summary):
        lines += [f"**{table.title}**, {table.metric}", ""]
        lines += [f"| | {' | '.join(table.methods)} |", "|---" * (len(table.methods) + 1) + "|"]
        for language, cells in table.rows:
            lines.append(f"| {language} | {' | '.join(f'{cell.text} {cell.interval}'.strip() for cell in cells)} |")
        lines += ["", *(f"- {sentence}" for _, _, sentence in table.sentences), ""]
    return "\n".join(lines)


def headline(tables: Sequence[EvaluationTable]) -> str:
    """In how many comparisons an encoder is shown to be ahead of every baseline."""
    verdicts = [verdict for table in tables for _, verdict, _ in table.sentences if verdict]
    if not verdicts:
        return "What the encoders know"
    ahead = sum(verdict == "ahead" for verdict in verdicts)
    return f"Ahead of the best baseline in {ahead} of {len(verdicts)} comparisons"


def method_label(method: str, pretraining: str) -> str:
    """A method's name for people."""
    return METHOD_LABELS.get(method, method).format(name=pretraining)


def language_label(language: str) -> str:
    """`Slovene`, `Slovene and English` for `sl-en`, `mean`."""
    return " and ".join(LANGUAGES.get(part, part) for part in language.split("-"))


def _parts(summary: pd.DataFrame) -> list[pd.DataFrame]:
    return [part for _, part in summary.groupby(["task", "site", "metric"], sort=False, dropna=False)]


def _table(part: pd.DataFrame) -> EvaluationTable:
    first = part.iloc[0]
    languages = sorted(dict.fromkeys(part["language"]), key=lambda language: (language == MEAN, language))
    methods = list(dict.fromkeys(zip(part["method"], part["pretraining"], strict=True)))
    by_cell = {(row["language"], row["method"], row["pretraining"]): row for row in part.to_dict("records")}
    rows = [
        (language_label(language), [_cell(by_cell.get((language, *method))) for method in methods])
        for language in languages
    ]
    told = [MEAN] if MEAN in languages else languages
    overall = [by_cell[key] for language in told for method in methods if (key := (language, *method)) in by_cell]
    site = "" if pd.isna(first["site"]) else first["site"]
    return EvaluationTable(
        " · ".join(filter(None, (first["task"], site.replace("_", " ")))),
        METRIC_LABELS.get(first["metric"], first["metric"]),
        EXPLANATIONS.get((first["task"], first["metric"]), PROBE),
        [method_label(*method) for method in methods],
        rows,
        [_sentence(row) for row in overall if row["method"] == "encoder"],
    )


def _cell(row: dict[str, Any] | None) -> EvaluationCell:
    if row is None:
        return EvaluationCell()
    ahead = score(row["ahead"], row["ahead_low"], row["ahead_high"], sign=True) if pd.notna(row["ahead"]) else ""
    return EvaluationCell(decimal(row["value"]), interval(row["low"], row["high"]), ahead, _verdict(row))


def _verdict(row: dict[str, Any]) -> str:
    """Empty where there is nothing to compare with."""
    if pd.isna(row["ahead"]):
        return ""
    return "ahead" if row["ahead_low"] > 0 else "behind" if row["ahead_high"] < 0 else "unclear"


def _sentence(row: dict[str, Any]) -> tuple[str, str, str]:
    name, verdict = method_label(row["method"], row["pretraining"]), _verdict(row)
    where = "on average over the languages" if row["language"] == MEAN else f"in {language_label(row['language'])}"
    reached = score(row["value"], row["low"], row["high"])
    text = f"{name}: {reached} {METRIC_LABELS.get(row['metric'], row['metric'])} {where}"
    if verdict:
        lead = score(abs(row["ahead"]), *sorted((abs(row["ahead_low"]), abs(row["ahead_high"]))))
        rival = METHOD_LABELS.get(row["baseline"], row["baseline"]).partition(",")[0]
        text += {
            "ahead": f", ahead of the best baseline ({rival}) by {lead}",
            "behind": f", behind the best baseline ({rival}) by {lead}",
            "unclear": f"; the best baseline ({rival}) is not told apart",
        }[verdict]
    return name, verdict, f"{text}."
