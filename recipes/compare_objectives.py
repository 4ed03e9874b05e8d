"""Which way of pretraining needs the fewest labels? Methods around one encoder, ranked on a brain that none has seen.

    fewlabel run compare_objectives --config configs/compare_objectives/demo.yaml

Within a group all methods get the same encoder, views, seed and number of samples. `scan_pretrain` pretrains each in a
process of its own, so that its memory can be told; then one study probes all on the same draws of labels. The run
folder gets ranking.csv, ranking.md, the study's tables, report.html and GROUP/METHOD/encoder. What is done is kept.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field, model_validator

from toolkit import load_encoder
from toolkit.assets import load_recipe, run_recipe
from toolkit.cards import data_digest, fetch, load_card, without_folders
from toolkit.config import RunConfig, Section, main, to_yaml, validate
from toolkit.console import log
from toolkit.encoders.networks import NETWORKS
from toolkit.encoders.networks import config_union as network_union
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import ConfigError, TrainingError
from toolkit.files import write_atomically
from toolkit.finetune import FrozenEncoder, Task, atlas_tasks, join_tables, lineup, rank, run_study
from toolkit.finetune.external import external_methods
from toolkit.finetune.jobs import workers
from toolkit.finetune.methods import FeatureMethod
from toolkit.objectives import OBJECTIVES, build_objective, config_union
from toolkit.registry import nearest
from toolkit.reports import Pretraining, Report, ranking_markdown, read_metrics, write_report
from toolkit.scans import read_registered, refuse_pretrained_on
from toolkit.training import RunFolder, TrainingConfig, preflight, refuse_several_processes, set_num_threads
from toolkit.training.facts import training_facts

CAVEAT = "Each method was pretrained once: intervals do not say how another seed would move it."
scan_pretrain, label_efficiency = map(load_recipe, ("scan_pretrain", "label_efficiency"))


class Group(Section):
    """Methods around one encoder."""

    encoder: network_union() = ScanEncoderConfig()  # type: ignore[valid-type]
    """The network."""
    objectives: tuple[config_union("scans"), ...] = ()  # type: ignore[valid-type]
    """The methods; when empty all that this network allows, as they are by default."""
    training: TrainingConfig = TrainingConfig()
    """How long and how fast; the same for all."""
    lr: dict[str, float] = Field(default_factory=dict)
    """By method: a rate in place of `training.lr`, where one is known to want another."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        names = [objective.name for objective in self.objectives]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"objectives: {twice[0]} comes more than once, and a method has one row; give each setting a group of "
                "its own"
            )
        return self


class Config(RunConfig):
    """The recipe's configuration."""

    pretrain: scan_pretrain.Pretraining
    """What all learn from: cards, preprocessing, crops, views. Encoder, objective and training are the groups'."""
    groups: dict[str, Group] = Field(min_length=1)
    """By name. Methods of different groups are ranked apart."""
    study: label_efficiency.LabelEfficiency = label_efficiency.LabelEfficiency()
    """Patches, budgets and draws."""

    @model_validator(mode="after")
    def _each_can_be_run(self) -> Self:
        if not self.pretrain.cards:
            raise ValueError("pretrain.cards: give some; the comparison takes registered scans with an atlas")
        for name, group in self.groups.items():
            group.encoder.refuse(f"groups.{name}: study.atlas.patch_size", self.study.atlas.patch_size)
            methods = [one.method for one in self.runs(name)]
            for unknown in (method for method in group.lr if method not in methods):
                raise ValueError(
                    f"groups.{name}.lr.{unknown}: no such method in this group; {nearest(unknown, methods)}"
                )
        return self

    def runs(self, name: str) -> list[scan_pretrain.Config]:
        """A configuration of scan_pretrain for each method of a group."""
        group, common = self.groups[name], {field: getattr(self, field) for field in RunConfig.model_fields}
        family = NETWORKS.get(group.encoder.name).family
        scans = [cls for cls in map(OBJECTIVES.get, OBJECTIVES) if cls.modality == "scans"]
        fitting = [cls.Config() for cls in scans if family in (cls.families or [family])]
        runs = []
        for objective in group.objectives or fitting:
            method = objective.name
            training = group.training.model_copy(update={"lr": group.lr.get(method, group.training.lr)})
            values = {"encoder": group.encoder, "objective": objective, "training": training}
            values |= {"output": self.output / name / method}
            values = dict(self.pretrain) | common | values
            runs.append(validate(values, scan_pretrain.Config, f"groups.{name}.{method}"))
        return runs


def run(config: Config, *, report: object = None) -> RunFolder:
    """Pretrains what is missing, probes all, ranks them and writes the page."""
    started = time.monotonic()
    refuse_several_processes("compare_objectives")
    if config.plan:
        raise ConfigError("plan: plan one of the pretrainings, with scan_pretrain; the comparison takes many runs")
    num_threads = set_num_threads(config.num_threads)
    runs = {name: config.runs(name) for name in config.groups}
    for one in (one for group in runs.values() for one in group):  # before the first of them begins
        encoder = ScanEncoder(one.encoder, one.preprocessing).untrained(one.seed)
        sides = (one.views.patch_size,) * 3
        preflight(one.training, one.trackers, build_objective(one.objective, encoder, sides=sides))
    public, what = external_methods(config.study.external, config.pretrain.preprocessing)
    cards = [load_card(name) for name in config.pretrain.cards]
    folder = RunFolder(config.output, config, data={card.name: data_digest(card) for card in cards} | what)
    for one in (one for group in runs.values() for one in group if is_done(one)):
        one.folder()  # refuses what was pretrained with other values: the rest would be compared with it
    failed = {one.output: reason for group in runs.values() for one in group if (reason := pretrained(one))}
    folder.begin()
    registered = read_registered([(card, fetch(card)) for card in cards], config.pretrain.preprocessing)
    facts, pages = [], []
    for name, group in runs.items():
        done = {one.method: one.output for one in group if one.output not in failed}
        if not done:
            raise TrainingError(f"groups.{name}: no method came to its end; the first: {failed[group[0].output]}")
        others = (model.saved_encoder for model in config.study.external.values())
        for saved in filter(None, [*(path / "encoder" for path in done.values()), *others]):
            refuse_pretrained_on(saved, registered.seen("test"), allow=config.study.allow_seen)
        task = f"{config.study.task}, {name}"
        tasks = [replace(one, name=task) for one in atlas_tasks(registered, config.study.atlas)]
        probe_all(config, done, public, tasks, config.output / name / "study", num_threads)
        for one in group:
            took = training_facts(one.output, failed.get(one.output))
            facts.append({"task": task, "pretraining": one.method} | took)
            if one.output not in failed:
                pages.append(Pretraining(f"{name}: {one.method}", read_metrics(one.output / "metrics.jsonl")))

    join_tables([config.output / name / "study" for name in runs], config.output)
    tables = [pd.read_csv(config.output / f"{table}.csv") for table in ("results", "summary", "comparisons")]
    ranking = rank(tables[0], pd.DataFrame(facts))
    write_atomically(config.output / "ranking.csv", ranking.to_csv(index=False, lineterminator="\n").encode())
    write_atomically(config.output / "ranking.md", ranking_markdown(ranking).encode())
    folder.log_timing("comparison", time.monotonic() - started)
    about = {"config": to_yaml(without_folders(config)), "provenance": folder.provenance, "caveats": [CAVEAT]}
    page = Report("Which pretraining?", *tables, ranking=ranking, pretrainings=pages, **about)
    log.info("the page: %s", write_report(config.output / "report.html", page))
    return folder


def is_done(one) -> bool:  # type: ignore[no-untyped-def]
    """Whether a method's encoder is there, and may be kept."""
    return not one.force and (one.output / "encoder").is_dir()


def pretrained(one) -> str | None:  # type: ignore[no-untyped-def]
    """Pretrains a method in a process of its own, if that is not done; why it came to no end, if it did not."""
    if is_done(one):
        return None
    log.info("%s: begins, or goes on", one.output)
    try:
        with workers(1) as process:
            process.submit(run_recipe, "scan_pretrain", one.model_dump(mode="json")).result()
    except TrainingError as error:
        log.warning("%s: %s", one.output, error)
        return str(error)
    return None


def probe_all(
    config: Config,
    paths: Mapping[str, Path],
    public: Sequence[FeatureMethod],
    tasks: list[Task],
    folder: Path,
    num_threads: int,
) -> None:
    """Probes all encoders of a group, public ones and the baselines, on the same draws."""
    encoders = {method: load_encoder(path / "encoder") for method, path in paths.items()}
    first, encoder = next(iter(encoders.items()))
    baselines = lineup(encoder, first, config.study.scratch, config.study.finetune)
    methods = [method for method in baselines if method.pretraining != first]
    methods += [FrozenEncoder(encoder, method) for method, encoder in encoders.items()]
    methods += public
    with workers(num_threads) as executor:
        run_study(tasks, methods, config.study.study, folder, executor)


if __name__ == "__main__":
    main(run, Config)
