"""Scan and text encoders behind one contract; the preprocessing or the tokenizer travels with the weights."""

import hashlib
import json
import re
import shutil
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import CheckpointError
from toolkit.files import replace_folder
from toolkit.splits import Seen, record_seen

if TYPE_CHECKING:
    from toolkit.encoders.checkpoints import Loaded
    from toolkit.encoders.external import FunctionEncoder, StoredEmbeddings
    from toolkit.encoders.scan import ScanEncoder
    from toolkit.encoders.text import Started, TextEncoder

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""`module:function`, which no path of a folder looks like."""


def load_encoder(folder: str | Path) -> "ScanEncoder | TextEncoder | FunctionEncoder | StoredEmbeddings":
    """Opens an encoder, ready to embed: one that fewlabel saved, or somebody else's.

    Args:
        folder: What `save_pretrained` wrote, such as `runs/demo/scans/encoder`; or a folder of a text model that
            transformers opens; or `module:function`, or a Parquet file of embeddings, see `toolkit.encoders.external`.

    Returns:
        An encoder whose `embed(x)` gives float32 `(N, embed_dim)`; its preprocessing is inside. For scans `x` is an
        array `(N, C, I, J, K)` of raw intensities, axes as NIfTI's in RAS, at `.spacing_mm`, or a list of volume
        paths; for text it is a list of strings.

    Raises:
        CheckpointError: No encoder of fewlabel there, or its weights do not fit.
        ConfigError: No such function.
        DataError: Embeddings that cannot be used.
    """
    if str(folder).endswith(".parquet"):
        from toolkit.encoders.external import StoredEmbeddings

        return StoredEmbeddings(folder)
    if FUNCTION.fullmatch(str(folder)):
        from toolkit.encoders.external import FunctionEncoder

        return FunctionEncoder(str(folder))
    folder = Path(folder)
    if (folder / "pooling.json").is_file():
        from toolkit.encoders.text import TextEncoder

        return TextEncoder.from_pretrained(folder)
    if _is_transformers(folder / "config.json"):
        from toolkit.encoders.text import open_encoder

        return open_encoder(folder)
    if (folder / "config.json").is_file():
        from toolkit.encoders.scan import ScanEncoder

        return ScanEncoder.from_pretrained(folder)
    raise CheckpointError(f"{folder}: no encoder here; name the folder `encoder` inside a run folder")


def encoder_digest(folder: str | Path, names: Iterable[str] = ("*",)) -> str:
    """16 hex digits of the files of a folder, such as a saved encoder, wherever it lies.

    Args:
        folder: With folders inside it.
        names: Patterns of the files that count.
    """
    folder = Path(folder)
    files = []
    for path in sorted({path for name in names for path in folder.rglob(name) if path.is_file()}):
        with path.open("rb") as file:
            files.append((path.relative_to(folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest()[:16]


def save_encoder(
    encoder: "ScanEncoder | TextEncoder",
    folder: Path,
    seen: Seen | Iterable[Hashable],
    started_from: "Loaded | Started | None" = None,
) -> None:
    """Writes an encoder and what its pretraining saw; a kill leaves the folder as it was, or complete.

    Args:
        encoder: What to save.
        folder: Where `load_encoder` will find it.
        seen: What the pretraining data show; subjects or groups suffice where there are no scans.
        started_from: What was loaded into it before: the encoder saw what those weights saw.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    encoder.save_pretrained(partial)
    record_seen(partial, seen, **(started_from.seen if started_from else {}))
    replace_folder(partial, folder)


def _is_transformers(path: Path) -> bool:
    try:
        return "model_type" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
