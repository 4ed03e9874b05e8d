"""A data root of its own for each test, and a small head."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from toolkit.console import log
from toolkit.scans import Volume
from toolkit.scans.cohort import write_nifti, write_series

Place = Callable[..., Path]


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FEWLABEL_DEBUG", "")
    monkeypatch.setattr(log, "handlers", [])
    return tmp_path / "data"


@pytest.fixture
def head(textured: np.ndarray) -> Volume:
    return Volume(1000 * textured[:, :20, :22, :10], np.diag([2.0, 2.0, 3.0, 1.0]))


@pytest.fixture
def scan(head: Volume) -> Volume:
    """Another one: voxels that are not those of `head`."""
    return Volume(head.array[:, ::-1].copy(), head.affine)


@pytest.fixture
def dicom(tmp_path: Path, head: Volume) -> Place:
    """Writes a series below `tmp_path / "in"`; keywords of DICOM are tags, others go to `write_series`."""
    written = 0

    def place(folder: str, volume: Volume | None = None, **keywords: object) -> Path:
        nonlocal written
        written += 1
        tags = {name: keywords.pop(name) for name in list(keywords) if name[0].isupper()}
        tags = {"SeriesNumber": written, "PatientID": "FAKE-1"} | tags
        given = volume or Volume(head.array + written, head.affine)
        write_series(given, tmp_path / "in" / folder, tags=tags, **keywords)
        return tmp_path / "in" / folder

    return place


@pytest.fixture
def nifti(tmp_path: Path, head: Volume) -> Place:
    """Writes a NIfTI file below `tmp_path / "in"`, each with voxels of its own."""
    written = 0

    def place(name: str, volume: Volume | None = None) -> Path:
        nonlocal written
        written += 1
        write_nifti(volume or Volume(head.array * (1 + written / 100), head.affine), tmp_path / "in" / name)
        return tmp_path / "in" / name

    return place
