"""Labels out of a table: joined while the scans still have their own names."""

from pathlib import Path, PurePosixPath

import pandas as pd

from toolkit.errors import DataError
from toolkit.registry import nearest
from toolkit.scans.audit.candidates import Candidate
from toolkit.scans.audit.config import AuditConfig
from toolkit.scans.audit.tables import existing
from toolkit.scans.volumes import split_path


class Labels:
    """The labels of a table, by accession number, subject or path.

    Args:
        config: `link`, `link_on` and `label_column`.
        folder: The audit's root, from which paths of the table may start, or else from the table's own folder.

    Raises:
        DataError: The table cannot be read, lacks a column, or gives one scan two labels; its row is named.
    """

    def __init__(self, config: AuditConfig, folder: Path) -> None:
        self._on, self._folders = config.link_on, [folder]
        self._labels: dict[str, str] = {}
        self._used: set[str] = set()
        self._unlabelled: list[str] = []
        if config.link is None:
            return
        self._folders.append(config.link.absolute().parent)
        table = _read(config.link)
        for column in (config.link_on, config.label_column):
            if column not in table:
                raise DataError(f"{config.link}: no column {column!r}; {nearest(column, list(table))}")
        for number, (name, label) in enumerate(
            zip(table[config.link_on], table[config.label_column], strict=True), start=2
        ):
            key = self._key(name)
            if self._labels.setdefault(key, label.strip()) != label.strip():
                raise DataError(
                    f"{config.link}: line {number}: a second label for one {config.link_on}; keep the right one"
                )

    def of(self, candidate: Candidate) -> str:
        """The label of a scan, "" where the table has none."""
        for key in self._keys(candidate):
            if key in self._labels:
                self._used.add(key)
                return self._labels[key]
        if self._labels:
            self._unlabelled.append(candidate.path)
        return ""

    def unmatched(self) -> pd.DataFrame:
        """What has no partner: rows of the table (`where` is "labels") and scans ("scans")."""
        left = [("labels", name) for name in sorted(self._labels.keys() - self._used)]
        return pd.DataFrame(left + [("scans", path) for path in self._unlabelled], columns=["where", "name"])

    @property
    def any_matched(self) -> bool:
        """Whether a row of the table has found a scan."""
        return bool(self._used)

    def _key(self, name: str) -> str:
        name = " ".join(name.split())
        if self._on != "path":
            return name
        inside = name.replace("\\", "/")  # a table made on Windows
        if not inside:
            return ""
        paths = [PurePosixPath(folder.as_posix()) / inside for folder in self._folders]
        return str(next((path for path in paths if split_path(str(path))[0].exists()), paths[0]))

    def _keys(self, candidate: Candidate) -> list[str]:
        if self._on == "subject":
            return [candidate.person]
        if self._on == "accession":
            return [candidate.header.accession] if candidate.header and candidate.header.accession else []
        place, _ = split_path(candidate.path)  # a series may be named with its UID, by its folder, or by a file of it
        return [candidate.path, str(place), *candidate.files]


def _read(path: Path) -> pd.DataFrame:
    existing(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            heading = file.readline()
        separator = max(",;\t", key=heading.count)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=separator)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a table ({' '.join(str(error).split())}); give a CSV") from None
