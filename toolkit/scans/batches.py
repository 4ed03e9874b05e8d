"""Training batches: two views of each of B places, a pure function of (seed, step)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import DataError
from toolkit.scans.store import StoredVolume
from toolkit.scans.views import (
    ViewConfig,
    ViewParameters,
    apply_parameters,
    identity_parameters,
    sample_parameters,
)
from toolkit.training.shard import shard_rows


class PatchBatches:
    """Two views of patches at random foreground voxels of stored scans.

    A sample is a foreground voxel of one scan. Every epoch goes through `samples_per_volume` voxels of each
    scan in a new order; each scan counts the same, however large it is.

    Args:
        volumes: Preprocessed scans with background 0.
        config: What the views may differ in.
        batch_size: Samples a step.
        seed: Everything random follows from it.
        num_threads: Threads that make views; the result is the same for any number.
        samples_per_volume: Voxels that an epoch takes of each scan.

    Raises:
        DataError: No scans, or one without foreground.
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
        samples_per_volume: int = 10_000,
    ) -> None:
        if not volumes:
            raise DataError("no scans to train on; check the manifest")
        self.volumes, self.config = volumes, config
        self.batch_size, self.seed, self.num_threads = batch_size, seed, num_threads
        self._centres = [_foreground_voxels(v, samples_per_volume, seed, i) for i, v in enumerate(volumes)]
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))
        self.num_samples = len(volumes) * samples_per_volume

    @property
    def samples_per_epoch(self) -> int:
        """Samples of one pass over all scans."""
        return self.num_samples

    def batch(self, step: int, shard: int = 0, num_shards: int = 1) -> dict[str, Tensor]:
        """Views of a part of step `step`: `view0` and `view1`, each (B, C, patch, patch, patch) float32.

        Args:
            step: Which batch of `batch_size` samples.
            shard: Which of its parts; only this one is rendered.
            num_shards: In how many equal, consecutive parts it is cut.

        Raises:
            ConfigError: The parts would not be equal.
        """
        rows = shard_rows(self.batch_size, shard, num_shards)
        epochs, samples = (numbers[rows] for numbers in self.samples(step))
        return {f"view{view}": torch.from_numpy(self.views(epochs, samples, view)) for view in range(self.num_views)}

    def sample_ids(self, step: int, shard: int = 0, num_shards: int = 1) -> list[int]:
        """Sample numbers of a part of a step; `views` and `originals` show these samples."""
        return self.samples(step)[1][shard_rows(self.batch_size, shard, num_shards)].tolist()

    def samples(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and sample numbers of a step, (B,) each."""
        epochs, places = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), self.num_samples)
        samples = np.empty_like(places)
        for epoch in np.unique(epochs):
            samples[epochs == epoch] = self._epoch_order(int(epoch))[places[epochs == epoch]]
        return epochs, samples

    def views(self, epochs: np.ndarray, samples: np.ndarray, view: int) -> np.ndarray:
        """View number `view` of samples in epochs, (B, C, patch, patch, patch), as it was trained on."""
        volume_of, place_of = np.divmod(samples, len(self._centres[0]))
        size = self.config.patch_size
        out = np.empty((len(samples), self.volumes[0].values.shape[0], size, size, size), np.float32)
        for epoch in np.unique(epochs):
            for index in np.unique(volume_of[epochs == epoch]):
                rows = np.flatnonzero((volume_of == index) & (epochs == epoch))
                parameters = sample_parameters(self.config, self.seed, int(epoch), samples[rows], view)
                out[rows] = self._render(int(index), self._centres[index][place_of[rows]], parameters)
        return out

    def originals(self, samples: np.ndarray) -> np.ndarray:
        """Samples as they lie in the scan, without any change: (B, C, patch, patch, patch)."""
        patches = []
        for index, place in zip(*np.divmod(samples, len(self._centres[0])), strict=True):
            parameters = identity_parameters(self.config.patch_size, 1)
            patches.append(self._render(int(index), self._centres[index][place][None], parameters)[0])
        return np.stack(patches)

    def _render(self, index: int, centres: np.ndarray, parameters: ViewParameters) -> np.ndarray:
        volume = self.volumes[index]
        scaling = {"scale": volume.scale, "offset": volume.offset, "num_threads": self.num_threads}
        return apply_parameters(volume.values, centres, parameters, self.config.patch_size, **scaling)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
        return self._order[1]


def _foreground_voxels(volume: StoredVolume, count: int, seed: int, index: int) -> np.ndarray:
    voxels = np.flatnonzero(volume.foreground())
    if not len(voxels):
        raise DataError(f"scan {index} has no foreground; look at it")
    chosen = np.random.default_rng([seed, index]).choice(voxels, count, replace=len(voxels) < count)
    return np.stack(np.unravel_index(chosen, volume.values.shape[1:]), axis=1).astype(np.float32)
