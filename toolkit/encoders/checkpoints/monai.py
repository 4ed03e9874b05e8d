"""State dicts of MONAI's own networks: ResNet, DenseNet, SegResNet, SegResNetDS and its encoder, SwinUNETR.

Our networks hold MONAI's modules, so the names are the same but for what is no encoder: classifiers, decoders, and the
`swinViT.` and `encoder.` before the encoders of SwinUNETR and SegResNetDS. The file is a bare state dict, or has it
under `state_dict`, `model_state_dict` or `model`, as MONAI's bundles and tutorials save it.
"""

from toolkit.encoders.checkpoints.origin import KeyMap, Origin

RESNET = KeyMap(heads=(r"fc\.",), stem=("conv1.weight",))

MONAI = Origin(
    "monai",
    {
        "small_resnet": RESNET,
        "resnet": RESNET,
        "densenet": KeyMap(heads=(r"class_layers\.",), stem=("features.conv0.weight",)),
        "segresnet": KeyMap(
            heads=(r"up_layers\.", r"up_samples\.", r"conv_final\.", r"vae_"), stem=("convInit.conv.weight",)
        ),
        "segresnet_ds": KeyMap(prefix="encoder.", stem=("conv_init.weight",)),
        "swin_unetr": KeyMap(prefix="swinViT.", stem=("patch_embed.proj.weight",)),
    },
)
