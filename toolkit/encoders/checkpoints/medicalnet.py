"""Tencent's MedicalNet: 3D ResNets pretrained on segmentation (Chen, Ma & Zheng 2019, arXiv:1904.00625).

A file such as `resnet_10_23dataset.pth` holds `state_dict` with `module.` in front of every name, in MONAI's names:
`conv1` (one channel, 7^3, stride 2, no bias), `bn1`, `layer1` to `layer4`; training checkpoints also `conv_seg`, the
decoder. By its README (github.com/Tencent/MedicalNet) depths 18 and 34 have shortcuts of type A, which hold no
weights, and 10, 50 and deeper ones of type B; its code gives the latter no bias. So a network for these weights is

    encoder: {name: resnet, depth: 18, shortcut: A, dilated: true}

Stages 3 and 4 of MedicalNet do not halve the map: their first stride is 1, and their kernels are dilated by 2 and 4
(`med3d/models/resnet.py` there). The weights fit a ResNet with strides too, and MONAI loads them so, but it is then
another function than the one that was trained.
"""

from toolkit.encoders.checkpoints.origin import KeyMap, Origin

MEDICALNET = Origin("medicalnet", {"resnet": KeyMap(heads=(r"conv_seg\.", r"fc\."), stem=("conv1.weight",))})
