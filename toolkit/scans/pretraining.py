"""The scans that a pretraining learns from: a manifest's, or those of data cards; held against the test, and stored."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from toolkit.cards import data_digest, data_root, fetch, load_card
from toolkit.config import Section
from toolkit.errors import ConfigError
from toolkit.scans.atlas import RegisteredScans, read_registered
from toolkit.scans.build import store_manifest
from toolkit.scans.crops import CropConfig
from toolkit.scans.labels import label_maps_digest, read_points
from toolkit.scans.leakage import manifest_seen, refuse_held_out
from toolkit.scans.manifest import read_manifest
from toolkit.scans.preprocessing import Preprocessing
from toolkit.scans.sampler import SamplerConfig
from toolkit.scans.store import StoredVolume
from toolkit.splits import Seen


class PretrainingScans(Section):
    """What to learn from."""

    manifest: Path | None = None
    """Your own scans: a manifest that `fewlabel init FOLDER` wrote. Relative to the working folder."""
    cards: tuple[str, ...] = ()
    """Or data cards whose scans share one space with an atlas; their test subjects are left out."""
    held_out: tuple[Path, ...] = ()
    """Manifests of scans to test on, such as the test.csv of `fewlabel data split`. A run that would see one of their
    subjects, files or near-duplicates is refused, and so is one that starts from an encoder that saw one."""
    allow_held_out: bool = False
    """Only warn of that, to study the leak itself; and of a start from an encoder that has no record of what it saw,
    where you know it."""
    preprocessing: Preprocessing = Preprocessing()
    store: Path | None = None
    """Where preprocessed scans are kept, for all runs. Default: `store` beside the manifest or with the cards' data."""
    label_maps: str = ""
    """Where the scans of a manifest have label maps, for `crops.label_share`: as `fewlabel data build --label-maps`."""
    sampler: SamplerConfig = SamplerConfig()
    crops: CropConfig = CropConfig()

    @model_validator(mode="after")
    def _no_mixture(self) -> Self:
        if bool(self.manifest) == bool(self.cards):
            raise ValueError("give either manifest (your own scans) or cards (registered ones)")
        if self.cards and (self.label_maps or self.crops.points or self.sampler.balance):
            raise ValueError(
                "label_maps, crops.points, sampler.balance: are of a manifest's scans; leave them out, or give "
                "manifest, not cards"
            )
        return self

    def digests(self) -> dict[str, str]:
        """By which data a run is known again: cards, or the manifest with its tables and label maps.

        Raises:
            DataError: The manifest cannot be used.
        """
        found = {card.name: data_digest(card) for card in map(load_card, self.cards)}
        for name, table in {"manifest": self.manifest, "points": self.crops.points}.items():
            if table and table.is_file():
                found[name] = hashlib.sha256(table.read_bytes()).hexdigest()[:16]
        if self.manifest:
            rows = read_manifest(self.manifest)
            if self.crops.label_share:
                found["label maps"] = label_maps_digest(rows, self.label_maps)
        return found

    def open(self, channels: int, before: Path | None = None) -> "OpenScans":
        """Refuses what is held out, and stores what is not stored yet.

        Args:
            channels: That each scan must have.
            before: Folder of a saved encoder that training starts from.

        Raises:
            ConfigError: The cards' scans have other channels.
            DataError: A scan is held out, or nothing says whether one was seen `before`; or a scan or a table cannot be
                used.
        """
        if self.manifest:
            return self._of_manifest(self.manifest, channels, before)
        return self._of_cards(channels, before)

    def _of_manifest(self, manifest: Path, channels: int, before: Path | None) -> "OpenScans":
        rows = read_manifest(manifest)
        seen = manifest_seen(rows)
        refuse_held_out(seen, self.held_out, before=before, allow=self.allow_held_out)
        store = self.store or manifest.parent / "store"
        volumes, _ = store_manifest(manifest, self.preprocessing, store, channels=channels, label_maps=self.label_maps)
        about: dict[str, Any] = {"sessions": rows["session"].tolist()}
        if self.sampler.balance:
            about["groups"] = rows[self.sampler.balance].tolist()
        if self.crops.points:
            about["points"] = read_points(self.crops.points, rows)
        return OpenScans(volumes, seen, about)

    def _of_cards(self, channels: int, before: Path | None) -> "OpenScans":
        registered = read_registered([(card, fetch(card)) for card in map(load_card, self.cards)], self.preprocessing)
        if wrong := {len(scan.volume.array) for scan in registered.scans} - {channels}:
            raise ConfigError(f"encoder.in_channels: {channels}, but the scans have {wrong.pop()} channel(s)")
        seen = registered.seen("pool", "pretraining")
        held_out = [*self.held_out, registered.seen("test")]
        refuse_held_out(seen, held_out, before=before, allow=self.allow_held_out)
        volumes = registered.store(self.store or data_root() / "store", self.preprocessing)
        return OpenScans(volumes, seen, {}, registered)


@dataclass(frozen=True)
class OpenScans:
    """Stored scans and what is known of them.

    Attributes:
        volumes: The scans.
        seen: What they show, for the guard against leakage; one row a scan.
        about: Sessions, groups and points of a manifest's scans, as `PatchBatches` takes them.
        registered: The cards' scans with their atlas.
    """

    volumes: Sequence[StoredVolume]
    seen: Seen
    about: dict[str, Any]
    registered: RegisteredScans | None = None
