"""Pseudonyms of the tests are made with a key of their own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
