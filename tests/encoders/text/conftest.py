"""Other people's checkpoints for text encoders."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.encoders.text.foreign import save_foreign


@pytest.fixture
def make_foreign(tmp_path: Path, texts: list[str]) -> Callable[..., Path]:
    """Writes one of a kind, and says where."""

    def make(kind: str, **settings: object) -> Path:
        folder = tmp_path / f"foreign-{kind}"
        save_foreign(kind, folder, texts, **settings)
        return folder

    return make
