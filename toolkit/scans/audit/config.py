"""What an audit accepts, prefers and joins."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from toolkit.config import Section

Preference = Literal["original", "thin", "axial", "slices", "soft"]


class AuditConfig(Section):
    """How `fewlabel data audit` decides."""

    modalities: tuple[str, ...] = ("CT", "MR", "PT")
    """DICOM modalities that are scans; others are refused. NIfTI and NRRD do not say theirs and are kept."""
    keep_derived: bool = False
    """Keep images that DICOM calls derived or secondary: projections, reformats, maps, screen shots."""
    keep_all_series: bool = False
    """Keep every series of a study, also those that show the same again."""
    prefer: tuple[Preference, ...] = ("original", "thin", "axial", "slices", "soft")
    """Which series of the same kind is chosen; a later rule decides where the earlier ones tie, at last the lowest
    series UID. original: neither derived nor secondary. thin: the smallest slice distance. axial: slices along the
    body's axis. slices: the most slices. soft: a CT kernel for soft tissue."""
    min_slices: int = Field(default=2, ge=2)
    """A series with fewer slices is no volume."""
    subject_pattern: str = ""
    """Regular expression searched in the path below the folder; its first group is the subject. Empty: DICOM's
    PatientID, BIDS' sub-; else it is guessed, with a warning: DICOM's study, else the first folder, else the file."""
    link: Path | None = None
    """A table (CSV) of labels, joined before identifiers are hashed."""
    link_on: Literal["accession", "subject", "path"] = "subject"
    """Which column of that table names the scan; a path is relative to the folder."""
    label_column: str = "label"
    """Which column of that table is the label."""
    num_workers: int | None = Field(default=None, ge=1)
    """Processes that read; by default one a core."""
    timeout_s: float = Field(default=600.0, gt=0)
    """A file that takes longer is refused."""

    @field_validator("subject_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if pattern and not groups:
            raise ValueError("has no group; put the subject's part in parentheses")
        return pattern
