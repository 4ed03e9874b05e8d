"""Pretrain a 3D encoder on unlabelled scans.

    fewlabel run scan_pretrain --config configs/scan_pretrain/heads.yaml

Scans are brought to one spacing and intensity scale once and stored; each step cuts patches out of them, makes two
views of each, and the objective learns what both have in common. The run folder gets `encoder/`, with the
preprocessing inside, which `toolkit.load_encoder` opens.
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import model_validator

from toolkit.cards import data_digest, data_root, fetch, load_card, write_model_card
from toolkit.config import RunConfig, Section, main
from toolkit.console import log
from toolkit.encoders import save_encoder
from toolkit.encoders.checkpoints import Init, initialise
from toolkit.encoders.networks import config_union as network_union
from toolkit.encoders.scan import ScanEncoder, ScanEncoderConfig
from toolkit.errors import ConfigError
from toolkit.finetune import LabelledScans, OnlineProbe, ScanVote, atlas_tasks
from toolkit.objectives import build_objective, config_union
from toolkit.objectives.simclr import SimCLRConfig
from toolkit.scans import (
    AtlasTaskConfig,
    CropConfig,
    PairConfig,
    PatchBatches,
    Preprocessing,
    SameCrop,
    SamplerConfig,
    ViewConfig,
    label_maps_digest,
    manifest_seen,
    read_manifest,
    read_points,
    read_registered,
    refuse_held_out,
    store_manifest,
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


class Pretraining(Section):
    """What to learn from, and how."""

    manifest: Path | None = None
    """Your own scans: a manifest that `fewlabel init FOLDER` wrote. Relative to the working folder."""
    cards: tuple[str, ...] = ()
    """Or data cards whose scans share one space with an atlas; their test subjects are left out."""
    held_out: tuple[Path, ...] = ()
    """Manifests of scans to test on, such as the test.csv of `fewlabel data split`. A run that would see one of their
    subjects, files or near-duplicates is refused."""
    allow_held_out: bool = False
    """Only warn of that: to study the leak itself."""
    preprocessing: Preprocessing = Preprocessing()
    store: Path | None = None
    """Where preprocessed scans are kept, for all runs. Default: `store` beside the manifest or with the cards' data."""
    label_maps: str = ""
    """Where the scans of a manifest have label maps, for `crops.label_share`: as `fewlabel data build --label-maps`."""
    sampler: SamplerConfig = SamplerConfig()
    crops: CropConfig = CropConfig()
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

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        if reason := self.encoder.refusal((self.views.patch_size,) * 3):
            raise ValueError(f"views.patch_size: {self.views.patch_size} does not fit the encoder: {reason}")
        return self


class Config(Pretraining, RunConfig):
    """The recipe's configuration."""


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
    if bool(config.manifest) == bool(config.cards):
        raise ConfigError("give either manifest (your own scans) or cards (registered ones)")
    if config.cards and (config.label_maps or config.crops.points):
        raise ConfigError(
            "label_maps, crops.points: are of a manifest's scans; leave them out, or give manifest, not cards"
        )
    encoder = ScanEncoder(config.encoder, config.preprocessing).untrained(config.seed)
    loaded = initialise(encoder, config.init) if config.init else None
    objective = build_objective(config.objective, encoder, seed=config.seed)
    preflight(config.training, config.trackers, objective)
    cards = [load_card(name) for name in config.cards]
    data = {card.name: data_digest(card) for card in cards} | ({"init": str(loaded)} if loaded else {})
    for name, table in {"manifest": config.manifest, "points": config.crops.points}.items():
        if table and table.is_file():
            data[name] = hashlib.sha256(table.read_bytes()).hexdigest()[:16]
    if config.manifest:
        rows = read_manifest(config.manifest)
        if config.training.evaluate_every:
            labelled = LabelledScans(rows["label"].tolist(), rows["subject"].tolist(), seed=config.seed)
        if config.crops.label_share:
            data["label maps"] = label_maps_digest(rows, config.label_maps)
    folder = RunFolder(config.output, config, ignore=("store", "init"), data=data)
    store = config.store or (config.manifest.parent if config.manifest else data_root()) / "store"
    registered, about = None, {}
    with main_process_first():
        if config.manifest:
            seen = manifest_seen(rows)
            refuse_held_out(seen, config.held_out, allow=config.allow_held_out)
            volumes, _ = store_manifest(
                config.manifest,
                config.preprocessing,
                store,
                channels=config.encoder.in_channels,
                label_maps=config.label_maps,
            )
            about = {"sessions": rows["session"].tolist()}
            if config.sampler.balance:
                about["groups"] = rows[config.sampler.balance].tolist()
            if config.crops.points:
                about["points"] = read_points(config.crops.points, rows)
        else:
            registered = read_registered([(card, fetch(card)) for card in cards], config.preprocessing)
            if wrong := {len(scan.volume.array) for scan in registered.scans} - {config.encoder.in_channels}:
                raise ConfigError(
                    f"encoder.in_channels: {config.encoder.in_channels}, but the scans have {wrong.pop()} channel(s)"
                )
            seen = registered.seen("pool", "pretraining")
            refuse_held_out(seen, [*config.held_out, registered.seen("test")], allow=config.allow_held_out)
            volumes = registered.store(store, config.preprocessing)
    training = config.training
    batches = PatchBatches(
        volumes,
        config.views,
        training.batch_size,
        config.seed,
        num_threads=max(1, num_threads // max(1, training.num_workers)),
        subjects=seen.subjects,
        sampler=config.sampler,
        crops=config.crops,
        pairs=config.pairs,
        num_views=objective.num_views,
        **about,
    )
    evaluate = None
    if training.evaluate_every and registered:
        task = AtlasTaskConfig(patch_size=config.views.patch_size)
        evaluate = OnlineProbe(encoder, atlas_tasks(registered, task), seed=config.seed)
    elif training.evaluate_every:
        evaluate = ScanVote(encoder, batches, labelled)
    kept = fit(objective, batches, training, folder, config.seed, "scan pretraining", evaluate=evaluate)

    result = Result(encoder, {config.objective.name: folder.metrics_path}, batches)
    if config.plan or not is_main_process():
        return result
    save_encoder(encoder, folder.path / "encoder", seen, loaded)
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
        f"{len(set(seen.subjects))} subjects.{best}",
        library="monai",
        usage=f"embeddings = encoder.embed(patches)  # (N, {config.encoder.in_channels}, I, J, K) raw intensities, "
        "RAS, at encoder.spacing_mm",
        cards=cards,
        config=config,
    )
    folder.log_timing("scan pretraining", time.monotonic() - started, peak_memory_gb=round(peak_memory_gb(), 3))
    log.info("the encoder: %s", folder.path / "encoder")
    return result


if __name__ == "__main__":
    main(run, Config)
