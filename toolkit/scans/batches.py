"""Training batches: two views of each of B places, a pure function of (seed, step)."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import DataError
from toolkit.scans.crops import Centres, CropConfig
from toolkit.scans.labels import Points
from toolkit.scans.pairs import OverlappingCrops, PairConfig, Place, Rows, SameCrop, check_pairs, overlap_shares
from toolkit.scans.rendering import DrawnView, Renderer, joined_parameters
from toolkit.scans.sampler import SamplerConfig, SubjectSampler
from toolkit.scans.store import StoredVolume
from toolkit.scans.views import ViewConfig, sample_parameters
from toolkit.training.shard import shard_rows


class PatchBatches:
    """Two views of crops of stored scans.

    A sample is a crop: a scan and the number of one of its `sampler.crops_per_scan` centres. Which scans share a batch
    is the sampler's to say, where a crop is centred `crops`', and what the second view shows `pairs`'. All views of a
    sample that lie close together come from one read of the store.

    Args:
        volumes: Preprocessed scans with background 0.
        config: What the views may differ in.
        batch_size: Samples a step.
        seed: Everything random follows from it.
        num_threads: Threads that make views; the result is the same for any number.
        subjects: Whose each scan is; by default each is a subject of its own.
        groups: Site or modality of each scan, for `sampler.balance`.
        sessions: When each scan was taken, "" where unknown.
        points: Labelled places of each scan, for `crops.label_share`.
        sampler: How the places of a batch are shared.
        crops: Where crops are centred.
        pairs: What the second view shows.

    Raises:
        ConfigError: The sampler, the crops or the pairs ask for what these scans cannot give.
        DataError: No scans.
    """

    num_views = 2

    def __init__(
        self,
        volumes: Sequence[StoredVolume],
        config: ViewConfig,
        batch_size: int,
        seed: int,
        *,
        num_threads: int = 1,
        subjects: Sequence[Hashable] | None = None,
        groups: Sequence[Hashable] | None = None,
        sessions: Sequence[Hashable] | None = None,
        points: Sequence[Points] | None = None,
        sampler: SamplerConfig | None = None,
        crops: CropConfig | None = None,
        pairs: PairConfig | None = None,
    ) -> None:
        if not volumes:
            raise DataError("no scans to train on; check the manifest")
        self.volumes, self.config = volumes, config
        self.batch_size, self.seed = batch_size, seed
        subjects = range(len(volumes)) if subjects is None else subjects
        sampler = sampler or SamplerConfig()
        self.pairs: PairConfig = pairs or SameCrop()
        self._crops_per_scan = sampler.crops_per_scan
        self._sampler = SubjectSampler(subjects, groups, batch_size, seed, sampler)
        self._centres = Centres(volumes, crops or CropConfig(), seed, points)
        self._rows = Rows(self._centres, subjects, sessions or [""] * len(volumes))
        self._renderer = Renderer(volumes, config.patch_size, num_threads)
        check_pairs(self.pairs, self._rows)
        self.num_samples = len(volumes) * self._crops_per_scan

    @property
    def samples_per_epoch(self) -> int:
        """Samples in which each scan gives `sampler.crops_per_scan` crops, on the average."""
        return self.num_samples

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Tensor]:
        """Views of a part of step `step`.

        Args:
            step: Which batch of `batch_size` samples.
            shard: Which of its parts; only this one is rendered.
            num_shards: In how many equal, consecutive parts it is cut.

        Returns:
            `view0` and `view1`, each (B, C, patch, patch, patch) float32. With overlapping pairs also `overlap`, the
            share of view 0's voxels that view 1 shows too, (B,) float32; and `boxes` (B, views, 2, 3) int64, the first
            voxel of the scan that each view shows and the one after the last.

        Raises:
            ConfigError: The parts would not be equal.
            DataError: A scan has no foreground, or its part of the store is missing or damaged.
        """
        rows = shard_rows(self.batch_size, shard, num_shards)
        drawn = self._draw(*(numbers[rows] for numbers in self.samples(step)), range(self.num_views))
        out = {f"view{view}": torch.from_numpy(array) for view, array in enumerate(self._renderer.render(drawn))}
        if isinstance(self.pairs, OverlappingCrops):
            size, (first, second) = self.config.patch_size, drawn
            out["overlap"] = torch.from_numpy(overlap_shares(first.matrices, second.matrices, size))
            out["boxes"] = torch.from_numpy(np.stack([view.boxes(size) for view in drawn], axis=1))
        return out

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Sample numbers of a part of a step; `views` and `originals` show these samples."""
        return self.samples(step)[1][shard_rows(self.batch_size, shard, num_shards)].tolist()

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and sample numbers of a step, (B,) each: scan * crops_per_scan + number of the crop."""
        scans, visits = self._sampler.rows(step)
        epochs, crops = np.divmod(visits, self._crops_per_scan)
        return epochs, scans * self._crops_per_scan + crops

    def views(self, epochs: np.ndarray, samples: np.ndarray, view: int) -> np.ndarray:
        """View number `view` of samples in epochs, (B, C, patch, patch, patch), as it was trained on."""
        return self._renderer.render(self._draw(epochs, samples, [view]))[0]

    def originals(self, samples: np.ndarray) -> np.ndarray:
        """Crops as they lie in the scan, without any change: (B, C, patch, patch, patch)."""
        size, patches = self.config.patch_size, []
        for place in map(self._place, samples.tolist()):
            volume = self.volumes[place.scan]
            raw = volume.crop((place.centre - size // 2).tolist(), (size, size, size))
            patches.append(raw * np.float32(volume.scale) + np.float32(volume.offset))
        return np.stack(patches)

    def _place(self, sample: int) -> Place:
        scan, crop = divmod(sample, self._crops_per_scan)
        return Place(scan, self._centres.centre(scan, crop))

    def _draw(self, epochs: np.ndarray, samples: np.ndarray, views: Sequence[int]) -> list[DrawnView]:
        """What each view of each sample shows, and its parameters."""
        anchors = [self._place(sample) for sample in samples.tolist()]
        by_epoch = {int(epoch): np.flatnonzero(epochs == epoch) for epoch in np.unique(epochs)}
        order = np.argsort(np.concatenate(list(by_epoch.values())))
        drawn = []
        for view in views:
            places = anchors if view == 0 else self._partners(anchors, epochs, samples, view)
            parts = [sample_parameters(self.config, self.seed, e, samples[rows], view) for e, rows in by_epoch.items()]
            drawn.append(DrawnView(places, joined_parameters(parts)[order]))
        return drawn

    def _partners(self, anchors: list[Place], epochs: np.ndarray, samples: np.ndarray, view: int) -> list[Place]:
        places = []
        for anchor, epoch, sample in zip(anchors, epochs.tolist(), samples.tolist(), strict=True):
            rng = np.random.default_rng([self.seed, epoch, sample, view, 4])
            places.append(self.pairs.partner(anchor, self._rows, self.config.patch_size, rng))
        return places
