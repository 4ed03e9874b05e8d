"""How often each language, site or modality is drawn, so that a small one is neither lost nor worn out."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def sampling_shares(sizes: Mapping[Name, int], temperature: float) -> dict[Name, float]:
    """Share of the samples that each group gets: its size to the power `1 / temperature`, normalised.

    Temperature 1 keeps the data's own proportions; a large one draws all groups alike. XLM-R's exponent
    of 0.3 (Conneau et al., 2020, arXiv:1911.02116) is a temperature of 3.3.

    Args:
        sizes: Samples (texts, tokens or subjects) of each group, above 0.
        temperature: At least 1.
    """
    assert temperature >= 1
    weights = {name: size ** (1 / temperature) for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
