"""Figures and the self-contained HTML page, from tidy tables."""

from toolkit.reports.evaluation import Evaluation, evaluation_markdown, write_evaluation
from toolkit.reports.figures import label_efficiency_figure
from toolkit.reports.monitors import monitors_figure
from toolkit.reports.page import write_report
from toolkit.reports.projection import project
from toolkit.reports.ranking import ranking_markdown
from toolkit.reports.report import (
    CardFacts,
    EmbeddingMap,
    Picture,
    Pretraining,
    Report,
    read_metrics,
    read_timings,
)
from toolkit.reports.style import png

__all__ = [
    "CardFacts",
    "EmbeddingMap",
    "Evaluation",
    "Picture",
    "Pretraining",
    "Report",
    "evaluation_markdown",
    "label_efficiency_figure",
    "monitors_figure",
    "png",
    "project",
    "ranking_markdown",
    "read_metrics",
    "read_timings",
    "write_evaluation",
    "write_report",
]
