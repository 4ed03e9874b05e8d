"""What users get wrong ends in one line and an exit code, and costs nothing that was there."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from tests.recipes.conftest import Command
from tests.recipes.made_up import PATIENT, TEST_SUBJECT, TEXTS_CARD
from tests.recipes.test_domain import assert_same_results
from toolkit.splits import record_seen

Contents = Callable[[], dict[Path, tuple[int, bytes]]]


@pytest.fixture
def contents(whole: Path) -> Contents:
    """Every file of the finished run, with its time."""

    def read() -> dict[Path, tuple[int, bytes]]:
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in whole.rglob("*") if path.is_file()}

    return read


@pytest.fixture
def unchanged(contents: Contents) -> Iterator[None]:
    """The finished run is after the test what it was before."""
    before = contents()
    yield
    assert contents() == before


def assert_one_line(outcome: Result, code: int, *parts: str) -> None:
    """One line begins with `error:`, it is the last, and it holds `parts`."""
    assert isinstance(outcome.exception, SystemExit), outcome.exception
    assert outcome.exit_code == code
    lines = outcome.stderr.splitlines()
    assert [number for number, line in enumerate(lines, start=1) if line.startswith("error: ")] == [len(lines)], lines
    assert [part for part in parts if part not in lines[-1]] == [], lines[-1]
    assert "Traceback" not in outcome.output


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("override", "code", "parts"),
    [
        ("scans.pretrain.training.lrr=1", 2, ["scans.pretrain.training.lrr: unknown key", "'lr'"]),
        ("text.pretrain.stages.mlm.training.lrr=1", 2, ["text.pretrain.stages.mlm.training.lrr: unknown key", "'lr'"]),
        ("text.study.study.num_draws=many", 2, ["text.study.study.num_draws", "integer", "> 0", "'many'"]),
        ("scans.pretrain.training.num_steps=0", 2, ["scans.pretrain.training.num_steps", "> 0"]),
        ("scans.pretrain.objective.name=simclear", 2, ["scans.pretrain.objective.name", "'simclr'"]),
        ("scans", 2, ["'scans'", "key.path=value"]),
        ("scans.pretrain.cards=[haeds]", 1, ["'haeds'", "did you mean 'heads'"]),
        ("text.pretrain.cards=[heads]", 1, ["heads"]),
        ("seed=1", 1, ["seed: 0, now 1", "another output folder"]),
        ("scans.pretrain.training.lr=0.5", 1, ["scans.pretrain.training.lr: 0.001, now 0.5"]),
    ],
)
def test_a_wrong_value_never_reaches_a_finished_run(
    override: str, code: int, parts: list[str], whole: Path, fewlabel: Command
) -> None:
    assert_one_line(fewlabel("run", "domain", "--config", "tiny.yaml", f"output={whole}", override), code, *parts)


@pytest.mark.usefixtures("unchanged")
def test_a_missing_configuration(whole: Path, fewlabel: Command) -> None:
    outcome = fewlabel("run", "domain", "--config", "domain/dmeo", f"output={whole}")
    assert_one_line(outcome, 2, "domain/dmeo", "did you mean 'domain/demo'?")
    assert_one_line(
        fewlabel("run", "domain", "--config", "nowhere/tiny.yaml", f"output={whole}"), 2, "nowhere/tiny.yaml"
    )


@pytest.mark.usefixtures("unchanged")
def test_a_truncated_scan(working_folder: Path, fewlabel: Command, tmp_path: Path) -> None:
    scan = working_folder / f"heads/{PATIENT}_2.nii.gz"
    good = scan.read_bytes()
    for size in (len(good) // 2, 100, 0):
        scan.write_bytes(good[:size])
        try:
            outcome = fewlabel("run", "domain", "--config", "tiny.yaml", f"output={tmp_path / str(size)}")
        finally:
            scan.write_bytes(good)
        assert_one_line(outcome, 1, scan.name, "truncated")
        assert not (tmp_path / str(size)).exists()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("study.atlas.patch_size=10", ["scans: study.atlas.patch_size: 10 does not fit", "multiples of 4"]),
        ("pretrain.init={path: a.pth, origin: nnssl}", ["scans: init.origin: nnssl has weights for resenc_unet"]),
        ("pretrain.objective={name: spark}", ["scans.pretrain: objective.name: spark cannot train a vit"]),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused_before_it_is_pretrained(
    override: str, parts: list[str], fewlabel: Command, tmp_path: Path
) -> None:
    vit = "scans.pretrain.encoder={name: vit, patch_size: 8, token_side: 4, hidden_size: 12, num_heads: 2}"
    arguments = (f"output={tmp_path / 'run'}", vit, f"scans.{override}")
    for flags in ([], ["--dry-run"]):
        assert_one_line(fewlabel("run", "domain", "--config", "tiny.yaml", *arguments, *flags), 2, *parts)
    assert not (tmp_path / "run").exists()


def test_an_unknown_language(working_folder: Path, fewlabel: Command) -> None:
    arguments = ("scans=null", "output=runs/language", "text.pretrain.languages=[en, ls]")
    outcome = fewlabel("run", "domain", "--config", "tiny.yaml", *arguments)
    assert_one_line(outcome, 1, "no texts in language 'ls'", "en, sl")
    assert not (working_folder / "runs/language/text/encoder").exists()


@pytest.mark.parametrize(
    "table", ["", "comment,stars,lang,patient\n", "comment,stars,lang,patient\n...,1,en,1\n  ,5,sl,2\n"]
)
def test_an_empty_corpus(table: str, working_folder: Path, fewlabel: Command, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text(table)
    card = tmp_path / "empty.md"
    card.write_text(TEXTS_CARD.replace("../texts", str(tmp_path)))
    arguments = ("scans=null", f"output={tmp_path / 'run'}", f"text.pretrain.cards=[{card}]")
    assert_one_line(fewlabel("run", "domain", "--config", "tiny.yaml", *arguments), 1, "empty")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("leg", ["scans", "text"])
def test_an_encoder_that_saw_test_subjects(leg: str, whole: Path, fewlabel: Command, tmp_path: Path) -> None:
    """The study refuses it, and also one that does not say what it saw."""
    encoder, study = tmp_path / "encoder", tmp_path / "study"
    shutil.copytree(whole / leg / "encoder", encoder)
    own = str(whole / leg / "study/config.yaml")
    arguments = ("run", "label_efficiency", "--config", own, f"encoder={encoder}", f"output={study}")
    subjects = pd.read_parquet(whole / leg / "study/predictions.parquet")["group"].unique().tolist()
    assert leg == "text" or subjects == [TEST_SUBJECT]
    record_seen(encoder, ["somebody", *subjects])
    assert_one_line(fewlabel(*arguments), 1, "test subject(s) are also in the pretraining data")
    (encoder / "pretrained_on.json").unlink()
    anew = (*arguments[:-1], f"output={tmp_path / 'another'}")
    assert_one_line(fewlabel(*anew), 1, "no pretrained_on.json")
    assert not study.exists() and not (tmp_path / "another").exists()


def test_own_texts_that_changed_since_the_run_began(whole: Path, working_folder: Path, fewlabel: Command) -> None:
    """A checkpoint may have seen what is test data now."""
    table = working_folder / "texts/reviews.csv"
    before = table.read_text(encoding="utf-8")
    table.write_text(before + "another,1,en,999\n", encoding="utf-8")
    try:
        assert_one_line(fewlabel("run", "domain", "--config", "tiny.yaml", f"output={whole}"), 1, "texts changed")
    finally:
        table.write_text(before, encoding="utf-8")


def test_no_network(working_folder: Path, fewlabel: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = "{kind: pypi, package: nowhere, version: '1.0', file: nowhere-1.0.zip, sha256: '" + 64 * "0" + "'}"
    card = tmp_path / "remote.md"
    card.write_text(TEXTS_CARD.replace("{kind: path, path: ../texts}", source))
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # the discard port: nobody listens
    }.items():
        monkeypatch.setenv(name, value)
    arguments = ("scans=null", f"output={tmp_path / 'run'}", f"text.pretrain.cards=[{card}]")
    outcome = fewlabel("run", "domain", "--config", "tiny.yaml", *arguments)
    assert_one_line(outcome, 1, "remote: nowhere-1.0.zip", "check the network")
    cached = (path.relative_to(working_folder / "cache") for path in (working_folder / "cache").rglob("*"))
    assert [path for path in cached if path.parts[0] != "store" and not path.name.startswith(".")] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives a file system of so many KiB, which keeps what it holds when it is asked for again with more."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(kibibytes: int) -> Path:
        options = f"remount,size={kibibytes}k" if place.is_mount() else f"size={kibibytes}k"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"only root may mount: {mounted.stderr.strip()}")
        return place

    try:
        yield resize
    finally:
        if place.is_mount():
            subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.usefixtures("without_workers")
def test_a_full_disk(whole: Path, fewlabel: Command, small_disk: Callable[[int], Path]) -> None:
    """The disk fills up at one place after another, is made a little larger each time, and nothing is lost."""
    refused = set()
    for kibibytes in range(16, 10_000, 240):
        folder = small_disk(kibibytes) / "run"
        outcome = fewlabel("run", "domain", "--config", "tiny.yaml", f"output={folder}")
        if outcome.exit_code == 0:
            break
        assert_one_line(outcome, 1, "ree ", "space")
        line = outcome.stderr.splitlines()[-1]
        assert "disk is full" in line or "No space left on device" in line, line
        refused.add(line)
    assert len(refused) >= 3
    assert_same_results(folder, whole)
