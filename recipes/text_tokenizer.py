"""Train a tokenizer on texts in any mix of languages, certify it, and show how it treats each of them.

    fewlabel run text_tokenizer --config configs/text_tokenizer/sentiment.yaml

A SentencePiece model and the fast tokenizer with the same ids, in `tokenizer/`, with the certificate that says so;
`AutoTokenizer` of transformers 4 and 5 opens it. Held-out texts of the data cards are not learnt from: the audit
(audit.csv, audit.png) is made on them where there are some. `models/ARCHITECTURE/` has the tokenizer beside a
config.json, for `AutoConfig` and programs that start from one. The demo takes about a minute.
"""

import time
from dataclasses import dataclass

import pandas as pd
from pydantic import Field

from toolkit.config import RunConfig, main
from toolkit.console import console, log
from toolkit.encoders.text import TextEncoderConfig, transformers_config
from toolkit.errors import ConfigError
from toolkit.files import write_atomically
from toolkit.reports import png
from toolkit.text import TokenizerConfig
from toolkit.text.pretraining import PretrainingTexts, find_tokenizer
from toolkit.text.tokenizer import TextTokenizer
from toolkit.text.tokenizer.audit import audit_figure, audit_table, audit_tokenizer
from toolkit.training import RunFolder, refuse_several_processes, set_num_threads

ARCHITECTURES = ("bert", "xlm-roberta", "modernbert", "electra")


class Config(PretrainingTexts, RunConfig):
    """The recipe's configuration."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    models: dict[str, TextEncoderConfig] = Field({name: TextEncoderConfig(architecture=name) for name in ARCHITECTURES})
    """Transformers whose config.json is written beside the tokenizer, by the name of their folder."""


@dataclass(frozen=True)
class Result:
    """The tokenizer, and how it treats each language."""

    tokenizer: TextTokenizer
    audit: pd.DataFrame


def run(config: Config, *, report: object = None) -> Result:
    """Trains, certifies, audits."""
    started = time.monotonic()
    refuse_several_processes("text_tokenizer")
    if config.plan:
        raise ConfigError("plan: there is nothing to plan; a tokenizer takes a minute or two for 50,000 texts")
    set_num_threads(config.num_threads)
    folder = RunFolder(config.output, config, data=config.digests())
    texts = config.open(config.seed, folder.path / "corpora")
    folder.begin()
    place = folder.path / "tokenizer"
    tokenizer = find_tokenizer(texts, config.tokenizer, place, seed=config.seed, before=None, vocabulary="replace")
    for name, model in config.models.items():
        tokenizer.save(folder.path / "models" / name)
        transformers_config(model, len(tokenizer), tokenizer.special).save_pretrained(folder.path / "models" / name)

    held_out = (row for part in texts.corpora.test.values() for row in zip(part.texts, part.languages, strict=True))
    wanted = (row for row in held_out if row[1] in (config.languages or row[1:]))
    unseen = audit_tokenizer(tokenizer, wanted).assign(part="held out")
    learnt = audit_tokenizer(tokenizer, texts).assign(part="learnt from")
    audit = pd.concat([unseen, learnt[~learnt.language.isin(unseen.language)]]).sort_values("language")
    write_atomically(folder.path / "audit.csv", audit.to_csv(index=False, lineterminator="\n").encode())
    write_atomically(folder.path / "audit.png", png(audit_figure(audit)))
    console.print(audit_table(audit))
    folder.log_timing("tokenizer", time.monotonic() - started)
    log.info("the tokenizer: %s", place)
    return Result(tokenizer, audit)


if __name__ == "__main__":
    main(run, Config)
