"""How often each language is drawn, so that a small one is neither lost nor worn out."""

from collections.abc import Mapping


def sampling_shares(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Share of the samples that each language gets: its size to the power `1 / temperature`, normalised.

    Temperature 1 keeps the corpus's own proportions; a large one draws all languages alike. XLM-R's exponent
    of 0.3 (Conneau et al., 2020, arXiv:1911.02116) is a temperature of 3.3.

    Args:
        sizes: Texts (or tokens) of each language, above 0.
        temperature: At least 1.
    """
    assert temperature >= 1
    weights = {language: size ** (1 / temperature) for language, size in sizes.items()}
    total = sum(weights.values())
    return {language: weight / total for language, weight in weights.items()}
