"""Opens a folder's tokenizer: one that was certified here, or one from elsewhere."""

from collections.abc import Iterable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from toolkit.errors import CheckpointError
from toolkit.text.tokenizer.base import TextTokenizer
from toolkit.text.tokenizer.certificate import CERTIFICATE, FAST, FOREIGN, SPIECE, read_certificate
from toolkit.text.tokenizer.foreign import ForeignTokenizer
from toolkit.text.tokenizer.foreign_certificate import certify_foreign
from toolkit.text.tokenizer.sentencepiece import SentencePieceTokenizer


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Opens a folder that `TextTokenizer.save` or an encoder's `save_pretrained` wrote.

    Raises:
        CheckpointError: No tokenizer there, no certificate, or one that failed or belongs to other files.
    """
    folder = Path(folder)
    for name in (FAST, CERTIFICATE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder}: has no {name}; a tokenizer must be one that fewlabel certified, or be opened as one from "
                "elsewhere (load_foreign_tokenizer)"
            )
    certificate = read_certificate(folder)
    fast = PreTrainedTokenizerFast.from_pretrained(folder, split_special_tokens=True)
    if certificate.get("kind") == FOREIGN:
        return ForeignTokenizer(fast, certificate, origin=folder)
    if not (folder / SPIECE).is_file():
        raise CheckpointError(f"{folder}: has no {SPIECE}; train the tokenizer again")
    # split_special_tokens: a literal "<s>" in a user's text is text.
    return SentencePieceTokenizer(fast, (folder / SPIECE).read_bytes(), certificate)


def load_foreign_tokenizer(folder: Path | str, rows: Iterable[tuple[str, ...]] = ()) -> ForeignTokenizer:
    """Opens the fast tokenizer of any local folder that `AutoTokenizer` opens, and looks at what it loses.

    Args:
        folder: Of a tokenizer or a model with one.
        rows: Text and language that the certificate is to speak of.

    Raises:
        CheckpointError: There is none, it is not a fast one, or it lacks special tokens.
    """
    try:
        fast = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: transformers opens no tokenizer there: {reason}") from None
    tokenizer = ForeignTokenizer(fast, origin=folder)
    tokenizer.certificate = certify_foreign(tokenizer, rows, Path(folder))
    return tokenizer
