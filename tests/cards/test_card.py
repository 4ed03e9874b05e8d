"""What a card may say, how mistakes in it are told, and that the cards of the repository are in order."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard

from toolkit.cards import list_cards, load_card
from toolkit.cards.front_matter import read_front_matter
from toolkit.cards.source import Member
from toolkit.errors import CardError

CARDS = Path(__file__).parents[2] / "data_cards"
PATH = "{kind: path, path: own}"


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_a_card_of_ours_loads_and_is_one_of_the_hub(path: Path) -> None:
    card = load_card(path)
    front, _ = read_front_matter(path)
    hub = DatasetCard.load(path)
    assert hub.data.to_dict() == yaml.safe_load(yaml.safe_dump(front)), "YAML 1.1 and 1.2 must read the same"
    assert len(card.prose.split()) > 100, "the prose says what the data are"
    assert [line for line in card.prose.splitlines() if line.startswith("# ")]


def test_cards_are_listed_without_the_template() -> None:
    names = [card.name for card in list_cards()]
    assert names == sorted(names)
    assert {"head_templates", "head_single", "sentiment_en", "messages_plone"} <= set(names)
    assert "TEMPLATE" not in names


def test_norwegian_is_a_language(write_card) -> None:
    path = write_card(PATH)
    path.write_text(path.read_text().replace("language: [en]", "language: [no, id]"))
    assert load_card(path).languages == ("no", "id")


def test_raw_values_become_classes(write_card) -> None:
    body = BODY.format(label_map="{low: [[1, 2], bad], high: [4, 5.0, good]}")
    card = load_card(write_card(PATH, body=body))
    assert card.class_names == ["low", "high"]
    raw = [1, "1.5", 2.0, "bad", "low", 4, "4.0", "5", "good ", "high", 3, "2.5", "", None, "nan", "other"]
    assert [card.label_of(value) for value in raw] == [0] * 5 + [1] * 5 + [-1] * 6


BODY = """\
  reader: [{{format: table, member: a.csv, text: text, label: mark}}]
  label_map: {label_map}
  split: {{unit: text}}
  personal_data: {{status: none, consent: none needed, columns_never_read: [name]}}
"""
GOOD = BODY.format(label_map="{}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("text: text", "text: text, quotd: yes", "reader.0.quotd: unknown key; did you mean 'quoted'?"),
        ("format: table", "format: tabel", "reader.0.format: no 'tabel'; did you mean 'table'?"),
        ("kind: path", "kind: paht", "source.kind: no 'paht'; did you mean 'path'?"),
        ("label_map: {}", "label_map: {a: [1], b: [[0, 3]]}", "label_map: 1 belongs to two classes: a, b"),
        ("label_map: {}", "label_map: {a: [[3, 0]]}", "label_map.a: [3.0, 0.0] is empty"),
        ("text: text", "text: name", "which personal_data.columns_never_read forbids"),
        ("unit: text", "unit: texts", "split.unit: input should be 'text', 'group' or 'subject'"),
        ("unit: text", "unit: group", "split.unit: group, but no reader names one; add `group: COLUMN`"),
        ("text: text", "text: text, constants: {label: good}", "'good' is not a class of label_map"),
        ("text: text", "text: text, replace: {'[': ''}", "'[' is not a regular expression"),
        ("text: text", "text: text, group: a, group_pattern: x", "exactly one group"),
        (
            PATH,
            "{kind: url, url: 'http://example.org/a', sha256: %s}" % ("a" * 64),
            "source.url: must be https://",
        ),
        (
            PATH,
            "{kind: url, url: 'https://example.org/a', sha256: x}",
            "source.sha256: string should match pattern",
        ),
        (PATH, "{kind: hf, repo: a/b, revision: main}", "source.revision: string should match pattern"),
        (PATH, f"{{kind: hf, repo: a/b, revision: '{'0' * 40}'}}", "name the files wanted from the Hub"),
        ("members: []", "members: [{path: a, name: ../a}]", "leaves the data folder"),
        ("members: []", "members: [{path: 'a/*', name: b}]", "name must have as many"),
        ("members: []", "members: [{path: a, name: b}]", "stay where they are and keep their names"),
        ("license: mit", "license: []", "license: must name at least one"),
        ("license: mit", "licence: mit", "licence: unknown key; did you mean 'license'?"),
        ("fewlabel:\n", "reader: []\nfewlabel:\n", "reader: belongs under fewlabel:"),
        ("pretty_name: Tiny", "pretty_name: [", "line 4: not valid YAML"),
        ("---\n\n# Tiny", "# Tiny", "no front matter"),
    ],
)
def test_a_mistake_is_told_in_one_line(write_card, old: str, new: str, message: str) -> None:
    path = write_card(PATH, body=GOOD)
    load_card(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CardError) as caught:
        load_card(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "reader",
    [
        "{format: table, member: a, text: text, group: patient}",
        "{format: lines, member: a, constants: {group: patient}}",
        "{format: gettext, member: '*.po', languages: {en: en}}",
        "{format: volume, member: a}",
    ],
)
def test_a_unit_that_a_reader_names(write_card, reader: str) -> None:
    body = GOOD.replace("{format: table, member: a.csv, text: text, label: mark}", reader)
    assert load_card(write_card(PATH, body=body.replace("unit: text", "unit: group"))).split.unit == "group"


def test_all_mistakes_at_once(write_card) -> None:
    path = write_card(PATH, body=GOOD.replace("unit: text", "unti: text").replace("consent", "consnet"))
    with pytest.raises(CardError) as caught:
        load_card(path)
    assert len(str(caught.value).splitlines()) == 4  # two unknown keys, and the two that they were meant to be


def test_no_such_card() -> None:
    with pytest.raises(CardError, match=r"did you mean 'sentiment_en'\?"):
        load_card("sentimant_en")
    with pytest.raises(CardError, match=r"no_such\.md"):
        load_card("no_such.md")


@pytest.mark.parametrize(
    ("path", "name", "inner", "placed"),
    [
        ("a/b.txt", None, "a/b.txt", "b.txt"),
        ("a/*/c_*.po", "*-*.po", "a/sl/c_x.po", "sl-x.po"),
        ("a/*/c.po", "*.po", "a/b/sl/c.po", None),
        ("z.zip!/a/*", "*", "a/b", "b"),
        ("a/*", None, "a/b", "a/b"),
    ],
)
def test_members_name_their_place(path: str, name: str | None, inner: str, placed: str | None) -> None:
    assert Member(path=path, name=name).place(inner) == placed
