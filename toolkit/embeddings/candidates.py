"""An encoder to evaluate: where it lies, opened, and proof that it has not seen the test."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import model_validator

from toolkit.config import Section
from toolkit.console import log
from toolkit.encoders import load_encoder
from toolkit.encoders.text import TextEncoder
from toolkit.encoders.text.encoder import POOLING
from toolkit.encoders.text.start import checkpoint_folder
from toolkit.errors import CheckpointError, FetchError
from toolkit.splits import refuse_seen


class Candidate(Section):
    """An encoder to evaluate: in YAML its folder or hub name alone, or both keys."""

    path: str
    """Its folder, or its name on the Hugging Face hub."""
    revision: str | None = None
    """On the hub: a commit."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    def folder(self) -> Path:
        """Where it lies; fetches it from the hub where it is not there yet.

        Raises:
            FetchError: It is in neither place.
        """
        try:
            return checkpoint_folder(self.path, self.revision)
        except FetchError as error:
            raise FetchError(f"encoders: {str(error).removeprefix('start_from: ')}") from None

    def open(self) -> TextEncoder:
        """The encoder.

        Raises:
            CheckpointError: It is none of texts.
        """
        encoder = load_encoder(self.folder())
        if not isinstance(encoder, TextEncoder):
            raise CheckpointError(f"{self.path}: is an encoder of scans; name one of texts")
        return encoder

    def refuse_seen(self, groups: Iterable[str], *, allow: bool = False) -> None:
        """Stops where its record says that it saw a test text; other people's encoders have none, and are warned of.

        Raises:
            DataError: It saw one, or is fewlabel's and has no record; and `allow` is false.
        """
        if (self.folder() / POOLING).is_file():
            refuse_seen(self.folder(), groups, allow=allow)
        else:
            log.warning("%s: somebody else's encoder: nothing can tell whether it saw the test texts", self.path)
