"""From unlabelled scans and texts to label-efficiency curves, on one page.

    fewlabel run domain --config configs/domain/demo.yaml        (or: make demo)

Each leg pretrains an encoder, then measures on unseen subjects or texts how many labels that saved. The run folder gets
`scans/encoder`, `text/encoder`, results.csv, summary.csv, comparisons.csv, predictions.parquet and report.html. What is
done is kept: a run that was cut off goes on where it was.
"""

import time
from typing import Self

import numpy as np
import pandas as pd
from pydantic import model_validator

from toolkit.assets import load_recipe
from toolkit.cards import DataCard, data_digest, load_card, without_folders
from toolkit.config import RunConfig, Section, main, to_yaml
from toolkit.console import log
from toolkit.finetune import join_tables
from toolkit.reports import (
    CardFacts,
    EmbeddingMap,
    Picture,
    Pretraining,
    Report,
    label_efficiency_figure,
    png,
    project,
    read_metrics,
    read_timings,
    write_report,
)
from toolkit.scans import overlay_png, views_png
from toolkit.training import RunFolder, refuse_several_processes, set_num_threads

scan_pretrain, text_pretrain, label_efficiency = map(
    load_recipe, ("scan_pretrain", "text_pretrain", "label_efficiency")
)


class ScanLeg(Section):
    """Pretraining on scans, and its study."""

    pretrain: scan_pretrain.Pretraining
    study: label_efficiency.LabelEfficiency

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.pretrain.refuse_weights()
        self.pretrain.encoder.refuse("study.atlas.patch_size", self.study.atlas.patch_size)
        return self


class TextLeg(Section):
    """Pretraining on texts, and its study."""

    pretrain: text_pretrain.Pretraining
    study: label_efficiency.LabelEfficiency


class Config(RunConfig):
    """The recipe's configuration. A leg that is left out is not run."""

    scans: ScanLeg | None = None
    text: TextLeg | None = None


def run(config: Config, *, report: object = None) -> RunFolder:
    """Runs both legs, joins their tables and writes the page."""
    started = time.monotonic()
    refuse_several_processes("domain")
    set_num_threads(config.num_threads)
    legs = {name: leg for name, leg in (("scans", config.scans), ("text", config.text)) if leg}
    cards = {name: load_card(name) for leg in legs.values() for name in leg.pretrain.cards}
    folder = RunFolder(config.output, config, data={name: data_digest(card) for name, card in cards.items()})
    pretrainings, pictures, maps = [], [], []
    for name, leg in legs.items():
        common = {field: getattr(config, field) for field in RunConfig.model_fields if field != "output"}
        recipe = scan_pretrain if name == "scans" else text_pretrain
        pretrained = recipe.run(recipe.Config(**dict(leg.pretrain), **common, output=config.output / name))
        folder.begin()
        if config.plan:
            continue
        studied = label_efficiency.run(
            label_efficiency.Config(
                **dict(leg.study),
                **common,
                output=config.output / name / "study",
                encoder=config.output / name / "encoder",
                pretraining=leg.pretrain.method,
                cards=leg.pretrain.cards,
            )
        )
        pretrainings += [
            Pretraining(f"{name}: {stage}", read_metrics(path)) for stage, path in pretrained.metrics.items()
        ]
        if studied.registered:
            pictures += scan_pictures(studied.registered, pretrained.batches)
        public = all(cards[card].personal_data.status in ("none", "public") for card in leg.pretrain.cards)
        maps.append(embedding_map(name, pretrained.encoder, studied.tasks, show_texts=name == "text" and public))

    if config.plan:
        return folder
    studies = [config.output / name / "study" for name in legs]
    join_tables(studies, config.output)
    folder.log_timing("both legs", time.monotonic() - started)
    results, summary, comparisons = (
        pd.read_csv(config.output / f"{table}.csv") for table in ("results", "summary", "comparisons")
    )
    (config.output / "label_efficiency.png").write_bytes(png(label_efficiency_figure(summary, results)))
    page = Report(
        "What pretraining saved",
        results,
        summary,
        comparisons,
        pretrainings=pretrainings,
        pictures=pictures,
        maps=maps,
        cards=[card_facts(card) for card in cards.values()],
        config=to_yaml(without_folders(config)),
        provenance=folder.provenance,
        durations=read_timings([config.output / name for name in legs] + studies),
    )
    log.info("the page: %s", write_report(config.output / "report.html", page))
    return folder


def scan_pictures(registered, batches) -> list[Picture]:  # type: ignore[no-untyped-def]
    """Every scan under the atlas, and some patches with the views that were made of them."""
    pictures = [
        Picture(
            overlay_png(scan.volume.array, registered.classes),
            f"{scan.subject} ({scan.role})",
            "Three planes without and with the atlas: where the colours leave the brain, the registration is wrong.",
        )
        for scan in registered.scans
    ]
    views = [batches.views(0, view, slice(10)) for view in range(batches.num_views)]
    originals = batches.originals(batches.samples(0)[1][:10])
    columns = [list(patches) for patches in zip(originals, *views, strict=True)]
    return [
        *pictures,
        Picture(views_png(columns), "Views", "Middle slices of ten patches: as cut, and their two views."),
    ]


def embedding_map(name: str, encoder, tasks, show_texts: bool, num_points: int = 1200) -> EmbeddingMap:  # type: ignore[no-untyped-def]
    """Test samples of every task in the plane; texts appear on the page only where the data cards call them public."""
    frames, inputs = [], []
    for task in tasks:
        chosen = np.random.default_rng(0).permutation(len(task.test))[: num_points // len(tasks)]
        part = [task.test[i] for i in chosen]
        labels = [task.class_names[label] for label in task.test_labels[chosen]]
        texts = part if show_texts else labels
        frames.append(pd.DataFrame({"label": labels, "group": task.language or task.site, "text": texts}))
        inputs += part
    embeddings = encoder.embed(inputs) if name == "text" else encoder.embed(np.stack(inputs), intensity=(0.0, 1.0))
    points = pd.concat(frames, ignore_index=True)
    points[["x", "y"]] = project(embeddings)
    caption = "t-SNE of the frozen embeddings of test samples, which pretraining never saw; colours are labels."
    return EmbeddingMap(f"Embeddings: {name}", points, caption, group_name="language" if name == "text" else "subject")


def card_facts(card: DataCard) -> CardFacts:
    """What the page says of a data card."""
    counts = {key: value for key, value in card.counts.items() if isinstance(value, int)}
    return CardFacts(
        card.pretty_name,
        ", ".join(card.license),
        card.name,
        card.personal_data.status,
        counts,
        [card.personal_data.consent],
    )


if __name__ == "__main__":
    main(run, Config)
