"""DICOM headers: small in memory, no promise taken at its word, and files read only where that tells something."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest

from toolkit.errors import DataError
from toolkit.scans import Volume, dicom, read_volume
from toolkit.scans.cohort import write_series
from toolkit.scans.dicom import DicomHeader, distinct, read_header
from toolkit.scans.reasons import Reason, ScanError


@pytest.fixture
def head(textured: np.ndarray) -> Volume:
    return Volume(1000 * textured[:, :20, :22, :10], np.diag([2.0, 2.0, 3.0, 1.0]))


@pytest.mark.parametrize("multiframe", [False, True])
def test_a_header_survives_json_and_shares_what_slices_have_in_common(
    tmp_path: Path, head: Volume, multiframe: bool
) -> None:
    write_series(head, tmp_path, multiframe=multiframe)
    headers = [read_header(path) for path in sorted(tmp_path.iterdir())]
    again = [DicomHeader.from_plain(json.loads(json.dumps(dataclasses.asdict(header)))) for header in headers]
    assert again == headers
    frames = [frame for header in again for frame in header.frames]
    assert len({id(orientation) for _, orientation, _ in frames}) == 1
    assert len({position for position, _, _ in frames}) == 10


def test_a_thousand_headers_take_a_megabyte(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path)
    plain = json.dumps(dataclasses.asdict(read_header(min(tmp_path.iterdir()))))
    tracemalloc.start()
    headers = []
    for number in range(1000):
        values = json.loads(plain.replace("IM00001.dcm", f"IM{number:05}.dcm"))
        values["sop_uid"] = f"{values['sop_uid'][:-4]}{number:04}"
        values["frames"][0][0][2] = 3.0 * number
        headers.append(DicomHeader.from_plain(values))
    del values
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(headers)) == 1000
    assert num_bytes < 1000 * 1100  # measured: see the floor of what a path, a UID and a position take


def test_frames_without_end_are_refused_before_they_are_counted_out(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path)
    path = min(tmp_path.iterdir())
    data = pydicom.dcmread(path)
    data.NumberOfFrames = 2_000_000_000
    data.save_as(path)
    tracemalloc.start()
    with pytest.raises(ScanError) as caught:
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert caught.value.reason == Reason.TOO_LARGE


def test_only_files_that_may_be_copies_are_compared(tmp_path: Path, head: Volume, monkeypatch) -> None:
    write_series(head, tmp_path)
    compared: list[str] = []
    really = dicom._digest
    monkeypatch.setattr(dicom, "_digest", lambda file: compared.append(Path(file).name) or really(file))
    volume = read_volume(tmp_path)
    assert compared == []
    first = min(tmp_path.iterdir())
    (tmp_path / "copy.dcm").write_bytes(first.read_bytes())
    np.testing.assert_array_equal(read_volume(tmp_path).array, volume.array)
    assert sorted(compared) == [first.name, "copy.dcm"]
    content = bytearray(first.read_bytes())
    content[-1] ^= 1  # other pixels under the same UID: no copy
    (tmp_path / "copy.dcm").write_bytes(content)
    assert len(distinct([header for path in tmp_path.iterdir() if (header := read_header(path))])) == 11
    with pytest.raises(ScanError, match="several slices at one position"):
        read_volume(tmp_path)


def test_a_folder_above_the_series_says_where_they_are(tmp_path: Path, head: Volume) -> None:
    write_series(head, tmp_path / "in" / "a" / "b")
    with pytest.raises(DataError, match=r"in: no DICOM images in this folder; .*in/a/b has some, so name that one"):
        read_volume(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no DICOM images in this folder; check the path$"):
        read_volume(tmp_path / "empty")
