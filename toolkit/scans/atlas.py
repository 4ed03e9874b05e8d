"""Which part of the organ is this patch from? Scans in one space, an atlas, and an unseen test subject."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy import ndimage

from toolkit.cards import DataCard, VolumeReader
from toolkit.config import Section, digest
from toolkit.errors import CardError
from toolkit.scans.fingerprints import fingerprint
from toolkit.scans.manifest import content_hash
from toolkit.scans.patches import balanced_centres, cut_patches, world_positions
from toolkit.scans.preprocessing import Preprocessing, preprocess, resample
from toolkit.scans.store import StoredVolume, VolumeStore, store_key
from toolkit.scans.volumes import Volume, read_volume
from toolkit.splits import Seen

# Streams of random numbers, one for each kind of draw.
_POOL, _TEST, _UNLABELLED = range(3)


class AtlasTaskConfig(Section):
    """How many patches of each class, and where they are drawn."""

    patch_size: int = Field(24, ge=8)
    """Voxels along each side."""
    pool_per_class: int = Field(300, gt=0)
    """Patches of each class that may be labelled."""
    test_per_class: int = Field(150, gt=0)
    """Patches of each class and test subject."""
    num_unlabelled: int = Field(2000, gt=0)
    """Patches of the pretraining subjects that baselines learn from without labels."""
    seed: int = 0
    """Of the draws."""


@dataclass(frozen=True)
class RegisteredScan:
    """One subject on the common grid.

    Attributes:
        subject: Pseudonym.
        volume: Masked, normalised intensities (1, I, J, K).
        role: "pool": labelled and pretrained on; "pretraining": no labels; "test": seen by nothing.
        content_hash: Of the raw file and the mask's sources.
        file_hash: Of the raw file alone.
        fingerprint: Of the raw scan, see `fingerprints`.
    """

    subject: str
    volume: Volume
    role: str
    content_hash: str
    file_hash: str
    fingerprint: str


@dataclass(frozen=True)
class RegisteredScans:
    """Scans and an atlas on one grid.

    Attributes:
        scans: The subjects.
        classes: Class of each voxel (I, J, K), -1 where it has none.
        class_names: Names of the classes.
        mask: Voxels of the organ (I, J, K), the same for all.
        affine: Voxel indices to world millimetres (RAS), (4, 4).
    """

    scans: tuple[RegisteredScan, ...]
    classes: np.ndarray
    class_names: tuple[str, ...]
    mask: np.ndarray
    affine: np.ndarray

    def of(self, *roles: str) -> list[RegisteredScan]:
        """The scans with one of the roles."""
        return [scan for scan in self.scans if scan.role in roles]

    def seen(self, *roles: str) -> Seen:
        """What the scans with one of the roles show, for the guard against leakage."""
        scans = self.of(*roles)
        columns = zip(*((scan.subject, scan.file_hash, scan.fingerprint) for scan in scans), strict=True)
        return Seen(*columns, public=True)

    def store(self, folder: str | Path, spec: Preprocessing) -> list[StoredVolume]:
        """Puts what pretraining may see into a store, and opens it."""
        store = VolumeStore(folder)
        stored = []
        for scan in self.of("pool", "pretraining"):
            key = store_key(scan.content_hash, digest(spec))
            stored.append(store.get_or_make(key, lambda volume=scan.volume: volume))
        return stored


def read_registered(cards: Sequence[tuple[DataCard, Path]], spec: Preprocessing) -> RegisteredScans:
    """Reads the scans and the atlas of cards that share a space, onto one grid of `spec.spacing_mm`.

    An average of many people comes without skull; so that skull or no skull tells nothing, the average's
    brain is the mask of every scan. Without an average the mask is the atlas, closed and filled.

    Args:
        cards: Cards and their fetched folders. One member has the role `labels`, at least one subject is in a
            card's `split.test_subjects`.
        spec: Spacing and percentiles.

    Raises:
        CardError: No or several atlases, no test subject, a scan without a subject, no scan that `labels_for`
            names, or the members lie in several spaces.
    """
    members = [
        (card, folder, reader) for card, folder in cards for reader in card.reader if isinstance(reader, VolumeReader)
    ]
    names = ", ".join(card.name for card, _ in cards)
    atlases = [(card, folder, reader) for card, folder, reader in members if reader.role == "labels"]
    if len(atlases) != 1:
        raise CardError(f"{names}: {len(atlases)} members with role `labels` where the task needs one")
    spaces = {reader.space for _, _, reader in members}
    if len(spaces) != 1 or None in spaces:
        raise CardError(f"{names}: the members lie in the spaces {sorted(map(str, spaces))}; they must share one")
    card, folder, atlas_reader = atlases[0]
    test_subjects = {subject for other, _ in cards for subject in other.split.test_subjects}
    images = [(folder / reader.member, reader) for _, folder, reader in members if reader.role == "image"]
    for _, reader in images:
        if not reader.subject:  # a file's name may be a person's
            raise CardError(f"{names}: reader {reader.member}: no subject; give it a pseudonym")
    if not test_subjects & {reader.subject for _, reader in images}:
        raise CardError(f"{names}: no scan of a test subject; name one in split.test_subjects")
    if not {reader.subject for _, reader in images} & set(atlas_reader.labels_for) - test_subjects:
        raise CardError(
            f"{names}: reader {atlas_reader.member}: labels_for names no scan to label; name a subject that is not in "
            "split.test_subjects"
        )
    volumes = [read_volume(path) for path, _ in images]
    grid = common_grid(volumes, spec.spacing_mm)
    atlas_path = folder / atlas_reader.member
    classes = class_map(resample(read_volume(atlas_path), grid, labels=True).array[0], card)
    averages = [(path, v) for (path, reader), v in zip(images, volumes, strict=True) if reader.population == "average"]
    mask = organ_mask([resample(volume, grid).array[0] for _, volume in averages], classes)
    # The grid comes from all images, the mask from the averages or the atlas: other files there, another scan.
    context = content_hash([*([path for path, _ in averages] or [atlas_path]), *(path for path, _ in images)])
    file_hashes = [content_hash([path]) for path, _ in images]
    scans = tuple(
        RegisteredScan(
            str(reader.subject),
            preprocess(volume, spec, like=grid, mask=mask),
            _role(reader, atlas_reader, test_subjects),
            hashlib.sha256(f"{file_hash} {context}".encode()).hexdigest(),
            file_hash,
            fingerprint(volume),
        )
        for (_, reader), volume, file_hash in zip(images, volumes, file_hashes, strict=True)
    )
    return RegisteredScans(scans, np.where(mask, classes, -1), tuple(card.class_names), mask, grid.affine)


def atlas_task(registered: RegisteredScans, config: AtlasTaskConfig) -> dict[str, Any]:
    """The patches of the few-label task, by the names of `finetune.Task`'s fields.

    Pool and test come from different subjects, so overlapping patches never sit on both sides.

    Returns:
        `pool`, `test`, `unlabelled`: patches (N, 1, I, J, K) float32; `pool_labels`, `test_labels`: (N,) int;
        `pool_groups`, `test_groups`: subjects (N,); `pool_positions`, `test_positions`: (N, 3) mm, world,
        RAS; `class_names`; `leg`, `name`, `language`, `site`.
    """
    fields: dict[str, Any] = {
        "leg": "scans",
        "name": "lobes",
        "language": "",
        "class_names": registered.class_names,
    }
    fields["site"] = "+".join(scan.subject for scan in registered.of("test"))
    for part, stream, per_class in (
        ("pool", _POOL, config.pool_per_class),
        ("test", _TEST, config.test_per_class),
    ):
        patches, labels, groups, positions = [], [], [], []
        for number, scan in enumerate(registered.of(part)):
            seed = int(np.random.default_rng([config.seed, stream, number]).integers(2**31))
            centres, classes = balanced_centres(registered.classes, len(registered.class_names), per_class, seed)
            patches.append(cut_patches(scan.volume.array, centres, config.patch_size))
            labels.append(classes)
            groups += [scan.subject] * len(centres)
            positions.append(world_positions(registered.affine, centres))
        fields[part] = np.concatenate(patches)
        fields[f"{part}_labels"] = np.concatenate(labels)
        fields[f"{part}_groups"] = np.array(groups)
        fields[f"{part}_positions"] = np.concatenate(positions)
    seen = registered.of("pool", "pretraining")
    voxels = np.argwhere(registered.mask)
    rng = np.random.default_rng([config.seed, _UNLABELLED])
    shares = [len(part) for part in np.array_split(np.arange(config.num_unlabelled), len(seen))]
    fields["unlabelled"] = np.concatenate(
        [
            cut_patches(scan.volume.array, voxels[rng.choice(len(voxels), share)], config.patch_size)
            for scan, share in zip(seen, shares, strict=True)
        ]
    )
    return fields


def common_grid(volumes: Sequence[Volume], spacing_mm: tuple[float, float, float]) -> Volume:
    """An empty RAS grid over all volumes' voxel centres, itself centred on whole multiples of the spacing."""
    corners = []
    for volume in volumes:
        last = np.asarray(volume.shape) - 1
        indices = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1)
        corners.append(indices.T @ volume.affine[:3, :3].T + volume.affine[:3, 3])
    points = np.concatenate(corners)
    low = np.floor(points.min(axis=0) / spacing_mm + 1e-3)
    high = np.ceil(points.max(axis=0) / spacing_mm - 1e-3)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = low * spacing_mm
    return Volume(np.broadcast_to(np.float32(0), (1, *(high - low + 1).astype(int))), affine)


def class_map(ids: np.ndarray, card: DataCard) -> np.ndarray:
    """Atlas ids (I, J, K) to class numbers by the card's label map, -1 where an id has no class."""
    classes = np.full(ids.shape, -1, np.int64)
    for value in np.unique(ids):
        classes[ids == value] = card.label_of(float(value))
    return classes


def organ_mask(averages: Sequence[np.ndarray], classes: np.ndarray) -> np.ndarray:
    """Voxels of the organ: where the averages have signal, or the closed atlas; holes filled."""
    if averages:
        # The threshold cuts the faint rim that interpolation leaves around the brain.
        inside = np.all([a > 0.15 * np.percentile(a[a > 0], 90) for a in averages], axis=0)
        inside = ndimage.binary_opening(inside)
    else:
        inside = ndimage.binary_closing(classes >= 0, iterations=4)
    filled: np.ndarray = ndimage.binary_fill_holes(inside)
    return filled


def _role(reader: VolumeReader, atlas: VolumeReader, test_subjects: set[str]) -> str:
    if reader.subject in test_subjects:
        return "test"
    return "pool" if reader.subject in atlas.labels_for else "pretraining"
