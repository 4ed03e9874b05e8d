"""`fewlabel data build` finds its configuration as `fewlabel run` does."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.scans import Preprocessing, store_manifest
from toolkit.scans.manifest import content_hash


def test_a_configuration_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nib.save(nib.Nifti1Image(np.random.default_rng([0]).random((9, 8, 7), np.float32), np.eye(4)), "scan.nii")
    pd.DataFrame([{"path": "scan.nii", "subject": "a", "content_hash": content_hash([Path("scan.nii")])}]).to_csv(
        "manifest.csv", index=False
    )
    (tmp_path / "configs/study").mkdir(parents=True)
    Path("configs/study/mine.yaml").write_text("output: runs/x\npreprocessing: {spacing_mm: [1, 1, 1]}\n")
    result = CliRunner().invoke(app, ["data", "build", "manifest.csv", "--config", "study/mine"])
    assert result.exit_code == 0, result.output
    spec = Preprocessing(spacing_mm=(1, 1, 1))
    keys = store_manifest(Path("manifest.csv"), spec, Path("other"))[1]["key"].tolist()
    assert [path.stem for path in Path("store").glob("*.json")] == keys
    wrong = CliRunner().invoke(app, ["data", "build", "manifest.csv", "--config", "study/mein"])
    assert wrong.exit_code == 2 and "did you mean 'study/mine'?" in wrong.stderr
