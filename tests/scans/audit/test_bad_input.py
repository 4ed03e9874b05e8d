"""Two hundred damaged files among fifty good ones, and everything else that should not lie in a folder of scans."""

import gzip
import os
import re
import socket
import time
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.errors import DataError
from toolkit.scans import Volume, read_volume
from toolkit.scans.audit import AuditConfig, audit_folder
from toolkit.scans.audit.look import look
from toolkit.scans.audit.walk import walk
from toolkit.scans.cohort import write_nifti, write_series
from toolkit.scans.dicom import folders_below
from toolkit.scans.isolated import Lost, isolated
from toolkit.scans.manifest import content_hash, scan_files
from toolkit.scans.reasons import Reason

NUM_GOOD, NUM_DAMAGED = 50, 200
KINDS = ("frames", "slices", "nii", "nii.gz", "nrrd", "packed.nrrd")


@dataclass(frozen=True)
class Damage:
    path: Path
    kind: str
    how: str
    may_hide: bool  # only where nothing in the file says it twice: no reader could see it


def write(kind: str, volume: Volume, folder: Path, number: int) -> Path:
    """One scan; returns the file that may be damaged."""
    name = f"scan{number:03d}"
    if kind in ("frames", "slices"):
        tags = {"PatientID": name, "SeriesNumber": number}
        write_series(volume, folder / name, tags=tags, multiframe=kind == "frames", seed=number)
        if number % 4 < 2:  # as scanners name them
            for path in (folder / name).iterdir():
                path.rename(path.with_suffix(""))
        return sorted((folder / name).iterdir())[-1 if kind == "frames" else 4]
    path = folder / f"{name}.{kind}"
    if kind.startswith("nii"):
        write_nifti(volume, path)
        return path
    image = sitk.GetImageFromArray(volume.array[0].transpose(2, 1, 0))
    sitk.WriteImage(image, path, useCompression=kind.startswith("packed"))
    return path


def voxels_start(path: Path, kind: str) -> int:
    content = path.read_bytes()
    if kind == "nii":
        return 352
    if kind == "nii.gz":
        return 10  # gzip's own header, of which four bytes are a time, two hint at speed and system
    if kind.endswith("nrrd"):
        return content.index(b"\n\n") + 2
    return len(content) - len(pydicom.dcmread(path).PixelData)


@pytest.fixture
def damaged(tmp_path: Path, textured: np.ndarray) -> list[Damage]:
    """The seeded script: kinds in turn, half of the damaged files cut, half with one to three bits flipped."""
    rng = np.random.default_rng([2026])
    found = []
    for number in range(NUM_GOOD + NUM_DAMAGED):
        kind = KINDS[number % len(KINDS)]
        array = textured[:, :12, :14, :9] * 1000 + rng.random((1, 12, 14, 9), np.float32)
        path = write(kind, Volume(array, np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "in", number)
        if number < NUM_GOOD:
            continue
        content, start = bytearray(path.read_bytes()), voxels_start(path, kind)
        if rng.random() < 0.5:
            path.write_bytes(content[: int(rng.integers(0, len(content)))])
            found.append(Damage(path, kind, "cut", may_hide=False))
            continue
        places = rng.integers(0, len(content), rng.integers(1, 4))
        for place in places:
            content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        is_packed = kind in ("nii.gz", "packed.nrrd")
        found.append(Damage(path, kind, "flipped", may_hide=not is_packed or bool((places < start).all())))
    return found


def test_every_good_file_is_kept_and_every_visible_damage_is_listed(tmp_path: Path, damaged: list[Damage]) -> None:
    outcome = CliRunner().invoke(app, ["data", "audit", str(tmp_path / "in"), "--out", str(tmp_path / "private")])
    assert outcome.exit_code == 3, outcome.output
    found = audit_folder(tmp_path / "in", tmp_path / "private")  # again, from memory
    kept = set(found.manifest.path.str.partition("#")[0])
    suffixes = ["" if kind in ("frames", "slices") else f".{kind}" for kind in KINDS]
    good = {str(tmp_path / "in" / f"scan{n:03d}{suffixes[n % len(KINDS)]}") for n in range(NUM_GOOD)}
    assert good <= kept
    hidden = Counter()
    for damage in damaged:
        place = damage.path.parent if damage.kind in ("frames", "slices") else damage.path
        names = [path for path in found.refused.path if path.partition("#")[0] in (str(damage.path), str(place))]
        if str(place) in kept:
            assert damage.may_hide, f"{damage} was not seen"
            hidden[damage.kind] += 1
        else:
            assert names, f"{damage} is neither kept nor refused"
    assert set(found.refused.kind) <= {str(reason) for reason in Reason}
    # Bits of plain voxels, of texts and of numbers that stand only once: 55 of the 200, and none in packed files.
    assert sum(hidden.values()) <= 60
    assert not hidden.keys() & {"nii.gz", "packed.nrrd"}


@pytest.mark.parametrize("name", ["IM_0001", "IM.0001", "1.2.3", "IM_0001.dcm", "IM_0001.ima"])
@pytest.mark.parametrize("damage", ["flipped", "overwritten", "cut"])
def test_a_file_that_was_dicom_is_refused_wherever_it_lies(
    tmp_path: Path, dicom, head: Volume, name: str, damage: str
) -> None:
    dicom("good")
    path = next(dicom("alone", multiframe=True).iterdir()).rename(tmp_path / "in" / "alone" / name)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[129] ^= 4  # of "DICM"
    elif damage == "overwritten":
        content[:140] = b"\xff" * 140
    else:
        del content[100:]
    path.write_bytes(content)
    for other, text in (("README", b"conforms to 1.2.840.10008"), ("notes", b"text"), ("code.py", b"1.2.840.10008.1")):
        (tmp_path / "in" / other).write_bytes(text)
    found = audit_folder(tmp_path / "in", tmp_path / "private")
    assert [(Path(row.path).name, row.kind) for row in found.refused.itertuples()] == [(name, "unreadable")]


@pytest.fixture
def odd(tmp_path: Path, nifti, head: Volume) -> Path:
    """A good scan, and around it what crashes or hangs other readers."""
    folder = nifti("sub-1/good.nii.gz").parent.parent
    (folder / "empty.nii.gz").touch()
    (folder / "EMPTY0001").touch()
    (folder / "x.nii.gz").mkdir()
    (folder / "x.nii.gz" / "inside.txt").write_text("text")
    (folder / "loop").symlink_to(folder)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "gone.nii").symlink_to(folder / "nowhere.nii")
    (tmp_path / "secret.nii").write_bytes((folder / "sub-1" / "good.nii.gz").read_bytes())
    (folder / "outside.nii").symlink_to(tmp_path / "secret.nii")
    (folder / "again.nii.gz").symlink_to(folder / "sub-1" / "good.nii.gz")
    with zipfile.ZipFile(folder / "slip.zip", "w") as archive:
        archive.writestr("../../escaped.nii", "evil")
    os.mkfifo(folder / "pipe.nii")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.dcm"))
    data = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).to_bytes()
    huge = bytearray(data)
    huge[40:48] = np.array([3, 4000, 4000, 3000], "<i2").tobytes()
    (folder / "huge.nii").write_bytes(huge)
    (folder / "huge.nii.gz").write_bytes(gzip.compress(huge))
    (folder / "bomb.nii.gz").write_bytes(_bomb(data))
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.nii")).write_bytes(data)
    write_nifti(Volume(head.array * 3, head.affine), folder / "C:\\Users\\DOE\\scan 1.nii")
    write_nifti(Volume(head.array * 4, head.affine), folder / "CON .. & ;$(x) '\"\n.nii")
    (folder / "not.dcm").write_bytes(b"no DICOM")
    (folder / "old.mgz").write_bytes(b"1234")
    (folder / "notes.txt").write_text("not a scan, and not listed")
    return folder


def _bomb(head: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(head) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(3)) + packer.flush()


def test_odd_things_are_refused_by_name_and_harm_nothing(tmp_path: Path, odd: Path) -> None:
    found = audit_folder(odd, tmp_path / "private", AuditConfig(num_workers=2))
    assert sorted(Path(path).name for path in found.manifest.path) == sorted(
        ["good.nii.gz", "C:\\Users\\DOE\\scan 1.nii", "CON .. & ;$(x) '\"\n.nii"]
    )
    kinds = {Path(path).name: kind for path, kind in zip(found.refused.path, found.refused.kind, strict=True)}
    assert kinds == {
        "empty.nii.gz": "truncated",
        "EMPTY0001": "truncated",
        "x.nii.gz": "not a file",
        "loop": "symlink loop",
        "circle": "symlink loop",
        "gone.nii": "broken link",
        "outside.nii": "outside the folder",
        "again.nii.gz": "duplicate",
        "slip.zip": "archive",
        "pipe.nii": "not a file",
        "s.dcm": "not a file",
        "huge.nii": "too large",
        "huge.nii.gz": "too large",
        "bomb.nii.gz": "inconsistent header",
        "caf\\xe9.nii": "file name",
        "not.dcm": "unreadable",
        "old.mgz": "unsupported format",
    }
    assert not list(tmp_path.rglob("escaped.nii"))
    for row in found.manifest.itertuples():
        assert read_volume(row.path).shape


@pytest.fixture
def manifest_of(tmp_path: Path):
    """Lists scans as somebody may who ran no audit: bytes and content hash agree, whatever the bytes are."""

    def write_manifest(paths: list[Path]) -> Path:
        rows = []
        for number, path in enumerate(paths):
            try:
                known = content_hash(scan_files(str(path)))
            except (DataError, OSError):
                known = "0" * 64
            rows.append({"path": str(path), "subject": f"s{number}", "content_hash": known})
        (tmp_path / "private").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_csv(tmp_path / "private" / "manifest.csv", index=False)
        return tmp_path / "private" / "manifest.csv"

    return write_manifest


def build(manifest: Path, code: int) -> tuple[set[str], dict[str, str]]:
    """Scans that `fewlabel data build` stored, and why it refused the others."""
    outcome = CliRunner().invoke(app, ["data", "build", str(manifest), "spacing_mm=[2,2,3]", "--workers", "2"])
    assert outcome.exit_code == code, outcome.output
    refused = pd.read_csv(manifest.parent / "build_refused.csv")
    reasons = dict(zip(refused["path"], refused["reason"], strict=True))
    listed = set(pd.read_csv(manifest)["path"])
    assert reasons.keys() <= listed
    assert f"{len(listed - reasons.keys())} scans" in outcome.output
    return listed - reasons.keys(), reasons


def test_a_build_keeps_every_good_scan_and_lists_every_visible_damage(
    tmp_path: Path, damaged: list[Damage], manifest_of
) -> None:
    scans = sorted((tmp_path / "in").iterdir())
    stored, reasons = build(manifest_of(scans), 3)
    of_scan = {str(d.path.parent if d.kind in ("frames", "slices") else d.path): d for d in damaged}
    good = {str(path) for path in scans} - of_scan.keys()
    assert len(good) == NUM_GOOD and good <= stored
    for path in stored - good:
        assert of_scan[path].may_hide, f"{of_scan[path]} was not seen"
    assert len(stored - good) <= 60
    known = re.compile("|".join(f"{reason}: " for reason in Reason) + "|in one folder|no such scan|no DICOM images")
    assert [reason for reason in reasons.values() if not known.search(reason)] == []
    assert [reason for reason in reasons.values() if "; " not in reason] == []  # each says what to do


def test_damage_that_comes_after_the_audit_is_refused_too(tmp_path: Path, nifti, dicom, damaged_later) -> None:
    outcome = CliRunner().invoke(app, ["data", "audit", str(tmp_path / "in"), "--out", str(tmp_path / "private")])
    assert outcome.exit_code == 0, outcome.output
    names = damaged_later()
    stored, reasons = build(tmp_path / "private" / "manifest.csv", 3)
    assert {Path(path.partition("#")[0]).name for path in reasons} == names
    assert len(stored) == 4


@pytest.fixture
def damaged_later(tmp_path: Path, nifti, dicom):
    """Eight scans, and what becomes of four of them."""
    for name in "abcd":
        nifti(f"{name}.nii.gz")
        dicom(f"{name}", SeriesDescription=name, PatientID=name)

    def damage() -> set[str]:
        folder = tmp_path / "in"
        (folder / "a.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:-7])
        (folder / "b.nii.gz").write_bytes(b"")
        (folder / "c.nii.gz").unlink()
        os.mkfifo(folder / "c.nii.gz")
        slices = sorted((folder / "d").iterdir())
        slices[3].write_bytes(slices[3].read_bytes()[:-40])
        return {"a.nii.gz", "b.nii.gz", "c.nii.gz", "d"}

    return damage


def test_odd_things_in_a_manifest_are_refused_one_by_one(tmp_path: Path, odd: Path, manifest_of) -> None:
    paths = [path for path in sorted(odd.iterdir()) if "\udce9" not in path.name and path.name != "sub-1"]
    link = odd / "link.nrrd"
    link.write_text("NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: ../secret.nii\n\n")
    stored, reasons = build(manifest_of([odd / "sub-1" / "good.nii.gz", link, *paths, odd / "gone.nii.gz"]), 3)
    assert {Path(path).name for path in stored} == {
        "good.nii.gz", "again.nii.gz", "outside.nii", "C:\\Users\\DOE\\scan 1.nii", "CON .. & ;$(x) '\"\n.nii"
    }  # fmt: skip
    assert len(stored) + len(reasons) == len(paths) + 3
    assert "outside the folder" in reasons[str(link)]
    for name, said in (("huge.nii", "too large"), ("bomb.nii.gz", "inconsistent header"), ("pipe.nii", "no such scan")):
        assert said in reasons[str(odd / name)]
    assert not list(tmp_path.rglob("escaped.nii"))


def test_a_tree_may_be_deeper_than_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    Path("scan.nii").touch()
    monkeypatch.chdir(tmp_path)
    deepest = "/".join(["d"] * 1200)
    try:
        assert walk(Path(), Path("private")).volumes == [Path(deepest, "scan.nii")]
        assert sum(1 for _ in folders_below(Path())) == 1201
    finally:
        os.unlink(f"{deepest}/scan.nii")
        os.removedirs(deepest)


def test_what_may_not_be_read_is_listed(tmp_path: Path, nifti, monkeypatch: pytest.MonkeyPatch) -> None:
    nifti("closed.nii").chmod(0)
    (tmp_path / "in" / "shut").mkdir(mode=0)
    monkeypatch.chdir(tmp_path / "in")  # a relative path: others may not pass through pytest's own folders
    os.chmod(".", 0o755)
    user = os.geteuid()
    if user == 0:  # root may read everything
        os.seteuid(65534)
    try:
        assert [error.reason for error in walk(Path(), Path("private")).refused] == [Reason.NO_PERMISSION]
        assert look([(["closed.nii"], "closed.nii")])[0]["refused"][0] == Reason.NO_PERMISSION
    finally:
        os.seteuid(user)
        os.chmod("shut", 0o700)


def _crash(how: str) -> str:
    """What a broken decoder may do to its process."""
    if how == "segfault":
        os.kill(os.getpid(), 11)
    if how == "hang":
        time.sleep(60)
    if how == "exit":
        os._exit(3)
    if how == "eat":
        return str(len(np.ones(1 << 36, np.uint8)))
    return how


def test_a_crash_a_hang_or_a_blow_up_costs_its_own_file_only() -> None:
    tasks = [("segfault",), ("fine",), ("hang",), ("exit",), ("eat",), ("also fine",)]
    found = dict(isolated(_crash, tasks, num_workers=2, timeout_s=2))
    assert [result.reason if isinstance(result, Lost) else result for _, result in sorted(found.items())] == [
        Reason.CRASH,
        "fine",
        Reason.TOO_SLOW,
        Reason.CRASH,
        Reason.TOO_LARGE,
        "also fine",
    ]


def test_a_folder_without_a_usable_scan_is_an_error_but_its_refusals_are_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii").write_bytes(b"")
    with pytest.raises(DataError, match="no usable scan"):
        audit_folder(tmp_path / "in", tmp_path / "private")
    assert "a.nii,truncated: " in (tmp_path / "private" / "refused.csv").read_text()
    with pytest.raises(DataError, match="no such folder"):
        audit_folder(tmp_path / "gone", tmp_path / "private")


def test_a_look_never_raises(tmp_path: Path) -> None:
    assert look([(["/nowhere.nii"], "/nowhere.nii")])[0]["refused"][0] == Reason.UNREADABLE
