"""Loss and bits per character, against the definition spelt out with transformers' own heads in float64."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from toolkit.encoders.text import TextEncoder, TextEncoderConfig, open_encoder
from toolkit.encoders.text.likelihood import NUM_FOLDS, score_texts
from toolkit.errors import CheckpointError
from toolkit.text.tokenizer import TextTokenizer

SPACED = [
    "the film is good.",
    "this book was not bad, really",
    "hotel ini je dober buruk sekali the film was really unheard of, again and again!",
    "",
]


def with_head(tokenizer: TextTokenizer, architecture: str = "bert", max_length: int = 128) -> TextEncoder:
    """An encoder with a head, both with random weights large enough that predictions differ."""
    config = TextEncoderConfig(
        architecture=architecture, num_layers=2, hidden_size=16, num_heads=2, max_length=max_length
    )
    encoder = TextEncoder.from_scratch(config, tokenizer, seed=1)
    head = encoder.take_lm_head()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *head.parameters()]:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return encoder.eval()


def log_probabilities(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    return (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert"])
def test_masked_bits_are_those_of_the_definition(tokenizer: TextTokenizer, tmp_path: Path, architecture: str) -> None:
    encoder = with_head(tokenizer, architecture)
    encoder.save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    special = tokenizer.special
    scores = score_texts(encoder, SPACED, batch_size=5)
    for number, text in enumerate(SPACED):
        words = tokenizer.encode(text.split())  # pieces do not cross spaces, so words can be taken one by one
        bits = loss = 0.0
        for fold in range(NUM_FOLDS):
            for step in range(max(map(len, words), default=0)):
                ids, asked = [special.bos], []
                for place, word in enumerate(words):
                    for rank, token in enumerate(word):
                        hidden = place % NUM_FOLDS == fold and rank >= step
                        if hidden:
                            asked.append((len(ids), token, rank))
                        ids.append(special.mask if hidden else token)
                ids.append(special.eos)
                log_p = log_probabilities(model, ids)
                bits -= sum(log_p[at, token] for at, token, rank in asked if rank == step) / np.log(2)
                loss -= sum(log_p[at, token] for at, token, _ in asked if step == 0)
        assert scores.bits[number] == pytest.approx(bits, rel=1e-4, abs=1e-9)
        assert scores.loss[number] == pytest.approx(loss, rel=1e-4, abs=1e-9)
        assert scores.tokens[number] == sum(map(len, words))
        assert scores.characters[number] == len(text)
    assert scores.is_lossless.all()


def test_causal_bits_are_the_code_length_of_the_text(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    encoder = with_head(tokenizer)
    encoder.set_causal()
    encoder.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    scores = score_texts(TextEncoder.from_pretrained(tmp_path), SPACED[:3])
    for number, text in enumerate(SPACED[:3]):
        (ids,) = tokenizer.encode([text])
        ids = [tokenizer.special.bos, *ids, tokenizer.special.eos]
        nats = -sum(log_probabilities(model, ids)[at, token] for at, token in enumerate(ids[1:]))
        assert scores.bits[number] == pytest.approx(nats / np.log(2), rel=1e-4)
        assert scores.loss[number] == pytest.approx(nats, rel=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder_that_knows_nothing_pays_for_every_token_alike(tokenizer: TextTokenizer, causal: bool) -> None:
    encoder = with_head(tokenizer, max_length=12)  # the longest text takes several windows
    if causal:
        encoder.set_causal()
    with torch.no_grad():
        encoder.token_embeddings.zero_()
        encoder.lm_head.bias.zero_()
    texts = [*SPACED, "这是一个测试，没有空格。 👍🏽", "Tie\u0302\u0301ng\t Vie\u0323\u0302t"]
    scores = score_texts(encoder, texts)
    lengths = np.array([len(ids) + causal * bool(ids) for ids in tokenizer.encode(texts)])
    np.testing.assert_array_equal(scores.tokens, lengths)
    np.testing.assert_allclose(scores.bits, lengths * np.log2(encoder.vocab_size), rtol=1e-6)
    np.testing.assert_allclose(scores.loss, lengths * np.log(encoder.vocab_size), rtol=1e-6)


def test_batches_change_nothing_and_training_mode_is_left_as_it_was(tokenizer: TextTokenizer) -> None:
    encoder = with_head(tokenizer).train()
    one, other = (score_texts(encoder, SPACED, batch_size=size) for size in (1, 64))
    np.testing.assert_allclose(one.bits, other.bits, rtol=1e-5)
    assert encoder.training


def test_what_a_tokenizer_cannot_spell_is_charged_by_bytes(make_foreign: Callable[..., Path]) -> None:
    encoder = open_encoder(make_foreign("bert"))
    unknown = encoder.tokenizer.special.unk
    text, other = "the film ☃☃", "the film is"
    assert unknown in encoder.tokenizer.encode([text])[0] and unknown not in encoder.tokenizer.encode([other])[0]
    with torch.no_grad():
        encoder.token_embeddings.zero_()
        encoder.lm_head.bias.zero_()
    scores = score_texts(encoder, [text, other])
    lengths = [len(ids) for ids in encoder.tokenizer.encode([text, other])]
    expected = np.array(lengths) * np.log2(encoder.vocab_size) + [8 * len("☃☃".encode()), 0]
    np.testing.assert_allclose(scores.bits, expected, rtol=1e-6)
    assert scores.is_lossless.tolist() == [False, True]


def test_an_encoder_without_a_head_is_refused(tokenizer: TextTokenizer) -> None:
    config = TextEncoderConfig(num_layers=1, hidden_size=8, num_heads=2)
    with pytest.raises(CheckpointError, match=r"no language-model head.*mlm or clm"):
        score_texts(TextEncoder.from_scratch(config, tokenizer), SPACED)
