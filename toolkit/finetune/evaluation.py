"""A study's probes as rows of an evaluation: a task a budget, a column a language, and the mean over languages."""

import pandas as pd

from toolkit.embeddings.measurements import MEAN, SUMMARY_COLUMNS
from toolkit.finetune.methods import BASELINES
from toolkit.statistics import paired_difference, t_interval

PROBE = "ssl-probe"


def probe_evaluation(results: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """One row a method, budget and language; intervals are over draws of labels, differences paired by draw.

    Args:
        results: The rows of `results.csv` of one study of texts.
        metric: Which one counts.

    Returns:
        The columns of `toolkit.embeddings.summarise`; the method of a pretrained probe is `encoder`.
    """
    rows = []
    own = results[(results["metric"] == metric) & results["budget"].notna()]
    for (task, budget), part in own.groupby(["task", "budget"], sort=False):
        languages = list(dict.fromkeys(part["language"]))
        for language, columns in [*((one, [one]) for one in languages), *[(MEAN, languages)] * (len(languages) > 1)]:
            what = {
                "task": f"{task}, {budget:.0f} labels a class", "language": language, "site": "", "metric": metric
            }  # fmt: skip
            rows += _rows(what, {names: _by_draw(of, columns) for names, of in part.groupby(["method", "pretraining"])})
    return pd.DataFrame(rows).reindex(columns=SUMMARY_COLUMNS).round(6)


def _rows(what: dict[str, str], scores: dict[tuple[str, str], pd.Series]) -> list[dict]:
    scores = {names: values for names, values in scores.items() if len(values)}
    rivals = [names for names in scores if names[0] in BASELINES]
    best = max(rivals, key=lambda names: scores[names].mean(), default=None)
    rows = []
    for (method, pretraining), values in scores.items():
        interval = t_interval(values.to_numpy())
        row = what | {
            "method": "encoder" if method == PROBE else method, "pretraining": pretraining, "value": interval.estimate,
            "low": interval.low, "high": interval.high, "num_groups": len(values),
        }  # fmt: skip
        if method == PROBE and best is not None:
            common = values.index.intersection(scores[best].index)
            lead = paired_difference(values[common].to_numpy(), scores[best][common].to_numpy())
            row |= {"baseline": best[0], "ahead": lead.estimate, "ahead_low": lead.low, "ahead_high": lead.high}
        rows.append(row)
    return sorted(rows, key=lambda row: row["method"] != "encoder")


def _by_draw(part: pd.DataFrame, languages: list[str]) -> pd.Series:
    """The mean over the languages in each draw that has all of them."""
    table = part.pivot_table(index="draw", columns="language", values="value").reindex(columns=languages)
    return table.dropna().mean(axis=1)
