"""The audit's one place where identifiers become pseudonyms, and where it is written down who is who."""

import pandas as pd

from toolkit.cards.pseudonyms import pseudonym
from toolkit.scans.dicom import DicomHeader

CROSSWALK_COLUMNS = ["kind", "pseudonym", "original", "subject", "accession"]


class People:
    """Gives pseudonyms and remembers the originals for the crosswalk.

    Args:
        key: From `pseudonym_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._rows: dict[str, dict[str, str]] = {}

    def subject(self, person: str) -> str:
        """The pseudonym of a subject."""
        return self._remember("subject", person)

    def study(self, study: str, person: str, header: DicomHeader | None) -> str:
        """The pseudonym of a study, "" where none is known. UIDs are unlike any other, names of sessions are not."""
        if not study:
            return ""
        accession = header.accession if header else ""
        if accession:
            self._remember("accession", accession, subject=person)
        whole = (study,) if header else (person, study)
        return self._remember("study", *whole, subject=person, accession=accession)

    def site(self, institution: str) -> str:
        """The pseudonym of a hospital; its name's case does not matter."""
        return self._remember("site", institution.casefold()) if institution else ""

    def crosswalk(self) -> pd.DataFrame:
        """One row a pseudonym: its kind and original, and of studies the subject and accession number too."""
        rows = sorted(self._rows.values(), key=lambda row: (row["kind"], row["original"], row["pseudonym"]))
        return pd.DataFrame(rows, columns=CROSSWALK_COLUMNS)

    def _remember(self, kind: str, *identity: str, subject: str = "", accession: str = "") -> str:
        name = pseudonym(self._key, kind, *identity)
        original = " ".join(identity)
        self._rows[name] = {
            "kind": kind, "pseudonym": name, "original": original, "subject": subject, "accession": accession
        }  # fmt: skip
        return name


def scanner_name(header: DicomHeader | None) -> str:
    """Maker and model, without any word that also names a person or place in this scan's tags."""
    if header is None:
        return ""
    named = {word.casefold() for name in header.names for word in _words(name)}
    words = f"{header.manufacturer} {header.model}".split()
    return " ".join(word for word in words if not any(part.casefold() in named for part in _words(word)))


def _words(text: str) -> list[str]:
    return [word for word in "".join(c if c.isalnum() else " " for c in text).split() if len(word) > 2]
