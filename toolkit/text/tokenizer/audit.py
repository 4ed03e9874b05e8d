"""How well a tokenizer suits each language: length, bytes, unknowns, losses."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from toolkit.reports.style import COLOURS, drawing
from toolkit.text.scripts import is_spaceless
from toolkit.text.tokenizer.base import TextTokenizer

COLUMNS = (
    "language", "texts", "characters", "words", "tokens", "fertility", "fertility_per", "characters_per_token",
    "byte_fallback_share", "unknown_share", "dropped_bytes",
)  # fmt: skip
_BATCH = 2000
_NOTHING = dict.fromkeys(map(ord, "\u200b\x00\u2581"))  # what every tokenizer here takes for white space


def audit_tokenizer(tokenizer: TextTokenizer, texts: Iterable[tuple[str, ...]]) -> pd.DataFrame:
    """Counts by language, in one pass and in bounded memory.

    Args:
        tokenizer: Own or foreign.
        texts: Rows that begin with text and language; best texts that the tokenizer was not trained on.

    Returns:
        A row a language: texts, characters (white space aside) and words as the tokenizer sees them, tokens;
        `fertility`, tokens a word, or a character where most of the language's letters are of a script without spaces
        (`fertility_per` says which); `characters_per_token`; the shares of tokens that are bytes of a character, and
        that stand for something unknown; `dropped_bytes`, UTF-8 bytes of the texts' characters, in NFKC, white space
        and case aside, that decoding does not give back.
    """
    counts: dict[str, Counter[str]] = {}
    rows = iter(texts)
    while batch := list(islice(rows, _BATCH)):
        strings = [row[0] for row in batch]
        ids = tokenizer.encode_arrays(strings)
        seen = tokenizer.normalize_all(strings)
        back = tokenizer.decode_all(ids, skip_special=True)
        for (text, language, *_), own, normal, decoded in zip(batch, ids, seen, back, strict=True):
            words = normal.split()
            counts.setdefault(language, Counter()).update(
                texts=1,
                words=len(words),
                characters=sum(map(len, words)),
                spaceless=sum(map(is_spaceless, normal)),
                tokens=len(own),
                bytes=int(tokenizer.is_byte[own].sum()),
                unknown=int((own == tokenizer.special.unk).sum()),
                dropped=_dropped_bytes(text, decoded),
            )
    return pd.DataFrame([_row(language, counts[language]) for language in sorted(counts)], columns=COLUMNS)


def audit_table(audit: pd.DataFrame) -> Table:
    """The audit for a terminal."""
    table = Table("", "texts", "tokens", "tokens a", "", "characters a token", "bytes", "unknown", "dropped", box=None)
    for row in audit.itertuples():
        table.add_row(
            row.language, f"{row.texts:,}", f"{row.tokens:,}", row.fertility_per, f"{row.fertility:.2f}",
            f"{row.characters_per_token:.2f}", f"{row.byte_fallback_share:.2%}", f"{row.unknown_share:.2%}",
            f"{row.dropped_bytes:,} B",
        )  # fmt: skip
    return table


def audit_figure(audit: pd.DataFrame) -> Figure:
    """Fertility, characters a token and the share of bytes, a bar a language; the longest sequences on top."""
    ordered = audit.sort_values(["fertility_per", "fertility"]).reset_index(drop=True)
    height = 0.8 + 0.24 * len(ordered)
    with drawing():
        figure = Figure(figsize=(9.6, height))
        panels = [
            ("Tokens a word (grey: a character)", ordered.fertility, "{:.2f}"),
            ("Characters a token", ordered.characters_per_token, "{:.2f}"),
            ("Tokens that are bytes or unknown", ordered.byte_fallback_share + ordered.unknown_share, "{:.2%}"),
        ]
        places = np.arange(len(ordered))
        for number, (title, values, form) in enumerate(panels):
            axes = figure.add_axes((0.07 + 0.32 * number, 0.1 / height, 0.23, (height - 0.55) / height))
            grey = (ordered.fertility_per == "character") & (number == 0)
            axes.barh(places, values, 0.7, color=np.where(grey, COLOURS["line"], COLOURS["ssl"]))
            for place, value in zip(places, values, strict=True):
                axes.annotate(
                    form.format(value), (value, place), (3, 0), textcoords="offset points", va="center", fontsize=8
                )
            axes.set_yticks(places, ordered.language if number == 0 else [""] * len(ordered))
            axes.set_xlim(0, max(float(values.max()), 1e-3) * 1.25)
            axes.set_ylim(-0.6, len(ordered) - 0.4)
            axes.set_xticks([])
            axes.grid(visible=False)
            axes.spines["bottom"].set_visible(False)
            axes.set_title(title)
    return figure


def _row(language: str, count: Counter[str]) -> dict[str, object]:
    tokens, spaceless = max(count["tokens"], 1), 2 * count["spaceless"] > count["characters"]
    units = count["characters"] if spaceless else count["words"]
    return {
        "language": language,
        **{name: count[name] for name in ("texts", "characters", "words", "tokens")},
        "fertility": count["tokens"] / max(units, 1),
        "fertility_per": "character" if spaceless else "word",
        "characters_per_token": count["characters"] / tokens,
        "byte_fallback_share": count["bytes"] / tokens,
        "unknown_share": count["unknown"] / tokens,
        "dropped_bytes": count["dropped"],
    }


def _dropped_bytes(text: str, decoded: str) -> int:
    wanted, found = map(_visible, (text, decoded))
    if wanted == found:
        return 0
    lost = Counter(wanted) - Counter(found)
    return sum(len(character.encode("utf-8", "surrogatepass")) * count for character, count in lost.items())


def _visible(text: str) -> str:
    return "".join(_without_blanks(unicodedata.normalize("NFKC", text).casefold()))


def _without_blanks(text: str) -> Iterator[str]:
    yield from text.translate(_NOTHING).split()
