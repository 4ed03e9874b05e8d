"""MONAI's self-supervised release of Swin UNETR's encoder (Tang et al. 2022, CVPR, arXiv:2111.14791).

`model_swinvit.pt` (release 0.8.1 of MONAI-extra-test-data) holds `state_dict`; its names lie under `module.` without a
`swinViT.`, the two layers of each MLP are `fc1` and `fc2` where MONAI says `linear1` and `linear2`, and beside the
encoder there are heads for rotation, contrast and reconstruction and a last norm (Project-MONAI/research-contributions,
issues 150 and 268; `SwinUNETR.load_from` of MONAI). Training code of that project saves other prefixes: `swin_vit.`
before its pull request 88, `swinViT.` since.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.encoders.checkpoints.origin import KeyMap, Origin, read_state_dict


def _read(contents: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    return {
        name.replace("swin_vit.", "swinViT.", 1): tensor for name, tensor in read_state_dict(contents, path).items()
    }


SWIN_UNETR_SSL = Origin(
    "swin_unetr_ssl",
    {
        "swin_unetr": KeyMap(
            prefix="swinViT.",
            heads=(r"rotation_", r"contrastive_", r"conv\.", r"norm\.", r"mask_token"),
            renames=((r"\.mlp\.fc([12])\.", r".mlp.linear\1."),),
            stem=("patch_embed.proj.weight",),
        )
    },
    _read,
)
