"""Pretrain a 3D encoder on unlabelled scans.

    fewlabel run scan_pretrain --config configs/scan_pretrain/heads.yaml

Scans are brought to one spacing and intensity scale once and stored; each step cuts patches out of them, makes two
views of each, and the objective learns what both have in common. The run folder gets `encoder/`, with the
preprocessing inside, which `toolkit.load_encoder` opens.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import model_validator

from toolkit.cards import load_card, write_model_card
from toolkit.config import RunConfig, main
from toolkit.console import log
from toolkit.encoders import save_encoder
from toolkit.encoders.checkpoints import Init, initialise, key_map
from toolkit.encoders.checkpoints.files import file_digest
from toolkit.encoders.networks import NETWORKS
from toolkit.encoders.networks import config_union as network_union
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig, refuse_other_voxels
from toolkit.finetune import LabelledScans, OnlineProbe, ScanVote, atlas_tasks
from toolkit.objectives import build_objective, config_union, refuse_family
from toolkit.objectives.simclr import SimCLRConfig
from toolkit.scans import (
    AtlasTaskConfig,
    PairConfig,
    PatchBatches,
    PretrainingScans,
    SameCrop,
    ViewConfig,
    read_manifest,
)
from toolkit.training import (
    RunFolder,
    TrainingConfig,
    fit,
    is_main_process,
    main_process_first,
    peak_memory_gb,
    preflight,
    set_num_threads,
)


class Pretraining(PretrainingScans):
    """What to learn from (see `PretrainingScans`), and how."""

    pairs: PairConfig = SameCrop()
    views: ViewConfig = ViewConfig()
    encoder: network_union() = ScanEncoderConfig()  # type: ignore[valid-type]
    init: Init | None = None
    """Weights to start from, of a public model or of another run."""
    objective: config_union("scans") = SimCLRConfig()  # type: ignore[valid-type]
    training: TrainingConfig = TrainingConfig()

    @property
    def method(self) -> str:
        """What the tables call it."""
        return self.objective.name

    def digests(self) -> dict[str, str]:
        """By which data a run is known again, and by which weights it starts from."""
        found = super().digests()
        if self.init and self.init.file.is_file():
            found["init"] = f"{self.init.origin} sha256:{file_digest(self.init.file)}"
        return found

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.encoder.refuse("views.patch_size", self.views.patch_size)
        refuse_other_voxels(self.encoder, self.preprocessing)
        refuse_family(self.objective.name, NETWORKS.get(self.encoder.name))
        if self.training.num_tokens:
            raise ValueError("training.num_tokens: scans have no tokens; give num_steps or num_epochs")
        if self.cards and self.pairs.name == "same_subject":
            raise ValueError("pairs.name: same_subject needs the sessions of a manifest; take another policy")
        return self

    def refuse_weights(self) -> None:
        """Raises a ConfigError where those to start from are of another network. A comparison has several."""
        if self.init:
            key_map(self.init.origin, self.encoder.name)


class Config(Pretraining, RunConfig):
    """The recipe's configuration."""

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        self.refuse_weights()
        return self

    def folder(self) -> RunFolder:
        """The run's folder, made or reopened; one that holds a run of other values or data is refused."""
        return RunFolder(self.output, self, ignore=("store", "init"), data=self.digests())


@dataclass(frozen=True)
class Result:
    """The encoder, its metrics.jsonl, and the batches, so that the views it learnt from can be looked at."""

    encoder: ScanEncoder
    metrics: dict[str, Path]
    batches: PatchBatches


def run(config: Config, *, report: object = None) -> Result:
    """Trains, or goes on training, and saves the encoder."""
    started = time.monotonic()
    num_threads = set_num_threads(config.num_threads)
    encoder = ScanEncoder(config.encoder, config.preprocessing).untrained(config.seed)
    loaded = initialise(encoder, config.init) if config.init else None
    sides = (config.views.patch_size,) * 3
    objective = build_objective(config.objective, encoder, seed=config.seed, sides=sides)
    preflight(config.training, config.trackers, objective)
    if config.manifest and config.training.evaluate_every:
        rows = read_manifest(config.manifest)
        labelled = LabelledScans(rows["label"].tolist(), rows["subject"].tolist(), seed=config.seed)
    folder = config.folder()
    with main_process_first():
        scans = config.open(config.encoder.in_channels, config.init.saved_encoder if config.init else None)
    training = config.training
    batches = PatchBatches(
        scans.volumes,
        config.views,
        training.batch_size,
        config.seed,
        num_threads=max(1, num_threads // max(1, training.num_workers)),
        subjects=scans.seen.subjects,
        sampler=config.sampler,
        crops=config.crops,
        pairs=config.pairs,
        num_views=objective.num_views,
        **scans.about,
    )
    evaluate = None
    if training.evaluate_every and scans.registered:
        task = AtlasTaskConfig(patch_size=config.views.patch_size)
        evaluate = OnlineProbe(encoder, atlas_tasks(scans.registered, task), seed=config.seed)
    elif training.evaluate_every:
        evaluate = ScanVote(encoder, batches, labelled)
    kept = fit(objective, batches, training, folder, config.seed, "scan pretraining", evaluate=evaluate)

    result = Result(encoder, {config.objective.name: folder.metrics_path}, batches)
    if config.plan or not is_main_process():
        return result
    save_encoder(encoder, folder.path / "encoder", scans.seen, loaded)
    best = (
        f" Its weights are those after step {kept}, where {training.keep_best.metric} was best."
        if training.keep_best
        else ""
    )
    write_model_card(
        folder.path,
        title="A scan encoder",
        summary=f"A 3D network, {config.encoder.name} ({encoder.embed_dim} features), {config.method}, "
        f"{training.num_steps} steps of {training.batch_size} patches of {config.views.patch_size} voxels, from "
        f"{len(set(scans.seen.subjects))} subjects.{best}"
        + (f" It started from weights of {loaded}." if loaded else ""),
        library="monai",
        usage=f"embeddings = encoder.embed(patches)  # (N, {config.encoder.in_channels}, I, J, K) raw intensities, "
        "RAS, at encoder.spacing_mm",
        cards=[load_card(name) for name in config.cards],
        config=config,
    )
    folder.log_timing("scan pretraining", time.monotonic() - started, peak_memory_gb=round(peak_memory_gb(), 3))
    log.info("the encoder: %s", folder.path / "encoder")
    return result


if __name__ == "__main__":
    main(run, Config)
