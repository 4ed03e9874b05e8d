from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from toolkit.encoders.text import TextEncoder, TextEncoderConfig, open_encoder, replace_vocabulary
from toolkit.encoders.text.vocabulary import focus_weights, likeness_weights, matching_pieces, sparsemax
from toolkit.text import SpectralConfig, TokenizerConfig, train_tokenizer
from toolkit.text.tokenizer import TextTokenizer

ONE = "red green blue yellow purple orange white black".split()  # noqa: SIM905
TWO = "one two three four five six seven eight nine".split()  # noqa: SIM905


def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    rng = np.random.default_rng(0)
    for scores in rng.normal(size=(6, 5)) * np.array([0.1, 0.5, 1, 1, 2, 4])[:, None]:
        nearest = minimize(
            lambda weights, scores=scores: np.square(weights - scores).sum(),
            np.full(5, 0.2),
            bounds=[(0, None)] * 5,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            options={"ftol": 1e-14},
        ).x
        np.testing.assert_allclose(sparsemax(scores[None])[0], nearest, atol=1e-6)


def test_a_new_piece_is_made_of_those_that_point_its_way() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0, 0], [2, 0.1], [0, 0], [-1, 0]], dtype=np.float32)
    weights = likeness_weights(vectors, np.array([4, 5]), np.array([0, 1, 2, 3, 6])).toarray()
    cosine = vectors[4] @ vectors[:3].T / np.linalg.norm(vectors[4]) / np.linalg.norm(vectors[:3], axis=1)
    np.testing.assert_allclose(weights[0], [*sparsemax(cosine[None])[0], 0, 0], atol=1e-6)
    assert weights[0, 0] > 0.4 and weights[0, 1] > 0.4 and weights[0, 2] == 0
    assert not weights[1].any()  # nothing is known of it


def test_each_language_speaks_for_its_own_pieces() -> None:
    """In one language 5 keeps the company of 0, in the other that of 1; it stands in the first three times as often."""
    first, second = [[0, 5, 2], [0, 2, 5], [3, 4, 3]], [[1, 5, 6], [7, 8, 7]]
    ids, languages = [*first * 3, *second], ["a"] * 9 + ["b"] * 2
    config = SpectralConfig(dim=4)
    known, new = np.array([0, 1, 2, 3, 6, 7]), np.array([5])
    both = focus_weights(ids, languages, 9, new, known, config, seed=0).toarray()[0]
    alone = focus_weights(second, ["b"] * 2, 9, new, known, config, seed=0).toarray()[0]
    assert both.sum() == pytest.approx(1) and alone.sum() == pytest.approx(1)
    assert both[1] + both[4] == pytest.approx(1 / 7 * (alone[1] + alone[4]), rel=1e-5) and both[0] > both[1]


@pytest.mark.parametrize("kind", ["xlm-roberta", "bert", "modernbert", "electra"])
def test_shared_pieces_go_on_computing_the_same(
    kind: str, make_foreign: Callable[..., Path], tokenizer: TextTokenizer, texts: list[str]
) -> None:
    """Other ids, and for XLM-R other position ids; the pieces that both know give the same hidden states and logits."""
    encoder = open_encoder(make_foreign(kind))
    ids = tokenizer.encode(texts)
    replaced, report = replace_vocabulary(encoder, tokenizer, ids, ["en"] * len(texts))
    assert replaced.tokenizer is tokenizer and replaced.vocab_size == len(tokenizer)
    assert report.special == 5 and report.copied > 20 and report.mixed > 0
    assert report.special + report.copied + report.mixed + report.drawn == len(tokenizer)
    assert str(report.mixed) in str(report)
    new, old, num_special = matching_pieces(encoder.tokenizer, tokenizer)
    regular = [
        {t.piece(index) for index in range(len(t)) if index not in t.special_ids} - {""}
        for t in (encoder.tokenizer, tokenizer)
    ]
    assert report.copied == len(new) - num_special == len(regular[0] & regular[1])
    assert all(tokenizer.piece(n) == encoder.tokenizer.piece(o) for n, o in zip(new[5:], old[5:], strict=True))
    new_ids, old_ids = (
        torch.tensor(
            [
                [t.special.bos, *shared[5:25], t.special.eos],
                [t.special.bos, *shared[5:24], t.special.eos, t.special.pad],
            ]
        )
        for t, shared in ((tokenizer, new), (encoder.tokenizer, old))
    )
    mask = (new_ids != tokenizer.special.pad).long()
    with torch.no_grad():
        ours = replaced({"input_ids": new_ids, "attention_mask": mask}).last
        theirs = encoder({"input_ids": old_ids, "attention_mask": mask}).last
        torch.testing.assert_close(ours[mask > 0], theirs[mask > 0], rtol=1e-5, atol=1e-5)
        logits = replaced.lm_head.logits(ours[0], replaced.token_embeddings)[:, new]
        expected = encoder.lm_head.logits(theirs[0], encoder.token_embeddings)[:, old]
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_its_own_vocabulary_changes_nothing(tokenizer: TextTokenizer, texts: list[str]) -> None:
    config = TextEncoderConfig(num_layers=1, hidden_size=16, num_heads=2)
    encoder = TextEncoder.from_scratch(config, tokenizer).eval()
    replaced, report = replace_vocabulary(encoder, tokenizer, tokenizer.encode(texts), ["en"] * len(texts))
    assert (report.mixed, report.drawn, report.dropped) == (0, 0, 0)
    np.testing.assert_array_equal(replaced.embed(texts), encoder.embed(texts))


def topics(rng: np.random.Generator, words: tuple[list[str], list[str]], num: int = 600) -> list[str]:
    return [" ".join(rng.choice(words[row % 2], 6)) for row in range(num)]


def test_new_pieces_land_among_their_like_and_random_ones_do_not(tmp_path: Path) -> None:
    """The old vocabulary has half of each topic's words, which point in one direction a topic."""
    rng = np.random.default_rng(0)
    old = train_tokenizer(
        topics(rng, (ONE[:4], TWO[:4])), TokenizerConfig(vocab_size=400, num_generated=50), tmp_path / "old"
    )
    texts = topics(rng, (ONE, TWO))
    new = train_tokenizer(texts, TokenizerConfig(vocab_size=400, num_generated=50), tmp_path / "new")
    encoder = TextEncoder.from_scratch(TextEncoderConfig(num_layers=1, hidden_size=16, num_heads=2), old)
    place = {tokenizer: {tokenizer.piece(i): i for i in range(len(tokenizer))} for tokenizer in (old, new)}
    directions = np.eye(16)[:2]
    with torch.no_grad():
        for topic, words in enumerate((ONE[:4], TWO[:4])):
            for word in words:
                encoder.token_embeddings[place[old][f"▁{word}"]] = torch.from_numpy(
                    directions[topic] + 0.1 * rng.normal(size=16)
                )
    ids, cosines = new.encode(texts), {}
    for method in ("focus", "random"):
        replaced, _ = replace_vocabulary(encoder, new, ids, ["en"] * len(texts), method=method)
        rows = replaced.token_embeddings.detach().numpy()
        fresh = [(topic, place[new][f"▁{word}"]) for topic, words in enumerate((ONE[4:], TWO[4:])) for word in words]
        cosines[method] = [
            (rows[index] @ directions[topic] - rows[index] @ directions[1 - topic]) / np.linalg.norm(rows[index])
            for topic, index in fresh
        ]
    assert min(cosines["focus"]) > 0.7
    assert abs(np.mean(cosines["random"])) < 0.35


def test_the_same_seed_draws_the_same_rows(tokenizer: TextTokenizer, make_foreign: Callable[..., Path]) -> None:
    encoder = open_encoder(make_foreign("bert"))
    rows = [
        replace_vocabulary(encoder, tokenizer, [], [], method="random", seed=seed)[0].token_embeddings
        for seed in (0, 0, 1)
    ]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])
    drawn = rows[0].detach().numpy()
    used = encoder.token_embeddings.detach().numpy()
    np.testing.assert_allclose(drawn.std(), used.std(), rtol=0.1)
