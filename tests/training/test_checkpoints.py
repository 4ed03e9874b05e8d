"""A checkpoint is whole or does not exist, and reading one runs no code."""

import errno
import json
import logging
import os
import random
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.errors import CheckpointError, DiskError
from toolkit.training import checkpoints as room
from toolkit.training.checkpoints import FORMAT, Checkpoints


def state(value: float = 0.0) -> dict[str, Any]:
    return {"module": {"weight": torch.full((3, 4), value)}, "optimizer": {"state": {}, "param_groups": []}}


def value(found: tuple[int, dict[str, Any]] | None) -> tuple[int, float]:
    assert found is not None
    return found[0], found[1]["module"]["weight"].unique().item()


def saved(folder: Path, *steps: int, keep: int = 2) -> Checkpoints:
    """Checkpoints whose weights are their step."""
    with Checkpoints(folder, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step))
    return Checkpoints(folder, keep=keep)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fill_disk(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC, files_before: int = 0) -> None:
    written: list[int] = []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > files_before:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)


def test_all_that_a_run_holds_comes_back_bit_for_bit(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    module(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    given = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "bfloat16": torch.randn(7).bfloat16(),
        "queue": torch.arange(6).reshape(2, 3).T,
        "nothing": torch.empty(0, 2),
        "nan": torch.tensor([float("nan"), float("-inf"), -0.0]),
        "torch_random": torch.get_rng_state(),
        "python_random": random.Random(3).getstate(),
        "scaler": {"scale": 65536.0, "growth_tracker": 3, "name": None},
        "queued": [torch.tensor(2), (True, "é", b"x")],
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, given)
        step, found = checkpoints.newest() or (0, {})
    assert step == 7 and found.pop("format") == FORMAT
    assert_same(given, found)
    assert isinstance(found["module"], OrderedDict) and "_metadata" in vars(found["module"])
    module.load_state_dict(found["module"])
    optimizer.load_state_dict(found["optimizer"])


def assert_same(given: Any, found: Any) -> None:
    if isinstance(given, torch.Tensor):
        assert found.dtype == given.dtype and found.shape == given.shape
        assert found.flatten().view(torch.uint8).equal(given.flatten().view(torch.uint8))
    elif isinstance(given, dict):
        assert list(found) == list(given)
        for key in given:
            assert_same(given[key], found[key])
    elif isinstance(given, list | tuple):
        assert type(found) is type(given) and len(found) == len(given)
        for one, other in zip(given, found, strict=True):
            assert_same(one, other)
    else:
        assert found == given and type(found) is type(given)


def test_training_goes_on_while_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds what was true when `save` was called; the writing waits until the tensors were changed."""
    may_write = threading.Event()
    write = room._write_state

    def slow(path: Path, given: dict[str, Any]) -> tuple[str, int]:
        assert may_write.wait(30)
        return write(path, given)

    monkeypatch.setattr(room, "_write_state", slow)
    weight, steps = torch.zeros(5), [torch.tensor(1)]
    given = {"module": {"weight": weight}, "steps": steps, "lr": 0.1}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, given)
        weight += 1
        steps[0] += 1
        steps.append(torch.tensor(9))
        given["lr"] = 0.2
        may_write.set()
        found = (checkpoints.newest() or (0, {}))[1]
    assert found["module"]["weight"].tolist() == [0] * 5
    assert found["steps"] == [torch.tensor(1)] and found["lr"] == 0.1


def test_second_save_does_not_change_the_first_nor_what_was_loaded(tmp_path: Path) -> None:
    """The copy's memory is used again, also by a state whose shapes and keys changed."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        checkpoints.save(1, {"a": torch.zeros(4), "b": [torch.ones(2)]})
        first = (checkpoints.newest() or (0, {}))[1]
        shared = torch.full((4,), 2.0)
        checkpoints.save(2, {"a": shared, "c": shared[:2], "b": [torch.ones(3, dtype=torch.int64), torch.ones(2)]})
        second = (checkpoints.newest() or (0, {}))[1]
        checkpoints.save(3, {"b": torch.zeros(1)})
    assert first["a"].tolist() == [0] * 4 and first["b"][0].tolist() == [1, 1]
    assert second["a"].tolist() == [2] * 4 and second["c"].tolist() == [2, 2]
    assert second["b"][0].dtype == torch.int64 and second["b"][1].tolist() == [1, 1]
    assert set((Checkpoints(tmp_path).newest() or (0, {}))[1]) == {"b", "format"}


@pytest.mark.parametrize("later", [torch.ones(2).bfloat16(), torch.ones(1), torch.ones(3)])
def test_memory_is_used_again_only_where_it_fits(tmp_path: Path, later: torch.Tensor) -> None:
    """Copying into another shape would broadcast, into another type would convert, both without a word."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": torch.zeros(2)})
        checkpoints.save(2, {"a": later})
        found = (checkpoints.newest() or (0, {}))[1]["a"]
    assert found.dtype == later.dtype and found.tolist() == later.tolist()


def test_view_is_saved_without_the_tensor_that_it_is_of(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"row": torch.zeros(1000, 1000)[0]})
    assert checkpoints.record(1)["bytes"] < 20_000


@pytest.mark.parametrize("bad", [np.float64(1), np.zeros(2), Path("x"), {1}])
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, bad: Any) -> None:
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(TypeError, match=r"state\['a'\]\[1\] is a "):
        checkpoints.save(1, {"a": [0, bad]})


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "checkpoints").newest() is None


def test_newest_is_by_number_of_steps(tmp_path: Path) -> None:
    """As names, 100000000 comes before 99999999."""
    checkpoints = saved(tmp_path, 99_999_999, 100_000_000)
    assert value(checkpoints.newest()) == (100_000_000, 100_000_000)
    assert value(checkpoints.newest(num_steps=99_999_999))[0] == 99_999_999
    assert checkpoints.newest(num_steps=5) is None


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20, 30, 40)
    assert files(tmp_path) == ["step-00000030.json", "step-00000030.pt", "step-00000040.json", "step-00000040.pt"]
    saved(tmp_path, 50, keep=1)
    assert files(tmp_path) == ["step-00000050.json", "step-00000050.pt"]


def test_going_back_behind_checkpoints_removes_them_and_not_the_new_one(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20, 30, keep=3)
    assert value(checkpoints.newest(num_steps=15)) == (10, 10)
    with checkpoints:
        checkpoints.save(15, state(15))
    assert value(checkpoints.newest()) == (15, 15) and value(checkpoints.newest(num_steps=14)) == (10, 10)
    assert len(files(tmp_path)) == 4


def test_record_names_code_and_digest(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, code={"fewlabel": "0.1.0", "commit": "abc"}) as checkpoints:
        checkpoints.save(3, state(), background=False)
        record = checkpoints.record(3)
    assert record.pop("sha256").isalnum() and record.pop("bytes") == (tmp_path / "step-00000003.pt").stat().st_size
    assert record == {"format": FORMAT, "step": 3, "code": {"fewlabel": "0.1.0", "commit": "abc"}}


def test_foreground_save_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3), background=False)
        assert value(Checkpoints(tmp_path).newest()) == (3, 3)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def cut_record(path: Path) -> None:
    path.with_suffix(".json").write_text('{"format": 2, "st')


def empty_record(path: Path) -> None:
    path.with_suffix(".json").write_text("[]")


def other_record(path: Path) -> None:
    path.with_suffix(".json").write_bytes(path.with_name("step-00000010.json").read_bytes())


def no_record(path: Path) -> None:
    path.with_suffix(".json").unlink()


def no_data(path: Path) -> None:
    path.unlink()


DAMAGES = {
    flip_byte: "SHA-256",
    cut: "bytes",
    cut_record: "cannot be read",
    empty_record: "cannot be read",
    other_record: "that of step 10",
    no_record: "cut short",
    no_data: "not the file",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_newest_falls_back(tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    damage(tmp_path / "step-00000020.pt")
    before = files(tmp_path)
    with caplog.at_level(logging.WARNING, "fewlabel"):
        assert value(checkpoints.newest()) == (10, 10)
    assert "step-00000020.pt" in caplog.text and DAMAGES[damage] in caplog.text
    assert files(tmp_path) == before, "reading removes nothing"
    with checkpoints:
        checkpoints.save(15, state(15))
    assert [name for name in files(tmp_path) if name.endswith(".pt")] == ["step-00000010.pt", "step-00000015.pt"]


def test_damaged_one_behind_does_not_take_the_place_of_a_good_one(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    flip_byte(tmp_path / "step-00000020.pt")
    checkpoints.newest()
    with checkpoints:
        checkpoints.save(30, state(30))
    flip_byte(tmp_path / "step-00000030.pt")
    assert value(Checkpoints(tmp_path).newest()) == (10, 10)


def test_saving_a_damaged_step_again_repairs_it(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    flip_byte(tmp_path / "step-00000020.pt")
    checkpoints.newest()
    with checkpoints:
        checkpoints.save(20, state(21))
        assert value(checkpoints.newest()) == (20, 21)
        checkpoints.save(30, state(30))
    assert value(checkpoints.newest(num_steps=29)) == (20, 21)


def test_none_whole_names_the_remedy(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    flip_byte(tmp_path / "step-00000010.pt")
    flip_byte(tmp_path / "step-00000020.pt")
    with pytest.raises(CheckpointError, match=r"none of its checkpoints is whole \(step-00000020.pt: .*delete"):
        checkpoints.newest()


def test_a_kill_while_saving_costs_that_save_only(tmp_path: Path) -> None:
    """What SIGKILL leaves at each point of the first save, and of the second."""
    saved(tmp_path / "other", 20)
    data = (tmp_path / "other" / "step-00000020.pt").read_bytes()
    for before in ([], [10]):
        folder = tmp_path / str(len(before))
        checkpoints = saved(folder, *before)
        folder.mkdir(exist_ok=True)
        expected = (10, 10) if before else None
        (folder / ".step-00000020.pt.tmp").write_bytes(data[:1000])
        found = checkpoints.newest()
        assert (value(found) if found else None) == expected
        (folder / ".step-00000020.json.tmp").write_text("{")
        (folder / "step-00000020.pt").write_bytes(data)
        found = checkpoints.newest()
        assert (value(found) if found else None) == expected
        with checkpoints:
            checkpoints.save(30, state(30))
        assert [name for name in files(folder) if "20" in name or "tmp" in name] == []
        assert value(checkpoints.newest()) == (30, 30)


@pytest.mark.parametrize("files_before", [0, 1], ids=["data", "record"])
@pytest.mark.parametrize("surface", ["save", "wait", "newest", "close"])
def test_full_disk_comes_up_and_the_last_good_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surface: str, files_before: int
) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        fill_disk(patch, files_before=files_before)
        checkpoints.save(30, state(30))
        arguments = (40, state(40)) if surface == "save" else ()
        with pytest.raises(DiskError, match=r"the disk is full; the last good checkpoint is step 20; free some space"):
            getattr(checkpoints, surface)(*arguments)
    assert files(tmp_path) == before
    checkpoints.close()
    assert value(Checkpoints(tmp_path).newest()) == (20, 20)


@pytest.mark.parametrize("room_for", [0, 700, 200_000])
def test_disk_that_fills_up_in_the_middle_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room_for: int
) -> None:
    """torch.save turns an error of the file into one of its own; ours says what happened."""
    write = room._HashingFile.write

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: memoryview) -> int:
            if self.file.tell() + len(content) > room_for:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(content))

    def limited(self: Any, content: memoryview) -> int:
        self.file = self.file if isinstance(self.file, Full) else Full(self.file)
        return write(self, content)

    checkpoints = saved(tmp_path, 10)
    before = files(tmp_path)
    monkeypatch.setattr(room._HashingFile, "write", limited)
    with pytest.raises(DiskError, match="last good checkpoint is step 10"):
        checkpoints.save(20, {"weight": torch.zeros(100_000)}, background=False)
    assert files(tmp_path) == before
    monkeypatch.undo()
    with checkpoints:
        checkpoints.save(20, state(20))  # space was freed
    assert value(checkpoints.newest()) == (20, 20)


def test_full_disk_at_the_first_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, errno.EDQUOT)
    with pytest.raises(DiskError, match="full; there is none yet"):
        Checkpoints(tmp_path).save(10, state(), background=False)
    assert files(tmp_path) == []


def test_other_errors_are_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state())
    assert files(tmp_path) == []


def test_error_of_the_run_is_not_hidden_by_that_of_the_last_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill_disk(monkeypatch)

    def run() -> None:
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(10, state())
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert "the disk is full" in caplog.text


def test_format_1_is_read_and_kept_until_two_newer_ones_are_there(tmp_path: Path) -> None:
    """What fewlabel wrote before there were records."""
    torch.save(state(40), tmp_path / "step-00000040.pt")
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.newest()
    assert value(found) == (40, 40)
    assert found is not None and list(found[1]) == ["module", "optimizer", "format"] and found[1]["format"] == FORMAT
    assert checkpoints.record(40) == {"format": 1, "step": 40, "code": {}}
    with checkpoints:
        checkpoints.save(50, state(50))
        assert "step-00000040.pt" in files(tmp_path)
        checkpoints.save(60, state(60))
    assert "step-00000040.pt" not in files(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)])
def test_lone_file_that_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "step-00000040.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="torch cannot load it safely"):
        Checkpoints(tmp_path).newest()


def test_migrations_are_chained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(40), tmp_path / "step-00000040.pt")
    monkeypatch.setattr(room, "FORMAT", 3)
    monkeypatch.setitem(room.MIGRATIONS, 2, lambda old: {**old, "format": 3, "ema": old["module"]})
    found = Checkpoints(tmp_path).newest()
    assert found is not None and found[1]["format"] == 3 and "ema" in found[1]


def test_newer_format_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    record = checkpoints.record(20) | {"format": FORMAT + 1}
    (tmp_path / "step-00000020.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=rf"format {FORMAT + 1}.*upgrade fewlabel"):
        checkpoints.newest()


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("with_record", [False, True])
def test_code_in_a_checkpoint_is_not_run(
    tmp_path: Path, with_record: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = tmp_path / "run", tmp_path / "checkpoints"
    if with_record:  # by someone who can write a right digest too
        monkeypatch.setattr(room, "PLAIN_TYPES", (*room.PLAIN_TYPES, Malicious))
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(10, state() | {"bad": Malicious(target)})
        assert checkpoints.record(10)["bytes"] > 0
    else:
        folder.mkdir()
        torch.save(state() | {"bad": Malicious(target)}, folder / "step-00000010.pt")
    with pytest.raises(CheckpointError, match="cannot load it safely"):
        Checkpoints(folder).newest()
    assert not target.exists()
    assert "weights_only=False" not in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the priority is that of the whole process")
@pytest.mark.parametrize(("before", "after"), [(0, 10), (15, 15)])
def test_the_writing_thread_stands_back_and_never_forward(tmp_path: Path, before: int, after: int) -> None:
    """A run of lower priority may not raise that of a thread: it would have no checkpoint at all."""
    found: list[int] = []

    def run() -> None:  # in a thread of its own: who is no root cannot take its niceness back
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, max(before, os.getpriority(os.PRIO_PROCESS, own)))
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, state())
            found.append(checkpoints._thread.submit(lambda: os.getpriority(os.PRIO_PROCESS, 0)).result())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [max(after, os.getpriority(os.PRIO_PROCESS, 0))]
    assert files(tmp_path) == ["step-00000001.json", "step-00000001.pt"]
