"""What a pretraining learns from: the training texts of cards, and own files without what cards hold out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from toolkit.balance import BalanceConfig
from toolkit.errors import DataError
from toolkit.text import (
    MaskedBatches,
    MaskingConfig,
    PretrainingTexts,
    TokenizerConfig,
    TokenStore,
    batches_for,
    find_tokenizer,
    write_masked_shares,
)
from toolkit.text.pairs import PairBatches
from toolkit.text.tokenizer import TextTokenizer
from toolkit.training import TrainingConfig

CARD = """---
pretty_name: Test
license: other
language: [en, sl]
task_categories: [text-classification]
fewlabel:
  source: {kind: path, path: reviews.csv}
  members: [{path: reviews.csv}]
  reader: [{format: table, member: reviews.csv, text: text, language: language, label: label}]
  label_map: {bad: ["0"], good: ["1"]}
  split: {unit: text, test_share: 0.3}
  personal_data: {status: none, consent: invented}
---
# Test
"""


def review(number: int, language: str) -> str:
    """Nine words that nobody else has in this order."""
    rng = np.random.default_rng([number, language == "sl"])
    return " ".join("".join(rng.choice(list("bdgklmnprstaeio"), 6)) for _ in range(9))


@pytest.fixture
def card(tmp_path: Path) -> Path:
    rows = [(review(n, language), language, n % 2) for n in range(200) for language in ("en", "sl")]
    pd.DataFrame(rows, columns=["text", "language", "label"]).to_csv(tmp_path / "reviews.csv", index=False)
    (tmp_path / "card.md").write_text(CARD, encoding="utf-8")
    return tmp_path / "card.md"


@pytest.fixture
def own(tmp_path: Path, card: Path) -> Path:
    """All texts of the card again, one of its own, twice, and one in another language."""
    lines = [review(n, "en") for n in range(200)]
    (tmp_path / "own").mkdir()
    (tmp_path / "own/en.txt").write_text("\n".join([*lines, "quite another text", "quite another text"]), "utf-8")
    (tmp_path / "own/de.txt").write_text("ganz ein anderer Text\n", "utf-8")
    return tmp_path / "own"


def opened(tmp_path: Path, **config: object) -> "object":
    return PretrainingTexts.model_validate(config).open(0, tmp_path / "cache")


def test_own_texts_bring_no_held_out_text_back(tmp_path: Path, card: Path, own: Path) -> None:
    source = {"path": str(own), "language_pattern": r"([a-z]+)\.txt$"}
    texts = opened(tmp_path, cards=[str(card)], texts=[source])
    rows = list(texts)
    assert rows == list(texts)
    held_out = {text for corpus in texts.corpora.test.values() for text in corpus.texts}
    assert len(held_out) > 50
    found = Counter(row.text for row in rows)
    assert not held_out & found.keys() and max(found.values()) == 1
    added = found.keys() - set(texts.corpora.all_train.texts)
    assert added == {"quite another text", "ganz ein anderer Text"}
    groups = list(texts.groups)
    assert len(groups) == len(rows) and all(groups)


def test_a_held_out_text_is_known_under_any_language(
    tmp_path: Path, card: Path, own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of files that name no language, or a wrong one."""
    (own / "zz.txt").write_text("\n".join(f"{review(n, 'en')} x" for n in range(200)), "utf-8")  # nearly the same
    (own / "empty.txt").touch()
    found = {}
    for source in ({"path": str(own)}, {"path": str(own), "language": "en-US"}):
        with caplog.at_level("INFO", logger="fewlabel"):
            texts = opened(tmp_path, cards=[str(card)], texts=[source])
            found[source.get("language", "und")] = [row for row in texts if row.text.removesuffix(" x")]
        held_out = {text for corpus in texts.corpora.test.values() for text in corpus.texts}
        rows = found[source.get("language", "und")]
        assert not held_out & {row.text.removesuffix(" x") for row in rows}
    train = set(texts.corpora.all_train.texts)
    again = {code: sum(row.text in train for row in rows) - len(train) for code, rows in found.items()}
    assert again["und"] == 0 < again["en-US"]  # repeats of training texts, which are of no known language or another's
    assert "own: 403 read, 403 given" in caplog.text and "own: 1 files hold no text" in caplog.text


def test_only_the_languages_that_are_asked_for(tmp_path: Path, card: Path, own: Path) -> None:
    source = {"path": str(own), "language_pattern": r"([a-z]+)\.txt$"}
    texts = opened(tmp_path, cards=[str(card)], texts=[source], languages=["sl", "de"])
    assert {row.language for row in opened(tmp_path, cards=[str(card)], languages=["sl"])} == {"sl"}
    assert {row.language for row in texts} == {"sl", "de"}
    with pytest.raises(DataError, match="no texts in language 'dd'"):
        list(opened(tmp_path, cards=[str(card)], texts=[source], languages=["sl", "dd"]))


def test_own_texts_alone_are_enough_and_nothing_is_not(tmp_path: Path, own: Path) -> None:
    texts = opened(tmp_path, texts=[str(own)])
    assert len(list(texts)) == 202 and {row.language for row in texts} == {"und"}
    with pytest.raises(ValueError, match="cards, texts: give one of them at least"):
        PretrainingTexts()


def test_the_digest_follows_the_bytes(tmp_path: Path, own: Path) -> None:
    first = opened(tmp_path, texts=[str(own)]).digest
    assert opened(tmp_path, texts=[str(own)]).digest == first
    (own / "en.txt").write_text("something else\n", "utf-8")
    assert opened(tmp_path, texts=[str(own)]).digest != first


def test_a_tokenizer_is_trained_once_and_a_checkpoints_is_kept(
    tmp_path: Path, own: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, config = opened(tmp_path, texts=[str(own)]), TokenizerConfig(vocab_size=600)

    def find(before: TextTokenizer | None = None, vocabulary: str = "replace") -> TextTokenizer:
        return find_tokenizer(
            texts,
            config,
            tmp_path / "tokenizer",
            seed=0,
            before=before,
            vocabulary=vocabulary,  # type: ignore[arg-type]
        )

    assert find(tokenizer, "keep") is tokenizer
    first = find()
    monkeypatch.setattr("toolkit.text.pretraining.train_tokenizer", None)
    assert find().digest == first.digest != tokenizer.digest


def test_batches_are_those_that_the_method_asks_for(
    tmp_path: Path, tokenizer: TextTokenizer, sample_texts: list[str], sample_languages: list[str]
) -> None:
    frame = pd.DataFrame({"text": sample_texts, "language": sample_languages, "group": [i // 4 for i in range(112)]})
    frame.to_csv(tmp_path / "messages.csv", index=False)
    columns = {"text": "text", "language": "language", "group": "group"}
    texts = opened(tmp_path, texts=[{"path": str(tmp_path / "messages.csv"), "columns": columns}])
    store = TokenStore.write(texts, tokenizer, tmp_path / "tokens").cut(64)
    training = TrainingConfig(num_epochs=2, batch_size=8)
    others = {"masking": MaskingConfig(), "balance": BalanceConfig(), "seed": 0}
    for packed in (True, False):
        batches, known = batches_for(texts, store, tokenizer, training, pairing=None, packed=packed, **others)
        assert isinstance(batches, MaskedBatches) and batches.packed == packed
        assert known.num_epochs is None and known.num_steps == batches.num_steps == -(-batches.samples_per_epoch // 4)
    for pairing in ("translation", "segment_order"):
        batches, _ = batches_for(texts, store, tokenizer, training, pairing=pairing, packed=True, **others)
        assert isinstance(batches, PairBatches) and batches.batch(0)["segments"].max() == 1


def test_a_language_that_is_worn_out_is_warned_of(
    tmp_path: Path, tokenizer: TextTokenizer, sample_texts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [*((text, "en") for text in sample_texts), (sample_texts[0], "xx")]
    pd.DataFrame(rows, columns=["text", "language"]).to_csv(tmp_path / "t.csv", index=False)
    columns = {"text": "text", "language": "language"}
    texts = opened(tmp_path, texts=[{"path": str(tmp_path / "t.csv"), "columns": columns}])
    store = TokenStore.build(*zip(*rows, strict=True), tokenizer, 64)  # type: ignore[arg-type]

    def said(num_steps: int, balance: BalanceConfig) -> str:
        caplog.clear()
        training = TrainingConfig(num_steps=num_steps, batch_size=8)
        others = {"masking": MaskingConfig(), "balance": balance, "seed": 0}
        with caplog.at_level("WARNING", logger="fewlabel"):
            batches_for(texts, store, tokenizer, training, pairing=None, packed=False, **others)
        return caplog.text

    # By a temperature of 2, one of 113 texts is 8.6 % of all that is drawn.
    assert "xx (1 texts, each about 276 times); set balance.max_passes" in said(400, BalanceConfig())
    assert "en" not in said(400, BalanceConfig()).partition("stage: ")[2]
    assert said(100, BalanceConfig()) == said(400, BalanceConfig(max_passes=200)) == ""


def test_masks_are_counted_by_language(
    tmp_path: Path, tokenizer: TextTokenizer, sample_texts: list[str], sample_languages: list[str]
) -> None:
    store = TokenStore.build(sample_texts, sample_languages, tokenizer, 64)
    masking = MaskingConfig(unit="token", share=0.4)
    batches = MaskedBatches(store, tokenizer, masking, batch_size=8, seed=0, packed=True, num_steps=30)
    write_masked_shares(batches, 30, tmp_path / "masked.csv")
    table = pd.read_csv(tmp_path / "masked.csv")
    assert sorted(table["language"]) == ["en", "id", "sl", "zh"]
    assert table["masked_share"].between(0.33, 0.47).all()
