import pytest

from toolkit.text.audit.languages import LanguageCheck


def test_texts_in_another_language() -> None:
    pytest.importorskip("py3langid")
    check = LanguageCheck()
    german = "Der Patient klagt seit drei Tagen über starke Schmerzen in der Brust und über Atemnot."
    chinese = "这本书写得很好，我非常喜欢，推荐给所有的朋友们阅读，希望大家也喜欢。"
    assert check.other(german, "de") is None
    assert check.other(german, "sl") == "de"
    assert check.other(german, "und") == "de"
    assert check.other(chinese, "zh") is None
    assert check.other(chinese, "en") == "zh"
    assert check.other("Ja.", "en") is None  # too short to tell
    assert check.other(german, "xx") is None  # the model does not know the language
