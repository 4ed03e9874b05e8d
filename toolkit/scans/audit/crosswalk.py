"""The way back: from pseudonyms to the hospital's own numbers, where the crosswalk lies."""

from pathlib import Path

import pandas as pd

from toolkit.cards.pseudonyms import is_pseudonym
from toolkit.console import log
from toolkit.errors import DataError
from toolkit.private import refuse_run_folder, write_private
from toolkit.scans.audit.people import CROSSWALK_COLUMNS
from toolkit.scans.audit.tables import existing


def read_crosswalk(path: Path) -> pd.DataFrame:
    """Who is who, as audits wrote it; every cell text.

    Raises:
        DataError: It cannot be read, or is no crosswalk.
    """
    known = _read(path)
    if missing := [column for column in CROSSWALK_COLUMNS if column not in known]:
        raise DataError(f"{path}: no column {missing[0]!r}; give the crosswalk.csv of an audit")
    return known


def with_earlier(path: Path, found: pd.DataFrame) -> pd.DataFrame:
    """The crosswalk `found` and every line that `path` has, if it is there: no way back is ever lost.

    Where two lines tell of one pseudonym, what was found now comes last.
    """
    if not path.exists():
        return found
    both = pd.concat([read_crosswalk(path), found]).drop_duplicates(keep="last")
    return both.sort_values(["kind", "original", "pseudonym"], kind="stable", ignore_index=True)


def translate_table(path: Path, crosswalk: Path, target: Path | None = None) -> tuple[Path, int, int]:
    """Writes the table `path` with originals in the place of pseudonyms.

    Args:
        path: A CSV or Parquet file; any cell may be a pseudonym.
        crosswalk: As an audit writes it.
        target: CSV or Parquet; by default a CSV beside the crosswalk, in the private folder.

    Returns:
        The file, how many cells were translated, and how many pseudonyms the crosswalk does not know.

    Raises:
        DataError: A file cannot be read, or is no crosswalk; no pseudonym of the table is in the crosswalk; or `target`
            is one of both, or lies in a run's folder.
        DiskError: `target` cannot be written.
    """
    target = target or crosswalk.parent / f"{path.stem}.identified.csv"
    refuse_run_folder(target)
    if target.resolve() in (path.resolve(), crosswalk.resolve()):
        raise DataError(f"{target}: is read, and would be lost; give another --out")
    known = read_crosswalk(crosswalk)
    table = _read(path)
    originals = dict(zip(known["pseudonym"], known["original"], strict=True))
    accessions = {row.pseudonym: row.accession for row in known.itertuples() if row.kind == "study" and row.accession}
    num_cells = num_unknown = 0
    for column in list(table.columns):
        cells = table[column]
        if isinstance(cells.dtype, pd.CategoricalDtype):
            cells = cells.astype(object)
        if not (pd.api.types.is_string_dtype(cells) or cells.dtype == object):
            continue
        named = cells.map(lambda cell: isinstance(cell, str) and is_pseudonym(cell)).astype(bool)
        hits = cells.isin(originals.keys()) & named
        num_cells, num_unknown = num_cells + int(hits.sum()), num_unknown + int((named & ~hits).sum())
        if cells.isin(accessions.keys()).any():
            name = "accession" if "accession" not in table else f"{column}_accession"
            table.insert(table.columns.get_loc(column) + 1, name, cells.map(accessions).fillna(""))
        if hits.any():
            table[column] = cells.where(~hits, cells.map(originals))
    if not num_cells:
        raise DataError(
            f"{path}: has {num_unknown:,} pseudonyms, and none is in {crosswalk}; nothing was written: "
            "give a table with pseudonyms, and the crosswalk.csv of the audit that they are from"
        )
    if target.exists():
        log.warning("%s was there and is replaced", target)
    if target.suffix == ".parquet":
        write_private(target, table.to_parquet(index=False))
    else:
        write_private(target, table.to_csv(index=False).encode("utf-8"))
    return target, num_cells, num_unknown


def _read(path: Path) -> pd.DataFrame:
    existing(path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).replace(str(path), "").split())
        raise DataError(f"{path}: cannot be read as a table ({reason}); give a CSV or Parquet file") from None
