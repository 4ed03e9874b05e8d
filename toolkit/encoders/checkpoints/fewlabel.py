"""Encoders that fewlabel itself saved: the folder `encoder` of a run, or the `model.safetensors` in it.

Any of our networks; the names are its own, behind `network.`.
"""

from toolkit.encoders.checkpoints.origin import ANY_NETWORK, KeyMap, Origin

FEWLABEL = Origin("fewlabel", {ANY_NETWORK: KeyMap(prefix="network.")})
