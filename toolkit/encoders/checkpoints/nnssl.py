"""Checkpoints of nnssl: ResEnc-L encoders of the OpenMind benchmark (Wald et al. 2024, arXiv:2412.17041).

A `.pth` of nnssl (github.com/MIC-DKFZ/nnssl) holds `network_weights`, the whole pretraining network, and
`nnssl_adaptation_plan`, which says where the encoder is: `key_to_stem` (`encoder.stem`) and `key_to_encoder`
(`encoder.stages`) in that of ResEnc-L. The decoder is left out. ResEnc-L has six stages of 32 to 320 channels with 1,
3, 4, 6, 6 and 6 blocks, 3^3 kernels and strides of 2, instance norm and leaky ReLU; its input is one channel at 1 mm,
each scan less its mean and divided by its deviation. The transformers among these files (Primus) are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.encoders.checkpoints.files import state_dict_in
from toolkit.encoders.checkpoints.origin import KeyMap, Origin
from toolkit.errors import CheckpointError

STEM, STAGES = "encoder.stem", "encoder.stages"


def _read(contents: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Stem and stages under `encoder.`, wherever the plan says that they lie."""
    plan = contents.get("nnssl_adaptation_plan") or {}
    architecture = (plan.get("architecture_plans") or {}).get("arch_class_name", "ResEncL")
    if architecture not in ("ResEncL", "ResidualEncoderUNet"):
        raise CheckpointError(f"{path}: its architecture is {architecture}; of nnssl's, ResEncL can be loaded")
    tensors = state_dict_in(contents, ("network_weights",), path)
    places = {plan.get("key_to_stem", STEM): STEM, plan.get("key_to_encoder", STAGES): STAGES}
    found = {
        name.replace(place, ours, 1): tensor
        for name, tensor in tensors.items()
        for place, ours in places.items()
        if name.startswith(f"{place}.")
    }
    if not found:
        raise CheckpointError(f"{path}: no tensor under {' or '.join(places)}; is it of another origin?")
    return found


NNSSL = Origin(
    "nnssl",
    {
        "resenc_unet": KeyMap(
            prefix="encoder.",
            # The same layers by two names: the file has both, our network the second.
            renames=(
                (r"\.conv\.(weight|bias)$", r".all_modules.0.\1"),
                (r"\.norm\.(weight|bias)$", r".all_modules.1.\1"),
            ),
            stem=("stem.convs.0.all_modules.0.weight",),
        )
    },
    _read,
)
