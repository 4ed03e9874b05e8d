"""Models of transformers out of a folder or from the hub, without running anything that came with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from toolkit.console import log
from toolkit.encoders.text.architecture import first_position, position_table, without_pooler
from toolkit.encoders.text.head import LMHead
from toolkit.encoders.weights import KeyReport
from toolkit.errors import CheckpointError, FetchError

MAX_LENGTH = 512
"""Tokens a text where a checkpoint could take more."""
SAFETENSORS, TORCH = "*.safetensors", "pytorch_model*.bin"
FILES = ("*.json", "*.txt", "*.model")
"""What a checkpoint is made of besides its weights."""


def checkpoint_folder(path: str | Path, revision: str | None = None) -> Path:
    """The folder itself, or where the hub's client keeps what it fetches.

    Raises:
        FetchError: There is no such folder, and nothing can be fetched under this name.
    """
    if Path(path).is_dir():
        return Path(path)
    name = str(path)
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*FILES, SAFETENSORS]))
        if TORCH in checkpoint_files(folder):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*FILES, TORCH]))
    except Exception as error:  # the client raises those of several libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise FetchError(
            f"start_from: {name} is no folder, and the hub does not give it: {reason}; check path, network and log-in"
        ) from None
    return folder


def checkpoint_files(folder: Path) -> tuple[str, ...]:
    """Patterns of the files that a checkpoint is opened from; torch's format counts where there is no other."""
    return (*FILES, SAFETENSORS if any(folder.glob(SAFETENSORS)) else TORCH)


def num_positions(model: PreTrainedModel) -> int:
    """Tokens that a text may have at most."""
    table = position_table(model)
    if table is not None:
        return table.num_embeddings - first_position(model)
    return int(getattr(model.config, "max_position_embeddings", MAX_LENGTH))


def open_model(folder: Path) -> tuple[PreTrainedModel, LMHead | None]:
    """A model of transformers without its heads, and its head of masked modelling if it has one."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        auto = AutoModelForMaskedLM if type(config) in MODEL_FOR_MASKED_LM_MAPPING else AutoModel
        with _quiet(), torch.random.fork_rng(devices=[]):  # what is missing is drawn, and refused or thrown away
            model, found = auto.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
                trust_remote_code=False,
            )
    except UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "Unsupported" in line), "not a file of torch.save")
        raise CheckpointError(
            f"{folder}: its weights hold more than tensors, or are damaged ({reason.strip()}); nothing of it was run. "
            "Save them as .safetensors"
        ) from None
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: is not a model that transformers opens: {reason}") from None
    encoder = model.base_model
    inside = {name for name, _ in encoder.named_children()} - {"pooler"}
    names = {
        "missing": found["missing_keys"],
        "unexpected": found["unexpected_keys"],
        "reshaped": {entry[0] for entry in found["mismatched_keys"]},
    }
    own = {
        kind: tuple(sorted(name for name in keys if _within(name, encoder.base_model_prefix, inside)))
        for kind, keys in names.items()
    }
    if unfit := KeyReport(matched=(), **own).unfit:
        raise CheckpointError(f"{folder}: keys {unfit}; the weights belong to another model than config.json says")
    left_out = sorted(found["unexpected_keys"])
    headless = model is encoder or found["missing_keys"] or found["mismatched_keys"]
    lm_head = None if headless else LMHead.of(model)
    log.info(
        "%s: a %s, %s its head of masked modelling%s",
        folder.name,
        type(encoder).__name__,
        "with" if lm_head else "without",
        f"; left out: {', '.join(left_out)}" if left_out else "",
    )
    return without_pooler(encoder), lm_head


def _within(name: str, prefix: str, inside: set[str]) -> bool:
    """Whether a tensor's name is one of the encoder's, with or without its prefix."""
    return name.removeprefix(f"{prefix}.").partition(".")[0] in inside


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report and bar: what does not fit is said here."""
    before, bar = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
        if bar:
            transformers.logging.enable_progress_bar()
