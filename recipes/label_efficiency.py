"""How many labels does a pretrained encoder save? Every method on the same draws of labels, with intervals.

    fewlabel run label_efficiency --config configs/label_efficiency/heads.yaml

Takes an encoder that `scan_pretrain` or `text_pretrain` saved, and the data cards of the task. An encoder that saw a
test subject is refused. Writes results.csv, summary.csv, comparisons.csv, predictions.parquet and report.html. Each
cell of the study is kept as it is done: cut off, it goes on where it was.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field

from toolkit import load_encoder
from toolkit.cards import data_digest, fetch, load_card
from toolkit.config import RunConfig, Section, main
from toolkit.encoders import encoder_digest
from toolkit.encoders.scan import ScanEncoder
from toolkit.encoders.text import TextEncoder
from toolkit.errors import ConfigError
from toolkit.finetune import StudyConfig, Task, TrainedConfig, atlas_tasks, lineup, run_study, text_tasks
from toolkit.finetune.external import External, external_methods
from toolkit.finetune.jobs import workers
from toolkit.finetune.samples import write_samples
from toolkit.reports import Report, write_report
from toolkit.scans import AtlasTaskConfig, RegisteredScans, read_registered, refuse_pretrained_on
from toolkit.splits import refuse_seen
from toolkit.text import divide_corpora
from toolkit.training import RunFolder, refuse_several_processes, set_num_threads


class LabelEfficiency(Section):
    """What is compared, and how often."""

    task: str = "classification"
    """What is told apart, for the column `task`: "sentiment"."""
    atlas: AtlasTaskConfig = AtlasTaskConfig()
    """Scans: patches of the task."""
    max_test_per_class: int | None = None
    """Texts: the test is thinned at random to so many of each class; all when empty."""
    study: StudyConfig = StudyConfig()
    """Budgets and draws."""
    scratch: TrainedConfig = TrainedConfig()
    """Training from random weights."""
    finetune: TrainedConfig = TrainedConfig(lr=2e-4)
    """Training from the pretrained weights."""
    external: dict[str, External] = Field(default_factory=dict)
    """Public models as reference lines, by the name that the tables give them."""
    allow_seen: bool = False
    """Test on subjects that pretraining saw, to study the leak itself; or an encoder that has no record of what it saw,
    where you know it."""


class Config(LabelEfficiency, RunConfig):
    """The recipe's configuration."""

    encoder: Path
    """The folder `encoder` of a pretraining run."""
    pretraining: str = "ssl"
    """How the encoder was pretrained, for the column of that name."""
    cards: tuple[str, ...]
    """Data cards of the task, the same as in pretraining, so that the same part is held out."""
    write_samples: Path | None = None
    """Only write the samples of the task to this folder, for an encoder that runs elsewhere, and end. What it makes of
    them is a row of the study as `external.NAME.embeddings`."""


@dataclass(frozen=True)
class Result:
    """What was asked, with which encoder; `registered` is there for scans."""

    encoder: ScanEncoder | TextEncoder
    tasks: list[Task]
    folder: RunFolder
    registered: RegisteredScans | None


def run(config: Config, *, report: object = None) -> Result:
    """Builds the tasks, runs what is missing of the study, writes the tables and the page."""
    started = time.monotonic()
    if config.plan:
        raise ConfigError("plan: a study trains many small networks, and is not planned; plan the pretraining")
    refuse_several_processes("label_efficiency")
    num_threads = set_num_threads(config.num_threads)
    encoder = load_encoder(config.encoder)
    if not isinstance(encoder, ScanEncoder | TextEncoder):
        raise ConfigError(f"encoder: {config.encoder} is not one that fewlabel saved; name it under external")
    if isinstance(encoder, ScanEncoder):
        encoder.config.refuse("atlas.patch_size", config.atlas.patch_size)
    cards = [load_card(name) for name in config.cards]
    data = {card.name: data_digest(card) for card in cards} | {"encoder": encoder_digest(config.encoder)}
    public, what = external_methods(config.external, getattr(encoder, "preprocessing", None))
    folder = RunFolder(config.output, config, ignore=("encoder", "write_samples"), data=data | what)
    registered = None
    if isinstance(encoder, ScanEncoder):
        registered = read_registered([(card, fetch(card)) for card in cards], encoder.preprocessing)
        for saved in filter(None, [config.encoder, *(model.saved_encoder for model in config.external.values())]):
            refuse_pretrained_on(saved, registered.seen("test"), allow=config.allow_seen)
        tasks = atlas_tasks(registered, config.atlas)
    else:
        corpora = divide_corpora(cards, config.seed, folder.path.parent / "corpora")
        tasks = text_tasks(corpora, config.task, max_test_per_class=config.max_test_per_class, seed=config.seed)
        for task in tasks:
            refuse_seen(config.encoder, task.test_groups, allow=config.allow_seen)
    if config.write_samples:
        write_samples(tasks, config.write_samples)
        return Result(encoder, tasks, folder, registered)
    methods = [*lineup(encoder, config.pretraining, config.scratch, config.finetune), *public]
    folder.begin()
    with workers(num_threads) as executor:
        run_study(tasks, methods, config.study, folder.path, executor)
    folder.log_timing(f"label-efficiency study: {tasks[0].leg}", time.monotonic() - started)
    tables = [pd.read_csv(folder.path / f"{name}.csv") for name in ("results", "summary", "comparisons")]
    write_report(folder.path / "report.html", Report("Label efficiency", *tables))
    return Result(encoder, tasks, folder, registered)


if __name__ == "__main__":
    main(run, Config)
