import pytest
import torch
from pydantic import ValidationError
from transformers import AutoConfig, AutoModel

from toolkit.encoders.text import TextEncoder, TextEncoderConfig
from toolkit.encoders.text.architecture import start_from_spectral
from toolkit.errors import ConfigError
from toolkit.text.tokenizer import TextTokenizer


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden_size": 30, "num_heads": 4}, "num_heads: 4 do not divide"),
        ({"architecture": "modernbert", "hidden_size": 12, "num_heads": 4}, "even width"),
        ({"embedding_size": 64}, "only electra"),
        ({"architecture": "electra", "hidden_size": 64, "embedding_size": 128}, "above hidden_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TextEncoderConfig(**settings)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert", "electra"])
def test_ways_to_compute_attention_agree(kind: str, tokenizer: TextTokenizer, texts: list[str]) -> None:
    features = {}
    for way in ("sdpa", "eager"):
        config = TextEncoderConfig(
            architecture=kind, num_layers=2, hidden_size=16, num_heads=2, attn_implementation=way
        )
        encoder = TextEncoder.from_scratch(config, tokenizer).eval()
        assert encoder.model.config._attn_implementation == way
        features[way] = encoder(encoder.collate(texts)).last
    torch.testing.assert_close(features["sdpa"], features["eager"], rtol=1e-4, atol=1e-5)


def test_attention_that_this_machine_cannot_compute_is_one_line(tokenizer: TextTokenizer) -> None:
    config = TextEncoderConfig(num_layers=1, hidden_size=16, num_heads=2, attn_implementation="flash_attention_2")
    with pytest.raises(ConfigError, match=r"encoder.attn_implementation: flash_attention_2") as caught:
        TextEncoder.from_scratch(config, tokenizer)
    assert "\n" not in str(caught.value)


def test_only_known_blocks_start_from_spectral_vectors() -> None:
    model = AutoModel.from_config(
        AutoConfig.for_model("distilbert", vocab_size=20, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
    )
    with pytest.raises(ConfigError, match="distilbert cannot start from spectral vectors"):
        start_from_spectral(model, torch.ones(20, 4))
