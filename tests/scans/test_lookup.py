"""Series that share folders: each folder is looked at once, and nothing is guessed where a file is damaged."""

from pathlib import Path

import numpy as np
import pytest

from toolkit.scans import Preprocessing, build, build_store, lookup, preprocess, read_volume, sources, volumes
from toolkit.scans.lookup import series_files
from toolkit.scans.manifest import content_hash, scan_files

SPEC = Preprocessing(spacing_mm=(1, 1, 1))
NUM_SERIES = 6


@pytest.fixture
def spread(tmp_path: Path, write_series) -> list[str]:
    """Six series whose slices lie in three folders, one of each in a folder, as an archive of numbered folders is."""
    uids = [write_series(tmp_path / "all", [3.0 * number for number in range(3 + n)]) for n in range(NUM_SERIES)]
    for number, path in enumerate(sorted((tmp_path / "all").iterdir())):
        target = tmp_path / "in" / str(number % 3) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return [f"{tmp_path / 'in'}/**#{uid}" for uid in uids]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were handed out to be looked at."""
    files: list[str] = []
    really = lookup.isolated

    def counted(function, tasks, **options):
        files.extend(file for (batch,) in tasks for file in batch)
        return really(function, tasks, **options)

    monkeypatch.setattr(lookup, "isolated", counted)
    return files


def found(paths: list[str]) -> dict[str, list[Path]]:
    return series_files(paths, num_workers=2, timeout_s=60)


def test_each_file_is_looked_at_once(tmp_path: Path, spread: list[str], looked_at: list[str], write_series) -> None:
    alone = f"{tmp_path / 'alone'}#{write_series(tmp_path / 'alone', [0.0, 3.0])}"
    files = found([*spread, alone])
    assert files == {path: sorted(scan_files(path)) for path in spread}
    assert sorted(looked_at) == sorted(map(str, (tmp_path / "in").rglob("*.dcm")))


def test_a_damaged_file_leaves_its_own_series_to_its_reader(tmp_path: Path, spread: list[str]) -> None:
    uid = spread[2].rpartition("#")[2]
    damaged = next(path for path in (tmp_path / "in").rglob("*.dcm") if path.stem.endswith(uid[-6:]))
    damaged.write_bytes(damaged.read_bytes()[:700])
    assert uid.encode() in damaged.read_bytes()
    assert found(spread).keys() == set(spread) - {spread[2]}


@pytest.mark.parametrize("num_series", [1, 2])
def test_a_build_of_few_looks_a_tree_up_once(
    tmp_path: Path, spread: list[str], looked_at: list[str], num_series: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several are looked for before they are read; one alone by its reader, once for both its hash and its voxels."""
    searched: list[Path] = []
    really = volumes.find_series
    monkeypatch.setattr(volumes, "find_series", lambda *place: searched.append(place[0]) or really(*place))
    known = [content_hash(scan_files(path)) for path in spread[:num_series]]
    rows = [f"{path},{number},{known[number]}" for number, path in enumerate(spread[:num_series])]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,subject,content_hash", *rows]))
    searched.clear()
    monkeypatch.setattr(build, "isolated", in_this_process)
    made = build_store(tmp_path / "manifest.csv", SPEC, tmp_path / "store").made
    assert len(made) == num_series
    assert len(searched) == (1 if num_series == 1 else 0)
    assert sorted(looked_at) == ([] if num_series == 1 else sorted(map(str, (tmp_path / "in").rglob("*.dcm"))))


def in_this_process(function, tasks, **_: object):
    return ((number, function(*task)) for number, task in enumerate(tasks))


def test_a_build_asks_each_folder_once(tmp_path: Path, spread: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{path},{number},{content_hash(scan_files(path))}" for number, path in enumerate(spread)]
    (tmp_path / "private").mkdir()
    manifest = tmp_path / "private" / "manifest.csv"
    manifest.write_text("\n".join(["path,subject,content_hash", *rows]))
    asked: list[Path] = []
    really = sources.files_in
    monkeypatch.setattr(sources, "files_in", lambda place: asked.append(place) or really(place))
    built = build_store(manifest, SPEC, tmp_path / "store")
    assert built.refused.empty and len(built.made) == NUM_SERIES
    for path, stored in zip(spread, built.stored, strict=True):
        np.testing.assert_allclose(stored.load().array, preprocess(read_volume(path), SPEC).array, atol=1e-3)
    assert len(asked) == 1
    again = build_store(manifest, SPEC, tmp_path / "store")
    assert again.made.empty and all(again.stored) and len(asked) == 2
    next((tmp_path / "in").rglob("*.dcm")).unlink()
    refused = build_store(manifest, SPEC, tmp_path / "store").refused
    assert len(refused) == 1 and "changed since" in refused["reason"].item()
