"""Scans: volumes in, one geometry and intensity scale, a store, patches, views, and batches of them."""

from toolkit.scans.atlas_task import (
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

__all__ = [
    "AtlasTaskConfig",
    "Audit",
    "AuditConfig",
    "CropConfig",
    "PairConfig",
    "PatchBatches",
    "Preprocessing",
    "RegisteredScan",
    "RegisteredScans",
    "SameCrop",
    "SamplerConfig",
    "StoredVolume",
    "ViewConfig",
    "ViewParameters",
    "Volume",
    "VolumeStore",
    "apply_parameters",
    "atlas_task",
    "audit_folder",
    "balanced_centres",
    "build_store",
    "class_colours",
    "cut_patches",
    "identity_parameters",
    "is_volume_file",
    "label_maps_digest",
    "manifest_seen",
    "overlay_png",
    "preprocess",
    "read_manifest",
    "read_points",
    "read_registered",
    "read_volume",
    "refuse_held_out",
    "refuse_pretrained_on",
    "render_batch",
    "resample",
    "rescale",
    "sample_parameters",
    "sliding_patches",
    "source_box",
    "store_key",
    "store_manifest",
    "views_png",
    "world_positions",
]
