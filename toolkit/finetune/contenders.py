"""The methods that every study compares, by their names in `results.csv`."""

from toolkit.console import log
from toolkit.encoders.scan import ScanEncoder
from toolkit.encoders.text import TextEncoder
from toolkit.finetune.baselines import (
    EXTERNAL_REMEDY,
    ExternalText,
    KMeansFeatures,
    Majority,
    NearestPosition,
    PrincipalComponents,
    Raw,
)
from toolkit.finetune.frozen import FrozenEncoder, random_encoder
from toolkit.finetune.study import Method
from toolkit.finetune.trained import FineTune, Scratch, TrainedConfig


def lineup(
    encoder: ScanEncoder | TextEncoder, pretraining: str, scratch: TrainedConfig, finetune: TrainedConfig
) -> list[Method]:
    """Baselines, references and the pretrained encoder, for tasks of its leg.

    Args:
        encoder: Pretrained.
        pretraining: How, for the column of that name.
        scratch: How networks are trained from random weights.
        finetune: How they are trained from the pretrained ones.
    """
    methods: list[Method] = [
        Majority(),
        Raw(),
        PrincipalComponents(),
        KMeansFeatures(),
        random_encoder(encoder),
        Scratch(encoder, scratch),
        FrozenEncoder(encoder, pretraining),
        FineTune(encoder, pretraining, finetune),
    ]
    if isinstance(encoder, ScanEncoder):
        methods.append(NearestPosition())
    elif ExternalText.is_installed():
        methods.append(ExternalText())
    else:
        log.info("external: left out; %s adds a public encoder as a reference line", EXTERNAL_REMEDY)
    return methods
