"""Training batches: views of each of B places, a pure function of (seed, step)."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import DataError
from toolkit.scans.crops import Centres, CropConfig
from toolkit.scans.cuts import cut, render_cuts
from toolkit.scans.labels import Points
from toolkit.scans.pairs import (
    OverlappingCrops,
    PairConfig,
    Place,
    Rows,
    SameAnatomy,
    SameCrop,
    check_pairs,
    overlap_shares,
)
from toolkit.scans.rendering import DrawnView, Renderer, joined_parameters
from toolkit.scans.sampler import SamplerConfig, SubjectSampler
from toolkit.scans.store import StoredVolume
from toolkit.scans.views import ViewConfig, sample_parameters
from toolkit.scans.views.draws import Stream, uniform
from toolkit.training.shard import shard_rows


class PatchBatches:
    """Views of crops of stored scans, mostly two of each.

    A sample is a crop: a scan and the number of one of its `sampler.crops_per_scan` centres. Which scans share a batch
    is the sampler's to say, where a crop is centred `crops`', and what the second view shows `pairs`'. All views of a
    sample that lie close together come from one read of the store. `config.made_on` says who makes views of what is
    read: `prepare`, which processes beside the training may call, or `finish`, on the device.

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
        num_views: Views of each sample. The first has the same bits whatever comes after it.

    Raises:
        ConfigError: The sampler, the crops or the pairs ask for what these scans cannot give.
        DataError: No scans.
    """

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
        num_views: int = 2,
    ) -> None:
        if not volumes:
            raise DataError("no scans to train on; check the manifest")
        self.volumes, self.config = volumes, config
        self.batch_size, self.seed, self.num_views = batch_size, seed, num_views
        subjects = range(len(volumes)) if subjects is None else subjects
        sampler = sampler or SamplerConfig()
        self.pairs: PairConfig = pairs or SameCrop()
        self.on_device = config.made_on == "device" or (config.made_on == "auto" and torch.cuda.is_available())
        self._crops_per_scan = sampler.crops_per_scan
        self._sampler = SubjectSampler(subjects, groups, batch_size, seed, sampler)
        self._centres = Centres(volumes, crops or CropConfig(), seed, points)
        self._rows = Rows(self._centres, subjects, sessions or [""] * len(volumes))
        self._renderer = Renderer(volumes, config.patch_size, num_threads)
        # Of the last step alone: portions and views of a batch ask again for what all of them share.
        self._dealt: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None
        self._chosen: dict[int, dict[int, list[Place]]] = {}
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
            `view0`, `view1` and so on, each (B, C, patch, patch, patch) float32; `draws` (B,) int64, a random number
            for each sample, from which a method draws what it needs, such as masks. With overlapping pairs also
            `overlap`, the share of view 0's voxels that view 1 shows too, (B,) float32; and `boxes` (B, views, 2, 3)
            int64, the first voxel of the scan that each view shows and the one after the last.

        Raises:
            ConfigError: The parts would not be equal.
            DataError: A scan has no foreground, or its part of the store is missing or damaged.
        """
        return self.finish(self.prepare(step, shard, num_shards))

    def prepare(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Any]:
        """What of `batch` needs no device."""
        rows = shard_rows(self.batch_size, shard, num_shards)
        drawn = self._draw(step, rows, range(self.num_views))
        if self.on_device:
            out: dict[str, Any] = {"cuts": cut(self._renderer, drawn)}
        else:
            out = {f"view{view}": torch.from_numpy(array) for view, array in enumerate(self._renderer.render(drawn))}
        out["draws"] = torch.from_numpy(self._method_draws(step, rows))
        if isinstance(self.pairs, OverlappingCrops) and self.num_views == 2:
            size, (first, second) = self.config.patch_size, drawn
            out["overlap"] = torch.from_numpy(overlap_shares(first.matrices, second.matrices, size))
            out["boxes"] = torch.from_numpy(np.stack([view.boxes(size) for view in drawn], axis=1))
        return out

    def finish(self, prepared: dict[str, Any]) -> dict[str, Tensor]:
        """The batch of which `prepare` made a part, on the device where that lies now."""
        if not self.on_device:
            return prepared
        views = render_cuts(prepared["cuts"], self.config.patch_size).chunk(self.num_views)
        others = {name: tensor for name, tensor in prepared.items() if name != "cuts"}
        return {f"view{view}": tensor for view, tensor in enumerate(views)} | others

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Sample numbers of a part of a step, as `originals` takes them."""
        return self.samples(step)[1][shard_rows(self.batch_size, shard, num_shards)].tolist()

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and sample numbers of a step, (B,) each: scan * crops_per_scan + number of the crop."""
        if self._dealt is None or self._dealt[0] != step:
            scans, visits = self._sampler.rows(step)
            epochs, crops = np.divmod(visits, self._crops_per_scan)
            self._dealt = step, (epochs, scans * self._crops_per_scan + crops)
        return self._dealt[1]

    def views(self, step: int, view: int, rows: slice = slice(None)) -> np.ndarray:
        """View number `view` of samples of a step as they were trained on, (B, C, patch, patch, patch).

        Made by the processor: where a device made them, they agree but for rounding.
        """
        return self._renderer.render(self._draw(step, rows, [view]))[0]

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

    def _draw(self, step: int, rows: slice, views: Sequence[int]) -> list[DrawnView]:
        """What each view of some samples of a step shows, and its parameters."""
        epochs, samples = (numbers[rows] for numbers in self.samples(step))
        by_epoch = {int(epoch): np.flatnonzero(epochs == epoch) for epoch in np.unique(epochs)}
        order = np.argsort(np.concatenate(list(by_epoch.values())))
        drawn = []
        for view in views:
            places = list(map(self._place, samples.tolist())) if view == 0 else self._partners(step, rows, view)
            affines = np.array([self.volumes[place.scan].affine[:3, :3] for place in places])
            spacing_mm = np.sqrt(np.square(affines).sum(axis=1))
            parts = [
                sample_parameters(self.config, self.seed, epoch, samples[part], view, spacing_mm=spacing_mm[part])
                for epoch, part in by_epoch.items()
            ]
            drawn.append(DrawnView(places, joined_parameters(parts)[order]))
        return drawn

    def _method_draws(self, step: int, rows: slice) -> np.ndarray:
        epochs, samples = (numbers[rows] for numbers in self.samples(step))
        draws = np.empty(len(samples), np.int64)
        for epoch in np.unique(epochs):
            unit = uniform(self.seed, int(epoch), samples[epochs == epoch], 0, Stream.METHOD, 1)
            draws[epochs == epoch] = unit[:, 0] * 2**53
        return draws

    def _partners(self, step: int, rows: slice, view: int) -> list[Place]:
        epochs, samples = self.samples(step)
        if isinstance(self.pairs, SameAnatomy):
            of_step = self._chosen.setdefault(step, {})
            if view not in of_step:  # of the whole batch at once, however many portions are asked for
                rng = np.random.default_rng([self.seed, step, view, 5])
                of_step[view] = self.pairs.partners(list(map(self._place, samples.tolist())), self._rows, rng)
            self._chosen = {step: of_step}
            return of_step[view][rows]
        places = []
        for epoch, sample in zip(epochs[rows].tolist(), samples[rows].tolist(), strict=True):
            rng = np.random.default_rng([self.seed, epoch, sample, view, 4])
            places.append(self.pairs.partner(self._place(sample), self._rows, self.config.patch_size, rng))
        return places
