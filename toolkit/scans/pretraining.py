"""The scans that a pretraining learns from: a manifest's, or those of data cards; held against the test, and stored."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def refuse_mixtures(self) -> None:
        """Raises a `ConfigError` unless these are the keys of a manifest, or those of cards."""
        if bool(self.manifest) == bool(self.cards):
            raise ConfigError("give either manifest (your own scans) or cards (registered ones)")
        if self.cards and (self.label_maps or self.crops.points):
            raise ConfigError(
                "label_maps, crops.points: are of a manifest's scans; leave them out, or give manifest, not cards"
            )

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

    def open(self, channels: int) -> "OpenScans":
        """Refuses what is held out, and stores what is not stored yet.

        Args:
            channels: That each scan must have.

        Raises:
            ConfigError: The cards' scans have other channels.
            DataError: A scan is held out or cannot be used, or a table cannot.
        """
        return self._of_manifest(self.manifest, channels) if self.manifest else self._of_cards(channels)

    def _of_manifest(self, manifest: Path, channels: int) -> "OpenScans":
        rows = read_manifest(manifest)
        seen = manifest_seen(rows)
        refuse_held_out(seen, self.held_out, allow=self.allow_held_out)
        store = self.store or manifest.parent / "store"
        volumes, _ = store_manifest(manifest, self.preprocessing, store, channels=channels, label_maps=self.label_maps)
        about: dict[str, Any] = {"sessions": rows["session"].tolist()}
        if self.sampler.balance:
            about["groups"] = rows[self.sampler.balance].tolist()
        if self.crops.points:
            about["points"] = read_points(self.crops.points, rows)
        return OpenScans(volumes, seen, about)

    def _of_cards(self, channels: int) -> "OpenScans":
        registered = read_registered([(card, fetch(card)) for card in map(load_card, self.cards)], self.preprocessing)
        if wrong := {len(scan.volume.array) for scan in registered.scans} - {channels}:
            raise ConfigError(f"encoder.in_channels: {channels}, but the scans have {wrong.pop()} channel(s)")
        seen = registered.seen("pool", "pretraining")
        refuse_held_out(seen, [*self.held_out, registered.seen("test")], allow=self.allow_held_out)
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
