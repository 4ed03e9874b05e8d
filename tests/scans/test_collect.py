"""From a manifest to a store: every row is the scan that it says it is."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from toolkit.errors import DataError
from toolkit.scans import Preprocessing, build_manifest, store_manifest

SPEC = Preprocessing(spacing_mm=(1, 1, 1))


def save(path: Path, *shape: int, seed: int = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.random.default_rng([seed]).random(shape, np.float32), np.eye(4)), path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a", "b")):
        save(tmp_path / "scans" / f"{name}.nii", 6, 7, 8, seed=seed)
    build_manifest(tmp_path / "scans", tmp_path / "private")
    return tmp_path / "private" / "manifest.csv"


def test_each_row_has_a_volume_of_its_own(manifest: Path, tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "scans" / "dicom", [0.0, 3.0, 6.0])
    build_manifest(tmp_path / "scans", tmp_path / "private")
    stored, subjects = store_manifest(manifest, SPEC, tmp_path / "store", channels=1)
    assert len({scan.values.tobytes() for scan in stored}) == len(set(subjects)) == 3


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 64])
def test_a_row_without_a_content_hash_is_refused(manifest: Path, tmp_path: Path, wrong: str) -> None:
    pd.read_csv(manifest).assign(content_hash=wrong).to_csv(manifest, index=False)
    with pytest.raises(DataError, match=r"manifest\.csv: row 1: content_hash is .* 64 hex digits; `fewlabel init"):
        store_manifest(manifest, SPEC, tmp_path / "store")


def test_a_scan_that_changed_is_refused_and_not_stored(manifest: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "b.nii", 6, 7, 8, seed=5)
    with pytest.raises(DataError, match=r"row 2: .*b\.nii changed since the manifest was written"):
        store_manifest(manifest, SPEC, tmp_path / "store")
    assert len(list((tmp_path / "store").glob("*.json"))) == 1


def test_scans_have_as_many_channels_as_the_encoder_takes(manifest: Path, tmp_path: Path) -> None:
    save(tmp_path / "scans" / "c.nii", 6, 7, 8, 3)
    build_manifest(tmp_path / "scans", tmp_path / "private")
    with pytest.raises(DataError, match=r"row 3: the scan has 3 channels where 1 are wanted; a 4-D file"):
        store_manifest(manifest, SPEC, tmp_path / "store")
    pd.read_csv(manifest).tail(1).to_csv(manifest, index=False)
    assert store_manifest(manifest, SPEC, tmp_path / "store")[0][0].values.shape[0] == 3
    with pytest.raises(DataError, match="row 1: the scan has 3 channels where 1 are wanted"):  # stored already
        store_manifest(manifest, SPEC, tmp_path / "store", channels=1)
