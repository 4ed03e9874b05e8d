"""Random views of a patch: parameters are drawn first, then a deterministic twin applies them, on the CPU or the GPU.

A view is fixed by (seed, epoch, sample, view), so any view of a past run can be made again and looked at.
"""

from toolkit.scans.views.apply import apply_parameters
from toolkit.scans.views.batched import render_batch
from toolkit.scans.views.boxes import source_box
from toolkit.scans.views.config import ViewConfig
from toolkit.scans.views.parameters import ViewParameters, identity_parameters
from toolkit.scans.views.sampling import sample_parameters
from toolkit.scans.views.words import describe

__all__ = [
    "ViewConfig",
    "ViewParameters",
    "apply_parameters",
    "describe",
    "identity_parameters",
    "render_batch",
    "sample_parameters",
    "source_box",
]
