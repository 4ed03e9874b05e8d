import json
import os
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from recipes.scan_pretrain import Config
from toolkit.cards import fetch, load_card
from toolkit.cli import app
from toolkit.cli.init import _pattern
from toolkit.cli.tables import describe_table
from toolkit.config import load
from toolkit.console import log
from toolkit.errors import DataError
from toolkit.text import read_corpus
from toolkit.text.divided import hold_out

SENTENCES = [f"Letter {number} tells of the {number * 617:b} garden." for number in range(40)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWLABEL_DEBUG", "")
    monkeypatch.setenv("FEWLABEL_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(log, "handlers", [])  # each runner has an error stream of its own
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


def frame() -> pd.DataFrame:
    """Forty letters by four people, half of them glad, with an address that nobody needs."""
    return pd.DataFrame(
        {
            "id": [f"{number:04d}" for number in range(40)],
            "email": [f"person{number}@example.org" for number in range(40)],
            "body": SENTENCES,
            "mood": ["glad", "sad"] * 20,
            "author": [f"a{number % 4}" for number in range(40)],
            "lang": ["en", "en", "sl", "sl"] * 10,
        }
    )


def write_csv(path: Path) -> None:
    path.write_text(frame().to_csv(index=False), encoding="utf-8")


def write_semicolons(path: Path) -> None:
    path.write_bytes(frame().to_csv(index=False, sep=";").replace("garden", "café").encode("cp1252"))


def write_excel_csv(path: Path) -> None:
    path.write_text(frame().to_csv(index=False), encoding="utf-8-sig")


def write_tsv(path: Path) -> None:
    path.write_text(frame().to_csv(index=False, sep="\t"), encoding="utf-8")


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in frame().to_dict("records")) + "\n", encoding="utf-8")


def write_parquet(path: Path) -> None:
    frame().to_parquet(path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".csv", write_csv),
        (".csv", write_semicolons),
        (".csv", write_excel_csv),
        (".tsv", write_tsv),
        (".jsonl", write_jsonl),
        (".parquet", write_parquet),
    ],
)
def test_a_table_becomes_a_card_that_reads_it(here: Path, suffix: str, write) -> None:
    write(here / f"My Letters{suffix}")
    outcome = init(f"My Letters{suffix}", "--out", "study")
    assert outcome.exit_code == 0, outcome.output
    for said in ("40 rows", "'body'", "glad (20), sad (20)", "'lang': en, sl", "'author'", "never read: email"):
        assert said in outcome.output
    card = load_card(here / "study/data_cards/my_letters.md")
    corpus = read_corpus(card, fetch(card))
    assert len(corpus) == 40
    assert corpus.class_names == ("glad", "sad")
    assert corpus.counts["labelled"] == 40
    assert set(corpus.languages) == {"en", "sl"}
    assert len(set(corpus.groups)) == 4
    assert (card.split.unit, card.personal_data.columns_never_read) == ("group", ("email",))
    assert any("café" in text or "garden" in text for text in corpus.texts)


def test_the_next_command_is_the_launch_line_of_the_configuration(here: Path) -> None:
    write_csv(here / "letters.csv")
    shown = init("letters.csv", "--out", "study").output.splitlines()[-1]
    first = (here / "study/configs/text_pretrain/letters.yaml").read_text().splitlines()[0]
    assert shown.removeprefix("next").strip() == "cd study && " + first.removeprefix("# ")


def test_nothing_is_overwritten_and_the_source_is_left_alone(here: Path) -> None:
    write_csv(here / "letters.csv")
    before = (here / "letters.csv").read_bytes()
    assert init("letters.csv").exit_code == 0
    (here / "data_cards/letters.md").write_text("mine")
    outcome = init("letters.csv")
    assert outcome.exit_code == 1
    assert "data_cards/letters.md is there already" in outcome.output
    assert (here / "data_cards/letters.md").read_text() == "mine"
    assert (here / "letters.csv").read_bytes() == before
    assert init("letters.csv", "--name", "again").exit_code == 0


def test_columns_may_be_named(here: Path) -> None:
    write_csv(here / "letters.csv")
    table = describe_table(here / "letters.csv", text="email", label="lang")
    assert (table.text, table.label, table.language) == ("email", "lang", None)


def test_texts_without_labels_and_without_a_language(here: Path) -> None:
    frame()[["id", "body"]].to_csv("plain.csv", index=False)
    outcome = init("plain.csv")
    assert "none found; --label COLUMN names one" in outcome.output
    assert "--language CODE names it" in outcome.output
    card = load_card(here / "data_cards/plain.md")
    assert (card.label_map, card.languages, card.split.unit) == ({}, ("und",), "text")
    assert init("plain.csv", "--name", "slovene", "--language", "sl").exit_code == 0
    assert load_card(here / "data_cards/slovene.md").languages == ("sl",)


def test_labels_that_yaml_could_misread_stay_what_they_are(here: Path) -> None:
    pd.DataFrame({"text": SENTENCES, "label": ["no", "yes", "1e3", "null"] * 10}).to_csv("votes.csv", index=False)
    assert init("votes.csv", "--language", "en").exit_code == 0
    card = load_card(here / "data_cards/votes.md")
    assert sorted(read_corpus(card, fetch(card)).class_names) == ["1e3", "no", "null", "yes"]


def test_empty_cells_of_the_language_are_undetermined(here: Path) -> None:
    frame().assign(lang=["de", "en", "de", " "] * 10).to_csv("gaps.csv", index=False)
    assert "und stands for the empty cells" in init("gaps.csv").output
    card = load_card(here / "data_cards/gaps.md")
    assert card.languages == ("de", "en", "und")
    assert read_corpus(card, fetch(card)).languages.tolist() == ["de", "en", "de", "und"] * 10


@pytest.mark.parametrize(
    ("moods", "classes"),
    [(["glad"] * 19 + ["sad"] * 19 + ["odd"] * 2, ["glad", "sad"]), (["glad"] * 38 + ["odd"] * 2, [])],
)
def test_rare_classes_are_left_out(here: Path, moods: list[str], classes: list[str]) -> None:
    frame().assign(mood=moods).to_csv("rare.csv", index=False)
    said = init("rare.csv").output
    assert "left out of label_map: odd" in said
    assert ("texts count as unlabelled" in said) == (not classes)
    card = load_card(here / "data_cards/rare.md")
    assert card.class_names == classes
    _, test = hold_out(read_corpus(card, fetch(card)), card.split, seed=0)
    assert (test is None) == (not classes)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("text,label\n", [], "the corpus is empty"),
        ("a,b\n1,2\n3,4\n", [], "no column looks like texts; say which with --text; it has a, b"),
        ("text,stars\nA long enough text.,1\n", ["--text", "txt"], "no column 'txt'; did you mean 'text'?"),
        (
            "text,price\n" + "".join(f"Text number {n:03d}.,{n}\n" for n in range(60)),
            ["--label", "price"],
            "60 values",
        ),
        ("", [], "is not a table that can be read"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(here: Path, content: str, arguments: list[str], message: str) -> None:
    (here / "bad.csv").write_text(content)
    outcome = init("bad.csv", *arguments)
    assert outcome.exit_code == 1
    assert message in outcome.output
    assert "Traceback" not in outcome.output
    assert not (here / "data_cards").exists()


def test_a_place_where_no_folder_can_be_is_one_line(here: Path) -> None:
    write_csv(here / "letters.csv")
    result = init("letters.csv", "--out", "/proc/nope")
    assert result.exit_code == 1
    assert "letters.md: cannot be written (No such file or directory); give another --out, or" in result.output


def test_other_sources_are_refused(here: Path) -> None:
    (here / "letter.docx").write_bytes(b"PK")
    assert "not a table of texts" in init("letter.docx").output
    assert "no such file or folder" in init("nowhere").output
    (here / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="is not a table"):
        describe_table(here / "broken.parquet")


@pytest.fixture
def scans(here: Path) -> Path:
    rng = np.random.default_rng(0)
    for person in ("sub-anna", "sub-bert"):
        for session in ("ses-1", "ses-2"):
            path = here / "mri" / person / session / f"{person}_{session}_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(rng.random((9, 8, 7), np.float32), np.diag([2, 2, 3, 1.0])), path)
    (here / "mri/sub-bert/ses-2/broken.nii").write_bytes(b"not a scan")
    return here / "mri"


def test_a_folder_of_scans_becomes_a_private_manifest_and_a_card_without_names(here: Path, scans: Path) -> None:
    outcome = init("mri", "--out", "study")
    assert outcome.exit_code == 0, outcome.output
    for said in ("4 scans of 2 people", "2x2x3 mm", "refused  1", "fewlabel run scan_pretrain"):
        assert said in outcome.output
    private = here / "study/private/mri"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(pd.read_csv(private / "manifest.csv")) == 4
    card = load_card(here / "study/data_cards/mri.md")
    assert [reader.member for reader in card.reader] == ["*/*/*.nii.gz"]
    assert len(list(fetch(card).glob("*/*/*.nii.gz"))) == 4
    public = (here / "study/data_cards/mri.md").read_text() + (
        here / "study/configs/scan_pretrain/mri.yaml"
    ).read_text()
    assert "anna" not in public
    assert "bert" not in public


def test_a_card_says_nothing_of_where_the_scans_lie(here: Path, scans: Path) -> None:
    """The path may name a person or a ward; the private folder alone knows it."""
    (here / "doe_jane").mkdir()
    scans.rename(here / "doe_jane/mri")
    assert init("doe_jane/mri", "--out", "study").exit_code == 0
    shown = [path for path in (here / "study").rglob("*") if path.suffix in (".md", ".yaml")]
    assert len(shown) == 2 and not any("doe_jane" in path.read_text() for path in shown)
    assert fetch(load_card(here / "study/data_cards/mri.md")) == here / "doe_jane/mri"


def test_nothing_is_held_out_and_what_to_do_about_it(here: Path, scans: Path) -> None:
    said = init("mri", "--out", "study").output
    assert "nothing is held out to be tested on" in said
    assert load_card(here / "study/data_cards/mri.md").split.test_share is None
    path = here / "study/configs/scan_pretrain/mri.yaml"
    command = next(line for line in path.read_text().splitlines() if "fewlabel data split" in line)
    assert command.removeprefix("#").strip() in " ".join(said.split())
    os.chdir(here / "study")
    done = CliRunner().invoke(app, [*command.removeprefix("#").split()[1:], "--test-share", "0.5"])
    assert done.exit_code == 0, done.output
    lines = path.read_text().splitlines()
    first = lines.index("#   manifest: private/mri/split/train.csv")
    lines[first : first + 3] = [lines[first].removeprefix("#   "), lines[first + 1].removeprefix("#   ")]
    path.write_text("\n".join(lines))
    config = load(path, Config)
    assert len(pd.read_csv(config.manifest)) == len(pd.read_csv(config.held_out[0])) == 2


def test_flat_names_are_warned_of_and_a_pattern_joins_them(here: Path) -> None:
    (here / "flat").mkdir()
    rng = np.random.default_rng(0)
    for name in ("1234_T1", "1234_FLAIR", "5678_T1"):
        nib.save(nib.Nifti1Image(rng.random((9, 8, 7), np.float32), np.eye(4)), here / "flat" / f"{name}.nii")
    said = init("flat", "--out", "guessed").output
    assert "3 scans of 3 people" in said and "3 subject guessed from the path" in said and "--subject REGEX" in said
    said = init("flat", "--out", "named", "--subject", r"([^/_]+)_[^/]*$").output
    assert "3 scans of 2 people" in said and "guessed" not in said
    wrong = init("flat", "--out", "wrong", "--subject", "[^_]+").output
    assert "--subject" in wrong and "has no group" in wrong and not (here / "wrong").exists()
    write_csv(here / "letters.csv")
    assert "--subject is for a folder of scans" in init("letters.csv", "--subject", "(a)").output


def test_a_manifest_that_somebody_filled_in_is_kept(here: Path, scans: Path) -> None:
    manifest = here / "private/mri/manifest.csv"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("mine")
    assert init("mri").exit_code == 1
    assert manifest.read_text() == "mine"


def test_columns_make_no_sense_for_scans(scans: Path) -> None:
    assert "is a folder of scans" in init("mri", "--text", "body").output


def test_what_init_writes_is_valid(here: Path, scans: Path) -> None:
    write_csv(here / "letters.csv")
    init("letters.csv", "--out", "study")
    init("mri", "--out", "study")
    written = [str(path) for path in sorted((here / "study").rglob("*")) if path.suffix in (".md", ".yaml")]
    assert len(written) == 4
    outcome = CliRunner().invoke(app, ["validate", *written])
    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize(
    ("inside", "pattern"),
    [("study/DOE.JANE", "*/*"), ("a/b/scan.nii.gz", "*/*/*.nii.gz"), ("Jane.Doe.NRRD", "*.NRRD"), (".", "*")],
)
def test_a_pattern_keeps_only_the_ending_of_a_volume(inside: str, pattern: str) -> None:
    assert _pattern(Path(inside)) == pattern


@pytest.mark.parametrize(("low", "foreground"), [(-1000, "all"), (0, "otsu")])
def test_ct_counts_every_voxel(here: Path, low: int, foreground: str) -> None:
    (here / "mri").mkdir()
    image = nib.Nifti1Image(np.linspace(low, 400, 216, dtype=np.float32).reshape(6, 6, 6), np.eye(4))
    nib.save(image, here / "mri" / "one.nii.gz")
    outcome = init("mri")
    assert outcome.exit_code == 0, outcome.output
    assert ("CT? is a guess" in outcome.output) == ("all voxels count" in outcome.output) == (low < 0)
    assert load(here / "configs/scan_pretrain/mri.yaml", Config).preprocessing.foreground == foreground
