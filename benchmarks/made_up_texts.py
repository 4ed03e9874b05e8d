"""A corpus of any size in many languages, out of the texts of data cards; the same seed gives the same bytes.

    python -m benchmarks.made_up_texts FOLDER --gigabytes 1

Writes `FOLDER/CODE.txt`, a text a line. A line is some stretches of a language's own texts behind each other, so words
and letters are those of the cards, and hardly a line stands there twice. No benchmark by itself.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toolkit.balance import sampling_shares
from toolkit.console import track
from toolkit.text.sources import open_source

CARDS = ("sentiment_en", "sentiment_zh", "sentiment_id", "sentiment_sl", "messages_django", "messages_plone")
NO_SPACES = ("zh", "ja", "th")
TEMPERATURE = 2.0
LINES_AT_ONCE = 20_000


def make_texts(folder: Path, num_bytes: int, *, seed: int = 0, cards: Sequence[str] = CARDS) -> dict[str, int]:
    """Writes the corpus.

    Args:
        folder: Gets a file a language; made if it is not there.
        num_bytes: Of all files together, about: the last line of each may go beyond its share.
        seed: Of all draws.
        cards: Whose texts are taken apart; languages share the bytes by temperature 2.

    Returns:
        Bytes of each language.
    """
    words: dict[str, list[list[str]]] = {}
    for card in cards:
        for row in open_source(card):
            text = row.text
            parts = [text[i : i + 4] for i in range(0, len(text), 4)] if row.language in NO_SPACES else text.split(" ")
            words.setdefault(row.language, []).append(parts)
    sizes = {language: sum(map(len, texts)) for language, texts in sorted(words.items())}
    shares = sampling_shares(sizes, TEMPERATURE)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        language: _write(folder / f"{language}.txt", words[language], int(share * num_bytes), seed)
        for language, share in track(shares.items(), "making texts", total=len(shares))
    }


def _write(path: Path, texts: list[list[str]], num_bytes: int, seed: int) -> int:
    rng = np.random.default_rng([seed, *path.stem.encode()])
    joint = "" if path.stem in NO_SPACES else " "
    lengths = np.array([len(text) for text in texts])
    written = 0
    with path.open("wb") as file:
        while written < num_bytes:
            counts = rng.geometric(0.35, LINES_AT_ONCE)  # 1 to about 10 stretches a line
            which = rng.integers(len(texts), size=counts.sum())
            ends = 1 + (rng.random(len(which)) * lengths[which]).astype(np.int64)
            begins = (rng.random(len(which)) * ends).astype(np.int64)
            stretches = [
                joint.join(texts[one][begin:end])
                for one, begin, end in zip(which.tolist(), begins.tolist(), ends.tolist(), strict=True)
            ]
            at = 0
            for count in counts.tolist():
                line = (joint.join(stretches[at : at + count]) + "\n").encode()
                at += count
                written += file.write(line)
                if written >= num_bytes:
                    break
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    made = make_texts(given.folder, int(given.gigabytes * 1e9), seed=given.seed)
    for code, num_bytes in made.items():
        print(f"{code:8s} {num_bytes / 1e6:10.1f} MB")
    print(f"{'all':8s} {sum(made.values()) / 1e6:10.1f} MB")
