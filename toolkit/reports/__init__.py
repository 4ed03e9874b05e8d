"""Figures and the self-contained HTML page, from tidy tables."""

from toolkit.reports.figures import label_efficiency_figure
from toolkit.reports.monitors import monitors_figure
from toolkit.reports.page import write_report
from toolkit.reports.report import CardFacts, EmbeddingMap, Picture, Pretraining, Report, read_metrics
from toolkit.reports.style import png

__all__ = [
    "CardFacts",
    "EmbeddingMap",
    "Picture",
    "Pretraining",
    "Report",
    "label_efficiency_figure",
    "monitors_figure",
    "png",
    "read_metrics",
    "write_report",
]
