"""The data card of a made-up cohort: SYNTHETIC in its title, its front matter and its prose."""

from pathlib import Path

import jinja2
import pandas as pd

from toolkit.config import to_yaml
from toolkit.files import write_atomically
from toolkit.scans.cohort.config import CohortConfig, rich_share

_TEMPLATE = jinja2.Template(
    (Path(__file__).parent / "card.md.j2").read_text(encoding="utf-8"),
    keep_trailing_newline=True,
    autoescape=False,  # Markdown, from our own configuration
)


def write_card(config: CohortConfig, truth: pd.DataFrame, path: Path) -> None:
    """Writes the card of the cohort that lies beside it.

    Args:
        config: The cohort.
        truth: One row a series, as `synthesize` returns it.
        path: The card, in the cohort's folder.
    """
    people = truth.drop_duplicates("number")
    by_label = people["label"].value_counts().sort_index()
    dicom = config.format == "dicom"
    text = _TEMPLATE.render(
        config=config,
        truth=truth,
        demo=config.brain == "demo",
        scans="scans/*/*/*" if dicom else "scans/*/*/anat/*.nii.gz",
        masks="masks/*/*/*.nii.gz" if dicom else "masks/*/*/anat/*.nii.gz",
        by_label=", ".join(f"{label}: {count}" for label, count in by_label.items()),
        sites=[_site(rows) for _, rows in truth.groupby("site")],
        rich=round(rich_share(config.num_sites) * config.num_sites),
        configuration=to_yaml(config),
    )
    write_atomically(path, text.encode())


def _site(rows: pd.DataFrame) -> list[str]:
    people = rows.drop_duplicates("number")
    return [
        rows["site"].iloc[0],
        rows["scanner"].iloc[0],
        ", ".join(sorted(rows["plane"].unique())),
        " and ".join(sorted(rows["spacing_mm"].unique())),
        f"{rows['gamma'].iloc[0]:.2f}",
        f"{rows['noise'].iloc[0]:.3f}",
        str(len(rows)),
        f"{(people['label'] == 'lesion').sum()} of {len(people)}",
    ]
