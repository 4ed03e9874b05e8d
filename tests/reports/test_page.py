import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from toolkit.errors import DataError, DiskError
from toolkit.reports import (
    CardFacts,
    EmbeddingMap,
    Picture,
    Pretraining,
    Report,
    monitors_figure,
    png,
    read_metrics,
    write_report,
)
from toolkit.reports.names import score
from toolkit.reports.page import render
from toolkit.reports.panels import panels

ATTACK = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"
VOID = {"meta", "img", "br", "input", "link", "hr"}


class Reader(HTMLParser):
    """Collects elements and text, and fails on tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def points(text: str = "这部电影非常好看", label: str = "frontal") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["x", "y"])
    return frame.assign(label=[label, "deep"] * 30, text=text, group=["en", "zh", "sl"] * 20)


def full(report: Report, text: str) -> Report:
    """`report` with every section, and `text` wherever a text may stand."""
    metrics = pd.DataFrame({"step": [0, 10, 20], "loss": [3.0, 2.0, 1.0], "embedding_std": [0.9, 0.5, 0.01]})
    return replace(
        report,
        title=text,
        pretrainings=[Pretraining(text, metrics)],
        pictures=[Picture(png(monitors_figure(metrics)), text, text)],
        maps=[EmbeddingMap(text, points(text, text), text, text)],
        cards=[CardFacts(text, text, text, text, {text: text}, [text])],
        config=f"seed: {text}",
        provenance={text: {text: [text]}, "gpus": [], "none": None},
        durations={text: 3.0},
        caveats=[text],
    )


@pytest.fixture(scope="module")
def small(report: Report) -> Report:
    """The scan task in accuracy alone: quicker to draw."""
    keep = "leg == 'scans' and metric == 'accuracy'"
    return replace(report, results=report.results.query(keep), summary=report.summary.query(keep))


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render(full(report, "plain"))


def test_the_page_is_one_file_that_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert not reader.all("link") + reader.all("iframe") + reader.all("object")
    assert not [script for script in reader.all("script") if "src" in script]
    assert all(image["src"].startswith("data:image/png;base64,") for image in reader.all("img"))
    links = [link["href"] for link in reader.all("a")]
    assert links and all(link.startswith(("#", "data:text/csv;base64,")) for link in links)
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert len(page.encode()) < 5_000_000


def test_each_link_inside_the_page_has_its_target(page: str) -> None:
    reader = Reader(page)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in reader.all("a") if link["href"].startswith("#")} <= set(ids)


def test_the_policy_names_the_only_script_that_may_run(page: str) -> None:
    policy = next(
        meta["content"] for meta in Reader(page).all("meta") if "content-security-policy" in str(meta).lower()
    )
    script = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_no_text_from_outside_becomes_markup(small: Report) -> None:
    results, summary = (
        table.replace({"task": {"lobes": ATTACK}, "method": {"kmeans": ATTACK}, "pretraining": {"simclr": ATTACK}})
        for table in (small.results, small.summary)
    )
    attacked = render(full(replace(small, results=results, summary=summary), ATTACK))
    reader, plain = Reader(attacked), Reader(render(full(small, "plain")))
    assert [tag for tag, _ in reader.elements].count("script") == [tag for tag, _ in plain.elements].count("script")
    assert len(reader.all("img")) == len(plain.all("img")) == 1
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert "49" not in reader.all("img")[0]["alt"]  # nothing was evaluated as a template
    data = re.search(r'<script type="application/json">(.*?)</script>', attacked, flags=re.DOTALL)[1]
    assert json.loads(data)["text"][0] == ATTACK


def test_equal_reports_give_equal_bytes(small: Report) -> None:
    assert render(full(small, "plain")) == render(full(small, "plain"))


def test_headline_tables_and_gaps_are_on_the_page(page: str, report: Report) -> None:
    reader = Reader(page)
    assert "Pretraining saved labels on 3 of 5 tasks" in reader.text
    assert "not run" in page
    probe = panels(report.summary)[0].method("ssl-probe").at(5)
    assert f"reaches {score(probe.mean, probe.low, probe.high)} accuracy" in reader.text
    assert "clinical claim" in reader.text
    assert "collapsed" in reader.text


def test_tables_and_drawings_are_accessible(page: str) -> None:
    reader = Reader(page)
    assert all(image["alt"] for image in reader.all("img"))
    drawings = reader.all("svg")
    assert len(drawings) == 5 + 2 + 1
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert all(header["scope"] in ("col", "row", "rowgroup") for header in reader.all("th"))
    assert len(reader.all("caption")) == len(reader.all("table"))
    assert Reader(page).all("html")[0]["lang"] == "en"


def test_chinese_reaches_hover_and_caption(small: Report) -> None:
    shown = render(full(small, "中文"))
    assert "中文" in Reader(shown).text
    assert "CJK" in shown


def test_empty_sections_are_left_out(small: Report) -> None:
    text = Reader(render(small)).text
    for heading in (
        "Was pretraining healthy?",
        "What the encoder saw",
        "The embeddings on a map",
        "The data",
    ):
        assert heading not in text
    assert "Read with care" in text


def test_a_position_line_is_explained_only_where_there_is_one(report: Report) -> None:
    summary = report.summary[report.summary["leg"] == "text"]
    text = Reader(render(replace(report, summary=summary))).text
    assert "Position only" not in text
    assert "Public encoder" in text


@pytest.mark.parametrize("keep", ["method == 'majority'", "budget == 5", "method == 'ssl-probe'", "budget == 2"])
def test_a_small_study_makes_a_page(report: Report, keep: str) -> None:
    cut = replace(report, results=report.results.query(keep), summary=report.summary.query(keep))
    text = Reader(render(cut)).text
    assert "Read with care" in text
    assert "nan" not in text.split("Scores")[1].split("The tables behind")[0]


def test_tables_can_be_taken_from_the_page(page: str, report: Report) -> None:
    link = next(link for link in Reader(page).all("a") if link.get("download") == "summary.csv")
    taken = pd.read_csv(io.BytesIO(base64.b64decode(link["href"].split(",")[1])))
    assert np.allclose(taken["mean"], report.summary["mean"])


def test_writing_puts_the_file_and_nothing_else(small: Report, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", small)
    assert path.read_text(encoding="utf-8") == render(small)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(small: Report, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"gone/report\.html: cannot be written"):
        write_report(tmp_path / "gone" / "report.html", small)


def test_what_is_no_png_is_refused(small: Report) -> None:
    with pytest.raises(DataError, match="picture slices: is not a PNG"):
        render(replace(small, pictures=[Picture(b"GIF89a", "slices", "caption")]))


def test_metrics_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be read"):
        read_metrics(path)
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_metrics(path)
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss"')
    with pytest.raises(DataError, match="not JSON"):
        read_metrics(path)
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "embedding_std": 0.5}\n')
    assert read_metrics(path)["loss"].isna().tolist() == [False, True]
