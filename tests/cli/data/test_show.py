"""`fewlabel data show` draws what a file, a manifest's row or a store's key names."""

import io
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib import image
from scipy import ndimage
from typer.testing import CliRunner, Result

from toolkit.cli import app
from toolkit.scans import (
    Preprocessing,
    ViewConfig,
    Volume,
    VolumeStore,
    apply_parameters,
    cut_patches,
    pictures,
    preprocess,
    read_volume,
    sample_parameters,
)
from toolkit.scans.views import describe


def show(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "show", *map(str, arguments)])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small ball with texture, 2 mm."""
    array = ndimage.gaussian_filter(np.random.default_rng([3]).random((40, 44, 36)), 2)
    array = (array - array.min() + 0.05) * (np.square(np.indices(array.shape).T - [20, 22, 18]).T.sum(axis=0) < 250)
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def picture(path: Path) -> np.ndarray:
    return image.imread(io.BytesIO(path.read_bytes()))


def test_file_manifest_row_and_stored_key_give_the_same_picture(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(f"path,subject\nelsewhere.nii.gz,a\n{scan},b\n")
    volume = preprocess(read_volume(scan), Preprocessing())
    VolumeStore(tmp_path / "store").put("some-key", volume)
    made = {}
    (tmp_path / "new").mkdir()
    for name, source in {
        "file": scan,
        "row": f"{tmp_path}/manifest.csv#2",
        "key": tmp_path / "store" / "some-key",
    }.items():
        target = tmp_path / "new" / f"{name}.png"
        result = show(source, "--views", 2, "--out", target, "patch_size=16")
        assert result.exit_code == 0, result.output
        made[name] = picture(target)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
    np.testing.assert_array_equal(made["file"], made["row"])
    assert made["file"].shape == made["key"].shape
    assert np.abs(made["file"] - made["key"]).mean() < 2e-3  # stored in 12 bits


def test_columns_are_the_scan_the_crop_and_the_views_of_a_run(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[object, ...]] = []
    draw = pictures.captioned_png
    monkeypatch.setattr(pictures, "captioned_png", lambda *given: (drawn.append(given), draw(*given))[1])
    options = ["patch_size=12", "preprocessing.spacing_mm=[2, 2, 4]", "--at", 11, 12, 7, "--seed", 5, "--sample", 3]
    result = show(scan, "--views", 2, "--out", tmp_path / "views.png", *options)
    assert result.exit_code == 0, result.output
    columns, (low, high), spacing_mm = drawn[0]
    whole = preprocess(read_volume(scan), Preprocessing(spacing_mm=(2, 2, 4)))
    assert spacing_mm == (2, 2, 4) and low.tolist() == [5, 6, 1] and high.tolist() == [17, 18, 13]
    (_, _, shown), (_, nothing, crop), *views = columns
    np.testing.assert_array_equal(shown, whole.array[0])
    assert nothing == []
    np.testing.assert_allclose(crop, cut_patches(whole.array, np.array([[11, 12, 7]]), 12)[0, 0], atol=1e-6)
    for number, (title, words, picture) in enumerate(views):
        p = sample_parameters(ViewConfig(patch_size=12), 5, 0, np.array([3]), number, spacing_mm=(2, 2, 4))
        expected = apply_parameters(whole.array, np.array([[11, 12, 7]]), p, 12)
        np.testing.assert_array_equal(picture, expected[0, 0])
        assert title == f"view {number}" and words == describe(p, 0, 12)


def test_it_reads_views_alone_or_a_recipes_configuration(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "views.yaml").write_text("patch_size: 12\ngamma: 2.0\n")
    (tmp_path / "recipe.yaml").write_text("output: runs/x\nviews: {patch_size: 12, gamma: 2.0}\nseed: 7\n")
    pictures = []
    for name in ("views.yaml", "recipe.yaml"):
        target = tmp_path / f"{name}.png"
        assert show(scan, "--config", tmp_path / name, "--views", 1, "--out", target).exit_code == 0
        pictures.append(picture(target))
    np.testing.assert_array_equal(*pictures)
    show(scan, "--config", tmp_path / "views.yaml", "--views", 1, "--out", target, "gamma_probability=0")
    assert not np.array_equal(picture(target), pictures[0])


def test_it_finds_a_configuration_by_its_name(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `fewlabel run` does: of the working folder first."""
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "views.png"
    (tmp_path / "configs/study").mkdir(parents=True)
    (tmp_path / "configs/study/mine.yaml").write_text("output: runs/x\nviews: {patch_size: 12}\n")
    for arguments in (["--config", "study/mine"], ["patch_size=12"]):
        result = show(scan, "--views", 1, "--out", target, *arguments)
        assert result.exit_code == 0, result.output
        (tmp_path / f"{len(arguments)}.png").write_bytes(target.read_bytes())
    np.testing.assert_array_equal(picture(tmp_path / "2.png"), picture(tmp_path / "1.png"))
    wrong = show(scan, "--config", "study/mein")
    assert wrong.exit_code == 2 and "did you mean 'study/mine'?" in wrong.stderr


def test_seed_epoch_and_sample_choose_the_views(scan: Path, tmp_path: Path) -> None:
    found = []
    for options in ([], ["--seed", 1], ["--epoch", 1], ["--sample", 1], []):
        target = tmp_path / "views.png"
        assert show(scan, "--views", 1, "--out", target, "patch_size=12", *options).exit_code == 0
        found.append(target.read_bytes())
    assert found[0] == found[4] and len(set(found)) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.nii.gz"], "missing.nii.gz: no such scan"),
        (["manifest.csv#3"], "manifest.csv has the rows 1 to 1"),
        (["manifest.csv"], "manifest.csv has the rows 1 to 1"),
        (["scan.nii.gz", "rotation=5"], "views.rotation"),
        (["scan.nii.gz", "gamma=0.5"], "views.gamma"),
        (["scan.nii.gz", "preprocessing.spacing_mm=[0, 1, 1]"], "preprocessing.spacing_mm"),
        (["scan.nii.gz", "--out", "wrong/views.png"], "there is no folder wrong; make it"),
        (["scan.nii.gz", "--at", "5", "500", "5"], "outside the scan"),
        (["store/empty"], "no voxel above 0; --at I J K says where"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("manifest.csv").write_text("path,subject\nscan.nii.gz,a\n")
    VolumeStore("store").put("empty", Volume(np.zeros((1, 9, 9, 9), np.float32), np.eye(4)))
    result = show(*arguments)
    assert result.exit_code in (1, 2)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]
    assert not Path("views.png").exists() and not Path("wrong").exists()
