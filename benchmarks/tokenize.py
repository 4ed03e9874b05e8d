"""Texts to ids: fewlabel's pre-tokenisation against the fast tokenizer's own batch call, language by language.

    python -m benchmarks.tokenize [--quick] [--threads N]

The texts are those of the data cards, a tokenizer of 16,000 pieces is trained on all of them. Both sides get raw texts
in batches of 2,000 and the same threads, and give ids without start and end. fewlabel's normalises and calls
SentencePiece (`encode_arrays`, as the token store does); the peer is `tokenizer.fast(texts)`, what transformers' users
call. The library tokenizers without transformers' wrapper around it (`encode_batch_fast`) is under `values`. Ids are
compared before anything is timed. A round is all texts of a language, at most 2 million characters, on each side.

Ratios (characters a second, ours/peer): `fast` (median over the languages of the median over the rounds; at least 4).
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import finish, interleaved, median_ratio, refuse_without

try:
    from toolkit.cores import num_cores
    from toolkit.text import TokenizerConfig, train_tokenizer
    from toolkit.text.sources import open_source
except ModuleNotFoundError as missing:
    refuse_without(missing)

CARDS = ("sentiment_en", "sentiment_zh", "sentiment_id", "sentiment_sl", "messages_django", "messages_plone")
QUICK_CARDS = ("sentiment_sl", "sentiment_zh")
BATCH = 2000
MAX_CHARACTERS = 2_000_000
MIN_CHARACTERS = 50_000


def texts_by_language(cards: tuple[str, ...], max_characters: int) -> dict[str, list[str]]:
    """As the cards have them, one after another; languages with little text are left out."""
    found: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for card in cards:
        for row in open_source(card):
            if sizes.get(row.language, 0) < max_characters:
                found.setdefault(row.language, []).append(row.text)
                sizes[row.language] = sizes.get(row.language, 0) + len(row.text)
    return {language: texts for language, texts in sorted(found.items()) if sizes[language] >= MIN_CHARACTERS}


def seconds(work: Callable[[list[str]], object], texts: list[str]) -> Callable[[], float]:
    """A side: how long it takes over all texts, batch by batch."""
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]

    def measure() -> float:
        started = time.perf_counter()
        for batch in batches:
            work(batch)
        return time.perf_counter() - started

    return measure


def main() -> None:
    """Trains the tokenizer and times both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two languages, under two minutes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=5, help="of each language, 5 at least for a result")
    parser.add_argument("--threads", type=int, default=num_cores(), help="of both sides")
    options = parser.parse_args()
    if os.environ.get("RAYON_NUM_THREADS") != str(options.threads):  # read when the library starts
        os.environ |= {"RAYON_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.tokenize", *sys.argv[1:]])
    quick = options.quick
    texts = texts_by_language(QUICK_CARDS if quick else CARDS, 200_000 if quick else MAX_CHARACTERS)
    config = TokenizerConfig(vocab_size=4000 if quick else 16000, num_threads=options.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = ((text, language) for language, own in texts.items() for text in own)
        tokenizer = train_tokenizer(rows, config, Path(folder))
    advantage, wrapped, rates = {}, {}, {}
    for language, own in texts.items():
        sides = {
            "ours": seconds(lambda batch: tokenizer.encode_arrays(batch, options.threads), own),
            "fast": seconds(lambda batch: tokenizer.fast(batch, add_special_tokens=False)["input_ids"], own),
            "backend": seconds(
                lambda batch: tokenizer.fast.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False), own
            ),
        }
        assert tokenizer.encode(own) == tokenizer.fast(own, add_special_tokens=False)["input_ids"]
        print(f"{language}: {len(own):,} texts")
        took = interleaved(sides, 2 if quick else options.rounds)
        advantage[language] = median_ratio(took["fast"], took["ours"])
        wrapped[language] = median_ratio(took["backend"], took["ours"])
        rates[language] = sum(map(len, own)) / statistics.median(took["ours"]) / 1e6
    values = {
        "quick": quick,
        "advantage": advantage,
        "characters_per_us": rates,
        "over_backend": statistics.median(wrapped.values()),
        "least": min(advantage.values()),
        "languages": len(texts),
    }
    finish("tokenize", {"fast": statistics.median(advantage.values())}, values, threads=options.threads)


if __name__ == "__main__":
    main()
