"""The part of a corpus that is only tested on, by the rule on its data card."""

from toolkit.cards import Split
from toolkit.splits import holdout
from toolkit.text.corpus import Corpus


def hold_out(corpus: Corpus, split: Split, seed: int) -> tuple[Corpus, Corpus | None]:
    """Divides a corpus into what may be trained on and a test set that is balanced by class.

    Args:
        corpus: Deduplicated texts.
        split: The card's rule: the share held out, the columns whose proportions the test keeps.
        seed: Of the draw.

    Returns:
        Training and test texts, no group in both; no test where the card holds nothing out or nothing has a label.
    """
    if split.test_share is None or not (corpus.labels >= 0).any():
        return corpus, None
    columns = [column for column in split.stratify if column != "label"]  # the test is balanced by label anyway
    strata = list(corpus.frame[columns].itertuples(index=False, name=None)) if columns else None
    train, test = holdout(corpus.labels, corpus.groups, strata, share=split.test_share, seed=seed)
    return corpus.take(train), corpus.take(test)
