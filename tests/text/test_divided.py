"""The cache of divided corpora: private, and never of other data than those that lie there."""

import stat
from pathlib import Path

import pandas as pd
import pytest

from toolkit.cards import load_card
from toolkit.finetune import text_tasks
from toolkit.text import divide_corpora, divided

CARD = """---
pretty_name: Test
license: other
language: [en]
fewlabel:
  source: {kind: path, path: .}
  reader: [{format: lines, member: "*.txt"}]
  split: {unit: text}
  personal_data: {status: none, consent: invented}
---
# Test
"""


def test_changed_data_and_formats_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "card.md").write_text(CARD, encoding="utf-8")
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    cards, cache = [load_card(tmp_path / "card.md")], tmp_path / "run" / "corpora"

    def texts() -> list[str]:
        return divide_corpora(cards, 0, cache).all_train.texts

    assert texts() == texts() == ["one"]
    (folder,) = cache.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "a.txt").write_text("two\n", encoding="utf-8")
    assert texts() == ["two"]
    monkeypatch.setattr(divided, "FORMAT", divided.FORMAT + 1)
    assert texts() == ["two"]
    assert len(list(cache.iterdir())) == 3


MESSAGES = """---
pretty_name: Test
license: other
language: [en, sl]
fewlabel:
  source: {kind: path, path: NAME.csv}
  members: [{path: NAME.csv}]
  reader: [{format: table, member: NAME.csv, text: text, language: language, group: message}]
  split: {unit: group, test_share: 0.2, stratify: [language]}
  personal_data: {status: none, consent: invented}
---
# Test
"""


def test_what_is_in_no_known_language_is_compared_with_every_test(tmp_path: Path) -> None:
    texts = [" ".join(f"{(9 * n + word) * 7919 % 10007:05d}" for word in range(9)) for n in range(100)]
    for name, language in (("one", "sl"), ("other", "und")):
        frame = pd.DataFrame({"text": texts, "language": language, "message": range(100)})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        card = MESSAGES.replace("NAME", name).replace("[en, sl]", f"[{language}]")
        (tmp_path / f"{name}.md").write_text(card, encoding="utf-8")
    corpora = divide_corpora([load_card(tmp_path / f"{name}.md") for name in ("one", "other")], 0, tmp_path / "corpora")
    held_out = {text for corpus in corpora.test.values() for text in corpus.texts}
    assert len(held_out) >= 20
    for corpus in corpora.train.values():
        assert len(corpus) >= 60 and not held_out & set(corpus.texts)


def test_whole_messages_are_held_out_where_nothing_has_a_label(tmp_path: Path) -> None:
    """With their translations; and nothing that is nearly a held-out text is trained on, whichever card it is from."""
    numbers = [f"{number * 7919 % 10007:05d}" for number in range(300)]
    texts = [" ".join(numbers[3 * n : 3 * n + 3]) for n in range(100)]
    rows = [(f"{language} {text}", language, n) for n, text in enumerate(texts) for language in ("en", "sl")]
    nearly = [(f"{text}x", language, n + 1000) for text, language, n in rows]
    own = [row for row in nearly if row[1] == "sl"]
    for name, part in (("one", rows + own), ("other", [row for row in nearly if row[1] == "en"])):
        pd.DataFrame(part, columns=["text", "language", "message"]).to_csv(tmp_path / f"{name}.csv", index=False)
        (tmp_path / f"{name}.md").write_text(MESSAGES.replace("NAME", name), encoding="utf-8")
    cards = [load_card(tmp_path / f"{name}.md") for name in ("one", "other")]

    corpora = divide_corpora(cards, 0, tmp_path / "corpora")
    test, train = corpora.test["one"], corpora.train["one"]
    assert len(set(test.groups)) == 40  # a fifth of 200
    assert not set(test.groups) & set(train.groups)
    whole = test.frame.groupby("group")["language"].agg(lambda languages: "".join(sorted(languages)))
    assert set(whole) == {"ensl", "sl"} and (whole == "ensl").sum() == 20  # the card's languages in proportion
    held_out = {text.rstrip("x") for corpus in corpora.test.values() for text in corpus.texts}
    assert not held_out & {text.rstrip("x") for text in corpora.all_train.texts}
    assert divide_corpora(cards, 0, tmp_path / "elsewhere").test["one"].texts == test.texts
    assert divide_corpora(cards, 1, tmp_path / "corpora").test["one"].texts != test.texts
    assert text_tasks(corpora, "nothing") == []
