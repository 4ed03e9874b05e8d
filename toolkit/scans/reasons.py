"""Why a scan is refused: a closed vocabulary, so that refusals can be counted, and an error that carries one."""

from enum import StrEnum
from pathlib import Path

from toolkit.errors import DataError


class Reason(StrEnum):
    """What is wrong with a file or series. The words are what `refused.csv` begins its reasons with."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    CHECKSUM = "checksum"
    INCONSISTENT = "inconsistent header"
    TOO_LARGE = "too large"
    TOO_SLOW = "took too long"
    CRASH = "crashed the reader"
    UNSUPPORTED = "unsupported format"
    NOT_A_VOLUME = "not a volume"
    MISSING_SLICES = "missing slices"
    DOUBLED_SLICES = "doubled slices"
    IRREGULAR_SPACING = "irregular spacing"
    GANTRY_TILT = "gantry tilt"
    SHEARED = "sheared axes"
    MIXED_ORIENTATIONS = "mixed orientations"
    MIXED_SLICES = "mixed slices"
    INCOMPLETE = "incomplete series"
    NO_POSITION = "no position"
    NO_SUBJECT = "no subject"
    WRONG_MODALITY = "wrong modality"
    LOCALISER = "localiser"
    DERIVED = "derived"
    DUPLICATE = "duplicate"
    NOT_CHOSEN = "not chosen"
    ARCHIVE = "archive"
    SYMLINK_LOOP = "symlink loop"
    OUTSIDE = "outside the folder"
    BROKEN_LINK = "broken link"
    NOT_A_FILE = "not a file"
    NO_PERMISSION = "no permission"
    FILE_NAME = "file name"


COLOUR = "colour or complex voxels; convert the scan to one real number a voxel first"


class ScanError(DataError):
    """A scan that cannot be used.

    Attributes:
        reason: Which of the known reasons.
        detail: One line that says what was seen and what to do, without the path.
    """

    def __init__(self, reason: Reason, path: str | Path, detail: str) -> None:
        self.reason, self.path, self.detail = reason, path, " ".join(detail.split())
        super().__init__(reason, path, detail)  # so that it can travel between processes

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}: {self.detail}"
