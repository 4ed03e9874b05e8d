"""Whether texts are in the language that they are filed under."""

from typing import Any

from toolkit.errors import DataError

FEWEST_LETTERS = 20
"""A shorter text is not judged: too many languages could be meant."""
SURE = 0.9
"""Probability from which another language is taken for found."""
ALIKE = frozenset(
    frozenset(pair)
    for pair in (
        ("hr", "sr"), ("hr", "bs"), ("sr", "bs"), ("id", "ms"), ("no", "nb"), ("no", "nn"), ("nb", "nn"), ("no", "da"),
        ("nb", "da"), ("cs", "sk"), ("gl", "pt"), ("hi", "mr"), ("hi", "ne"), ("id", "jv"), ("zh", "wuu"),
        ("zh", "yue"),
    )
)  # fmt: skip
"""Languages that short texts do not tell apart."""


class LanguageCheck:
    """Identifies languages offline, by naive Bayes over bytes: py3langid (Lui and Baldwin, 2012; 97 languages).

    It was chosen since its model lies in the wheel (4.6 MB, arrays without pickle) and it needs NumPy alone.

    Raises:
        DataError: The package is not installed.
    """

    def __init__(self) -> None:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError:
            raise DataError("checking languages needs the package py3langid: pip install 'fewlabel[text]'") from None
        self._identifier: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.known = frozenset(self._identifier.labels)

    def other(self, text: str, language: str) -> str | None:
        """The language of `text`, if it is surely another than `language`; for "und" any that is sure.

        None for short texts, and for languages that the model does not know.
        """
        if (language not in self.known and language != "und") or sum(map(str.isalpha, text)) < FEWEST_LETTERS:
            return None
        found, probability = self._identifier.classify(text[:2000])
        if probability < SURE or found == language or frozenset((found, language)) in ALIKE:
            return None
        return str(found)
