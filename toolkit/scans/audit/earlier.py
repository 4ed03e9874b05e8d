"""What the private folder held before: another audit must not take its place unnoticed."""

from pathlib import Path

import pandas as pd

from toolkit.console import log
from toolkit.scans.audit.crosswalk import read_crosswalk


class Earlier:
    """The last audit that was written into a private folder.

    Args:
        out: The folder. Its crosswalk is read now, so that one that cannot be kept stops the audit at once.

    Raises:
        DataError: The crosswalk there cannot be read.
    """

    def __init__(self, out: Path) -> None:
        if (out / "crosswalk.csv").exists():
            read_crosswalk(out / "crosswalk.csv")
        try:
            self._manifest = pd.read_csv(out / "manifest.csv", dtype=str, keep_default_na=False)
            self._manifest = self._manifest[["path", "subject"]]
        except (OSError, ValueError, KeyError):  # none, or no manifest any more
            self._manifest = pd.DataFrame(columns=["path", "subject"])

    def compare(self, root: Path, manifest: pd.DataFrame) -> None:
        """Warns, in one line, where the folder held the audit of another root, or people that are not found now."""
        if self._manifest.empty:
            return
        is_other = not any(Path(path).is_relative_to(root) for path in self._manifest["path"])
        gone = set(self._manifest["subject"]) - set(manifest["subject"])
        if is_other or gone:
            log.warning(
                "--out held the audit of %s; %d of its %d subjects are not found now: crosswalk.csv keeps them, "
                "manifest.csv does not. A split or store made of it is not of this one; give each its own --out",
                "another folder" if is_other else "this folder",
                len(gone),
                self._manifest["subject"].nunique(),
            )
