"""The look of static figures, and the same figures as page-ready SVG or PNG: equal bytes for equal tables.

Figures are drawn in the colours of COLOURS. In the page each becomes the CSS variable of its name, so one
drawing is readable in light and in dark mode and on paper.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from markupsafe import escape
from matplotlib.figure import Figure

COLOURS = {
    "page": "#ffffff",
    "ink": "#1d2330",
    "rival": "#3a414e",  # the best baseline
    "muted": "#6b7280",  # text of lesser weight, still 4.8 to 1 on white
    "line": "#9ba3b0",  # the other baselines, axes
    "faint": "#d9dde4",  # grid
    "ssl": "#0b62c4",
    "ssl2": "#c2500a",  # the second pretrained method; blue and orange part for every kind of colour vision
    "warn": "#b3261e",
}
FONT_PT = 9
RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same widths on every machine
    "font.size": FONT_PT,
    "text.parse_math": False,  # names come from users' files; a dollar sign in one is a dollar sign
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["line"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["rival"],
    "axes.labelsize": FONT_PT,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.spines.left": False,
    "axes.titlelocation": "left",
    "axes.titlesize": FONT_PT + 1,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": COLOURS["faint"],
    "grid.linewidth": 0.7,
    "xtick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["rival"],
    "xtick.minor.visible": False,
    "ytick.color": COLOURS["line"],
    "ytick.labelcolor": COLOURS["rival"],
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: selectable, sharp, in the page's font
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draws with this house's look, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def svg(figure: Figure, name: str, alt: str) -> str:
    """`figure` as an `<svg>` element for inlining.

    Args:
        name: Unlike any other of the page; salts the ids inside, so that two drawings never share one.
        alt: What the drawing shows, for those who do not see it.
    """
    buffer = io.StringIO()
    with drawing(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)  # nothing refers to groups, and every figure numbers them alike
    drawn = drawn.replace("'DejaVu Sans'", "var(--sans)")
    for variable, colour in COLOURS.items():
        drawn = drawn.replace(colour, f"var(--{variable})")
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = (
        f'<svg class="figure" role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:g} {height:g}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, drawn, count=1)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """`figure` as a PNG on white."""
    buffer = io.BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
