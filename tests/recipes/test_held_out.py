"""Pretraining on one's own scans, and what it refuses to see."""

import json
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest

from tests.recipes.conftest import Command
from tests.recipes.made_up import PATIENT, TEST_SUBJECT
from tests.recipes.test_bad_input import assert_one_line
from toolkit.scans import read_volume
from toolkit.scans.fingerprints import fingerprint
from toolkit.scans.manifest import content_hash
from toolkit.splits.guard import SEEN_FILE

TINY = """
preprocessing: {spacing_mm: [4, 4, 4]}
encoder: {patch_size: 8, width: 4}
views: {patch_size: 8, shift_voxels: 1}
objective: {name: simclr, hidden_dim: 16, projection_dim: 8}
training: {num_steps: 2, batch_size: 8, log_every: 1}
num_threads: 1
"""


@pytest.fixture(scope="module")
def own_scans(working_folder: Path, fewlabel: Command) -> Path:
    """A folder with `own.yaml`, `train.csv` and `test.csv` of three made-up heads."""
    folder, rows = working_folder / "own", []
    folder.mkdir()
    for name in (f"{PATIENT}_1", f"{PATIENT}_2", f"{PATIENT}_mean"):
        path = working_folder / f"heads/{name}.nii.gz"
        about = {"content_hash": content_hash([path]), "fingerprint": fingerprint(read_volume(path))}
        rows.append({"path": str(path), "subject": f"subject {len(rows)}"} | about)
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    manifest, split = str(folder / "manifest.csv"), str(folder / "split")
    assert fewlabel("data", "split", manifest, "--out", split, "--test-share", "0.34").exit_code == 0
    (folder / "own.yaml").write_text(f"output: {folder / 'run'}\nmanifest: {split}/train.csv\n" + TINY)
    return folder


def test_a_run_on_one_side_of_a_split_records_what_it_saw(own_scans: Path, fewlabel: Command) -> None:
    held_out = f"held_out=[{own_scans / 'split/test.csv'}]"
    outcome = fewlabel("run", "scan_pretrain", "--config", str(own_scans / "own.yaml"), held_out)
    assert outcome.exit_code == 0, outcome.stderr
    record = json.loads((own_scans / f"run/encoder/{SEEN_FILE}").read_text())
    assert [len(record[name]) for name in ("subjects", "content_hashes", "fingerprints")] == [2, 2, 2]
    assert PATIENT not in outcome.output + json.dumps(record)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ([], "1 test subject(s) are also in the pretraining data"),
        (["subject"], "1 test scan(s) are in the pretraining data as files (row 2: stranger)"),
        (["subject", "content_hash"], "as near-duplicates (row 2: stranger)"),
    ],
)
def test_a_held_out_scan_is_refused_before_anything_is_stored(
    own_scans: Path, fewlabel: Command, tmp_path: Path, hidden: list[str], message: str
) -> None:
    test, train = (pd.read_csv(own_scans / f"split/{side}.csv", dtype=str) for side in ("test", "train"))
    leaked = train[:1].assign(**dict.fromkeys(hidden, "stranger"))
    pd.concat([test, leaked]).to_csv(tmp_path / "test.csv", index=False)
    arguments = ["run", "scan_pretrain", "--config", str(own_scans / "own.yaml"), f"output={tmp_path / 'run'}"]
    arguments += [f"held_out=[{tmp_path / 'test.csv'}]", f"store={tmp_path / 'store'}"]
    outcome = fewlabel(*arguments)
    assert_one_line(outcome, 1, message)
    assert PATIENT not in outcome.output
    assert not (tmp_path / "store").exists() and not (tmp_path / "run").exists()
    allowed = fewlabel(*arguments, "allow_held_out=true")
    assert allowed.exit_code == 0, allowed.stderr
    assert "allowed, but scores on them are not scores on unseen subjects" in allowed.stderr


def test_a_card_whose_test_head_shows_what_pretraining_saw_is_refused(
    working_folder: Path, fewlabel: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test subject's scan is the pretraining's, under another name and with other bytes."""
    card = working_folder / "data_cards/twice.md"
    text = (working_folder / "data_cards/heads.md").read_text()
    card.write_text(text.replace(f"{PATIENT}_2.nii.gz", "twice.nii.gz"))
    image = nib.load(working_folder / f"heads/{PATIENT}_1.nii.gz")
    brighter = nib.Nifti1Image((image.get_fdata() * 1.1).astype("float32"), image.affine)
    nib.save(brighter, working_folder / "heads/twice.nii.gz")
    (tmp_path / "cards.yaml").write_text(f"output: {tmp_path / 'run'}\ncards: [twice]\n" + TINY)
    try:
        outcome = fewlabel("run", "scan_pretrain", "--config", str(tmp_path / "cards.yaml"))
    finally:
        card.unlink()
        (working_folder / "heads/twice.nii.gz").unlink()
    assert_one_line(outcome, 1, f"as near-duplicates (row 1: {TEST_SUBJECT})")


def test_a_run_does_not_go_on_with_other_label_maps(own_scans: Path, fewlabel: Command, tmp_path: Path) -> None:
    """The table's name stays, and so does the manifest; once the table differs, once a map's bytes."""
    rows = pd.read_csv(own_scans / "split/train.csv", dtype=str)
    for number, path in enumerate(rows["path"]):
        image = nib.load(path)
        nib.save(nib.Nifti1Image((image.get_fdata() > 0).astype("uint8"), image.affine), tmp_path / f"{number}.nii")

    def write(table: Path, maps: list[str]) -> None:
        rows[["path"]].assign(label_map=maps).to_csv(table, index=False)

    table = tmp_path / "maps.csv"
    write(table, ["0.nii", "1.nii"])
    arguments = ["run", "scan_pretrain", "--config", str(own_scans / "own.yaml"), f"output={tmp_path / 'run'}"]
    arguments += [f"store={tmp_path / 'store'}", f"label_maps={table}", "crops.label_share=0.5"]
    for _ in range(2):
        outcome = fewlabel(*arguments)
        assert outcome.exit_code == 0, outcome.stderr
    write(table, ["0.nii", ""])
    assert_one_line(fewlabel(*arguments), 1, "made with other data (label maps changed)")
    write(table, ["0.nii", "1.nii"])
    image = nib.load(tmp_path / "1.nii")
    nib.save(nib.Nifti1Image(2 * image.get_fdata().astype("uint8"), image.affine), tmp_path / "1.nii")
    assert_one_line(fewlabel(*arguments), 1, "made with other data (label maps changed)")
