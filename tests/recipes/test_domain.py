"""The domain recipe on made-up data: what it leaves behind, and that killing it or running it again changes nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.recipes.conftest import Command
from tests.recipes.made_up import LANGUAGES, PATIENT, TEST_SUBJECT
from toolkit import load_encoder
from toolkit.assets import load_recipe
from toolkit.config import load

FEATURES = {"raw", "pca", "kmeans", "random", "ssl-probe"}
TRAINED = {"scratch", "ssl-finetune"}
LEGS = ("scans", "text")
TABLES = ("results.csv", "summary.csv", "comparisons.csv", "predictions.parquet")


def results_of(folder: Path) -> dict[str, bytes]:
    """All that two runs with one seed must have in common, bit by bit."""
    paths = [*folder.rglob("metrics.jsonl"), *folder.rglob("*.safetensors")]
    paths += [folder / part / name for part in ("", "scans/study", "text/study") for name in TABLES]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.exists()}


def assert_same_results(folder: Path, whole: Path) -> None:
    ours, expected = results_of(folder), results_of(whole)
    assert ours.keys() == expected.keys()
    assert [name for name in ours if ours[name] != expected[name]] == []


def test_the_run_folder_holds_what_was_agreed(whole: Path) -> None:
    of_run = {"config.yaml", "provenance.json", "timings.jsonl"}
    assert {path.name for path in whole.iterdir()} >= of_run | set(TABLES) | {"report.html", *LEGS}
    for leg in LEGS:
        assert {path.name for path in (whole / leg).iterdir()} >= of_run | {
            "metrics.jsonl",
            "checkpoints",
            "encoder",
            "README.md",
        }
        assert (whole / leg / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name:")
        assert list((whole / leg / "checkpoints").glob("step-*.pt"))
        assert {path.name for path in (whole / leg / "study").iterdir()} >= of_run | set(TABLES) | {"report.html"}
    assert [path for path in whole.rglob("*") if path.name.endswith((".tmp", ".partial"))] == []


def test_metrics_have_a_row_a_step_and_no_clock(whole: Path) -> None:
    for stage, steps in (("scans", 6), ("text", 6), ("text/stages/halves", 4)):
        rows = [json.loads(line) for line in (whole / stage / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(1, steps + 1))
        assert all({"loss", "lr", "embedding_std", "effective_rank"} <= row.keys() for row in rows)
        assert not any("seconds" in name or "time" in name for row in rows for name in row)


def test_provenance_says_what_made_the_result(whole: Path) -> None:
    record = json.loads((whole / "provenance.json").read_text())
    assert record.keys() >= {"fewlabel", "python", "packages", "data", "seed", "hardware", "num_threads"}
    assert record["data"].keys() == {"heads", "texts"}
    assert record["seed"] == 0
    assert record["num_threads"] == 1


def test_the_folder_holds_the_resolved_configuration(whole: Path, working_folder: Path) -> None:
    schema = load_recipe("domain").Config
    expected = load(working_folder / "tiny.yaml", schema, [f"output={whole}"])
    assert load(whole / "config.yaml", schema) == expected
    assert "temperature:" in (whole / "config.yaml").read_text()  # defaults are written out


def test_results_csv_is_tidy_and_has_every_method(whole: Path) -> None:
    text = (whole / "results.csv").read_text()
    assert text.splitlines()[0] == "leg,task,language,site,method,pretraining,budget,draw,seed,metric,value"
    results = pd.read_csv(whole / "results.csv", keep_default_na=False, dtype=str)
    tasks = results[["leg", "task", "language", "site"]].drop_duplicates().to_numpy().tolist()
    assert tasks == [["scans", "lobes", "", TEST_SUBJECT], *(["text", "sentiment", code, ""] for code in LANGUAGES)]
    for names, rows in results.groupby(["leg", "language"]):
        measured = rows[rows["metric"] == "accuracy"]
        cells = measured.groupby("method")[["budget", "draw", "seed"]].apply(lambda cell: cell.to_numpy().tolist())
        of_leg = FEATURES | ({"position"} if names[0] == "scans" else set())
        assert set(cells.index) == of_leg | TRAINED | {"majority"}
        for method in of_leg:
            assert cells[method] == [["2", "0", "0"], ["4", "0", "0"], ["2", "1", "0"], ["4", "1", "0"]]
        for method in TRAINED:
            assert cells[method] == [["2", "0", "0"], ["2", "1", "0"]]
        assert cells["majority"] == [["", "", ""]]
        assert rows.groupby("metric").size().to_dict() == dict.fromkeys(
            ("accuracy", "auroc", "macro_f1"), len(measured)
        )
    assert results["value"].astype(float).between(0, 1).all()
    pretrained = results["method"].isin(["ssl-probe", "ssl-finetune"])
    assert set(results.loc[~pretrained, "pretraining"]) == {"none"}
    assert all("simclr" in name or "mlm" in name for name in results.loc[pretrained, "pretraining"])


def test_the_other_tables_fit_the_results(whole: Path) -> None:
    results = pd.read_csv(whole / "results.csv")
    cells = results[results["metric"] == "accuracy"]
    summary = pd.read_csv(whole / "summary.csv")
    keys = ["leg", "language", "method", "budget", "metric"]
    assert len(summary) == len(results.groupby(keys, dropna=False))
    assert {"mean", "low", "high", "difference", "difference_low", "labels_saved"} <= set(summary.columns)
    assert set(summary.loc[summary["baseline"].notna(), "method"]) == {"ssl-probe", "ssl-finetune"}
    predictions = pd.read_parquet(whole / "predictions.parquet")
    tests = predictions.groupby("leg")["item"].nunique()
    assert len(predictions) == sum((cells["leg"] == leg).sum() * tests[leg] for leg in LEGS)
    keys = ["leg", "language", "method", "budget", "draw"]
    right = (
        (predictions["label"] == predictions["prediction"])
        .groupby([predictions[key] for key in keys], dropna=False)
        .mean()
    )
    scores = cells.set_index(keys)["value"]
    assert np.allclose(right.sort_index(), scores.sort_index(), atol=1e-6)


def test_a_run_folder_may_be_moved(whole: Path, fewlabel: Command, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(whole, moved)
    outcome = fewlabel("run", "domain", "--config", "tiny.yaml", f"output={moved}")
    assert outcome.exit_code == 0, outcome.stderr
    assert_same_results(moved, whole)
    assert str(moved) not in (moved / "text/README.md").read_text(encoding="utf-8")


def test_the_scan_encoder_opens_and_embeds(whole: Path) -> None:
    encoder = load_encoder(whole / "scans/encoder")
    patches = np.random.default_rng([0]).uniform(0, 2000, (5, 1, 8, 8, 8)).astype(np.float32)
    embeddings = encoder.embed(patches)
    assert encoder.spacing_mm == (4.0, 4.0, 4.0)
    assert (embeddings.shape, embeddings.dtype) == ((5, encoder.embed_dim), np.float32)
    assert np.isfinite(embeddings).all() and embeddings.std(axis=0).max() > 0


def test_plain_transformers_opens_the_text_encoder(whole: Path, working_folder: Path) -> None:
    folder = whole / "text/encoder"
    texts = pd.read_csv(working_folder / "texts/reviews.csv")["comment"].tolist()[:4]
    texts += [text.split()[0] for text in texts] + ["", "Ünknown <s> 日本"]
    encoder = load_encoder(folder)
    ours = encoder(encoder.collate(texts))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=encoder.max_length, return_tensors="pt")
    assert torch.equal(batch["input_ids"], ours.input_ids)
    with torch.inference_mode():
        theirs = model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
    for own, plain in zip(ours.hidden_states, theirs, strict=True):
        torch.testing.assert_close(own, plain, rtol=0, atol=1e-6)
    embeddings = encoder.embed(texts)
    assert (embeddings.shape, embeddings.dtype) == ((len(texts), encoder.embed_dim), np.float32)


class Fetches(HTMLParser):
    """Collects what a page would load or open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fetching = {"src", "href", "xlink:href", "srcset", "poster", "action", "data"}
        self.found += [value or "" for name, value in attrs if name in fetching]
        self.found += re.findall(r"url\(([^)]*)\)", dict(attrs).get("style") or "")


def test_the_page_is_self_contained(whole: Path) -> None:
    page = (whole / "report.html").read_text(encoding="utf-8")
    found = Fetches(page).found
    assert found and [target for target in found if not target.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\(\s*[\"']?(?!#|data:)|fetch\(|XMLHttpRequest|import\(", page)
    assert page.count('src="data:image/png;base64,') == 4  # three heads and their views
    for shown in ("Made-up heads", "Made-up reviews", TEST_SUBJECT, "negative", "front"):
        assert shown in page


def test_nothing_names_a_patient_and_the_page_names_no_path(whole: Path, working_folder: Path) -> None:
    stored = list((working_folder / "cache" / "store").rglob("*"))
    assert len(stored) >= 4  # two scans: a header and voxels each
    for path in filter(Path.is_file, [*whole.rglob("*"), *stored, whole.with_suffix(".log")]):
        content = path.read_bytes()
        if path.suffix == ".parquet":  # compressed
            content = pd.read_parquet(path).to_csv().encode()
        assert PATIENT.encode() not in content, path
    texts = pd.read_csv(working_folder / "texts/reviews.csv")["comment"]
    for path in whole.rglob("report.html"):
        page = path.read_text(encoding="utf-8")
        assert str(working_folder) not in page
        assert ".nii" not in page
        assert not any(text in page for text in texts)  # the card does not say that they are public


def test_a_second_run_reuses_everything(whole: Path, working_folder: Path, fewlabel: Command) -> None:
    def work() -> dict[Path, int]:
        kept = [
            *whole.rglob("checkpoints/*"),
            *whole.rglob("cells/*"),
            *(working_folder / "cache" / "store").glob("*"),
            *whole.rglob("corpora/**/*"),
        ]
        return {path: path.stat().st_mtime_ns for path in kept}

    def steps() -> int:
        return sum('"step"' in line for path in whole.rglob("timings.jsonl") for line in path.read_text().splitlines())

    before, kept, trained = results_of(whole), work(), steps()
    assert fewlabel("run", "domain", "--config", "tiny.yaml", f"output={whole}").exit_code == 0
    assert work() == kept
    assert steps() == trained == 16
    assert results_of(whole) == before


@pytest.mark.usefixtures("without_workers")
def test_the_same_seed_gives_the_same_bits(whole: Path, working_folder: Path, fewlabel: Command) -> None:
    """The first run had a process for its studies and an absolute path; this one has neither."""
    assert fewlabel("run", "domain", "--config", "tiny.yaml", "output=runs/again").exit_code == 0
    assert_same_results(working_folder / "runs/again", whole)


# The run ends by SIGKILL just before the first file whose name has MOMENT in it is put in place.
KILLED = """
import os, signal, sys
from pathlib import Path
moment, replace = sys.argv.pop(1), Path.replace
def replace_or_die(path, target):
    if moment in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
Path.replace = replace_or_die
from toolkit.cli import main
main()
"""


@pytest.mark.parametrize(
    "moment",
    [
        "scans/checkpoints/step-00000004",
        *(
            pytest.param(moment, marks=pytest.mark.slow)
            for moment in (
                "/store/",
                "scans/study/results.csv",
                "text/corpora/",
                "text/checkpoints/step-00000004",
                "text/stages/halves/checkpoints/step-00000002",
                "ssl-finetune-2-labels-draw-1",
                "report.html",
            )
        ),
    ],
)
@pytest.mark.usefixtures("without_workers")
def test_a_killed_run_ends_as_if_nothing_had_been(
    moment: str, whole: Path, working_folder: Path, fewlabel: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    store = f"scans.pretrain.store={tmp_path / 'store'}"  # of its own, or it would be full already
    arguments = ("run", "domain", "--config", "tiny.yaml", f"output={folder}", store)
    # Ends only when all that hold its output have ended: a worker that lives on would run into the time limit.
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment, *arguments],
        cwd=working_folder,
        env=os.environ | {"FEWLABEL_DATA": str(working_folder / "cache")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert killed.returncode == -9, killed.stderr
    assert not (folder / "report.html").exists()
    outcome = fewlabel(*arguments)
    assert outcome.exit_code == 0, outcome.stderr
    assert_same_results(folder, whole)


ORPHAN = """
import multiprocessing, os, signal
from concurrent.futures import ProcessPoolExecutor
from toolkit.finetune.jobs import end_with_parent
spawn = multiprocessing.get_context("spawn")
pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=end_with_parent)
print(pool.submit(os.getpid).result(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_without_work_ends_with_a_killed_run() -> None:
    killed = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=60)
    assert killed.stdout.strip().isdigit(), killed.stderr
