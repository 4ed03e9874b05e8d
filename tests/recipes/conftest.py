"""A working folder of made-up data, and one whole run of the domain recipe in it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from tests.recipes.made_up import write_working_folder
from toolkit.cli import app
from toolkit.console import log
from toolkit.finetune.cells import InProcess
from toolkit.training import set_num_threads

Command = Callable[..., Result]


@pytest.fixture(scope="session")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, cards and the configuration `tiny.yaml`. Tests give their runs names of their own."""
    folder = tmp_path_factory.mktemp("working-folder")
    write_working_folder(folder)
    return folder


@pytest.fixture(scope="session")
def fewlabel(working_folder: Path) -> Iterator[Command]:
    """The command line, in this process and in `working_folder`."""
    threads = torch.get_num_threads()

    def invoke(*arguments: str) -> Result:
        log.handlers.clear()  # each runner has an error stream of its own
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(working_folder)
            patch.setenv("FEWLABEL_DEBUG", "")
            patch.setenv("FEWLABEL_DATA", str(working_folder / "cache"))
            return CliRunner().invoke(app, arguments)

    yield invoke
    log.handlers.clear()
    set_num_threads(threads)


@pytest.fixture(scope="session")
def whole(fewlabel: Command, working_folder: Path) -> Path:
    """The folder of a run of `recipes/domain.py` that nothing interrupted; what it said is in `whole.log`."""
    folder = working_folder / "runs/whole"
    outcome = fewlabel("run", "domain", "--config", "tiny.yaml", f"output={folder}")
    assert outcome.exit_code == 0, outcome.stderr
    folder.with_suffix(".log").write_text(outcome.output, encoding="utf-8")
    return folder


@pytest.fixture
def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies run in this process. The bits are the same, and a worker takes seconds to start."""
    monkeypatch.setattr("toolkit.finetune.jobs.ProcessPoolExecutor", lambda *_, **__: InProcess())
