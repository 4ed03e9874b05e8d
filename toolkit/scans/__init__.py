"""Scans: volumes in, one geometry and intensity scale, a store, patches, views, and batches of them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# ruff: noqa: F401 - the imports below are for type checkers and editors
if TYPE_CHECKING:
    from toolkit.scans.atlas import (
        AtlasTaskConfig,
        RegisteredScan,
        RegisteredScans,
        atlas_task,
        read_registered,
    )
    from toolkit.scans.audit import Audit, AuditConfig, audit_folder
    from toolkit.scans.batches import PatchBatches
    from toolkit.scans.build import build_store, store_manifest
    from toolkit.scans.crops import CropConfig
    from toolkit.scans.labels import label_maps_digest, read_points
    from toolkit.scans.leakage import manifest_seen, refuse_held_out, refuse_pretrained_on
    from toolkit.scans.manifest import read_manifest
    from toolkit.scans.pairs import PairConfig, SameCrop
    from toolkit.scans.patches import balanced_centres, cut_patches, sliding_patches, world_positions
    from toolkit.scans.pictures import class_colours, overlay_png, views_png
    from toolkit.scans.preprocessing import Preprocessing, preprocess, resample, rescale
    from toolkit.scans.pretraining import PretrainingScans
    from toolkit.scans.sampler import SamplerConfig
    from toolkit.scans.store import StoredVolume, VolumeStore, store_key
    from toolkit.scans.views import (
        ViewConfig,
        ViewParameters,
        apply_parameters,
        identity_parameters,
        render_batch,
        sample_parameters,
        source_box,
    )
    from toolkit.scans.volumes import Volume, is_volume_file, read_volume

# What a name needs is loaded when it is first asked for: an audit or a build needs neither torch nor numba.
_NAMES = {
    "atlas": ("AtlasTaskConfig", "RegisteredScan", "RegisteredScans", "atlas_task", "read_registered"),
    "audit": ("Audit", "AuditConfig", "audit_folder"),
    "batches": ("PatchBatches",),
    "build": ("build_store", "store_manifest"),
    "crops": ("CropConfig",),
    "labels": ("label_maps_digest", "read_points"),
    "leakage": ("manifest_seen", "refuse_held_out", "refuse_pretrained_on"),
    "manifest": ("read_manifest",),
    "pairs": ("PairConfig", "SameCrop"),
    "patches": ("balanced_centres", "cut_patches", "sliding_patches", "world_positions"),
    "pictures": ("class_colours", "overlay_png", "views_png"),
    "pretraining": ("PretrainingScans",),
    "preprocessing": ("Preprocessing", "preprocess", "resample", "rescale"),
    "sampler": ("SamplerConfig",),
    "store": ("StoredVolume", "VolumeStore", "store_key"),
    "views": (
        "ViewConfig",
        "ViewParameters",
        "apply_parameters",
        "identity_parameters",
        "render_batch",
        "sample_parameters",
        "source_box",
    ),
    "volumes": ("Volume", "is_volume_file", "read_volume"),
}
_FILE_OF = {name: file for file, names in _NAMES.items() for name in names}
__all__ = sorted(_FILE_OF)


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    return value
