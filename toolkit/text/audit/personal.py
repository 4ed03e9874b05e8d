"""Patterns of personal data. Rules of thumb: what they do not find, such as a name, may be there all the same."""

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import NamedTuple

import phonenumbers
from stdnum import iban, luhn

KINDS = ("e-mail", "phone", "IBAN", "card", "national id", "date of birth")


class Match(NamedTuple):
    """A place in a text that looks like personal data: what kind, and where."""

    kind: str
    start: int
    end: int


class NationalId(NamedTuple):
    """A number that a country gives its people: how it is written, who checks it, and where it is looked for.

    Attributes:
        pattern: What a candidate looks like.
        module: Of python-stdnum, which knows its check digits.
        languages: Only texts in these, since a tenth of all numbers of its length would pass; empty: any.
    """

    pattern: str
    module: str
    languages: frozenset[str] = frozenset()


_DATE = r"\d{1,4}\s?[./-]\s?\d{1,2}\s?[./-]\s?\d{1,4}|\d{4}年\d{1,2}月\d{1,2}日|\d{1,2}\.? [^\W\d]{3,12}\.? \d{4}"
_BORN = (
    r"born|birth|birthday|birthdate|dob|d\.o\.b|geb|geboren|rojen\w*|roj|né|née|naissance|nacid[oa]|nacimiento|nat[oa]|nascid[oa]|"
    r"nascimento|nascita|geboortedatum|född|født|syntynyt|urodz\w*|narozen\w*|lahir|sinh|рожд\w*|родил\w*|род|"
    r"تولد|ميلاد|נולד\w*"
)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_BIRTH = re.compile(rf"(?<!\w)(?:{_BORN})\b[^\d\n]{{0,25}}?({_DATE})", re.IGNORECASE)
_BIRTH_CJK = re.compile(rf"(?:出生|生年月日|생년월일)\D{{0,10}}({_DATE})|({_DATE})\s?(?:出生|生まれ)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_CARD_ISSUERS = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|5|2)|35")
_PHONE = re.compile(r"(?<![\w./-])(?:\+|00|\(?0)?[\d(][\d ()/.-]{5,18}\d(?![\w/-])")
_DIGIT = re.compile(r"\d")
_LIKE_DATE = re.compile(rf"\s*(?:{_DATE})\s*")
_REGIONS = {
    "ar": "SA", "bg": "BG", "ca": "ES", "cs": "CZ", "da": "DK", "de": "DE", "el": "GR", "en": "US", "es": "ES",
    "et": "EE", "eu": "ES", "fa": "IR", "fi": "FI", "fr": "FR", "gl": "ES", "he": "IL", "hi": "IN", "hr": "HR",
    "hu": "HU", "id": "ID", "it": "IT", "ja": "JP", "ko": "KR", "lt": "LT", "lv": "LV", "nl": "NL", "no": "NO",
    "pl": "PL", "pt": "PT", "ro": "RO", "ru": "RU", "sk": "SK", "sl": "SI", "sr": "RS", "sv": "SE", "ta": "IN",
    "th": "TH", "tr": "TR", "uk": "UA", "vi": "VN", "zh": "CN",
}  # fmt: skip
"""The country whose national telephone numbers are looked for in a language; +, the international form, is for all."""

NATIONAL_IDS = (
    NationalId(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    NationalId(r"\d{17}[\dXx]", "cn.ric"),
    NationalId(r"\d{6}[-+A]\d{3}[\dA-Y]", "fi.hetu"),
    NationalId(r"\d{3}-\d{2}-\d{4}", "us.ssn"),
    NationalId(r"756\.?\d{4}\.?\d{4}\.?\d{2}", "ch.ssn"),
    NationalId(r"\d{3}\.\d{3}\.\d{3}-\d{2}", "br.cpf"),
    NationalId(r"[12]\s?\d{2}\s?\d{2}\s?[\dA-B]{2}\s?\d{3}\s?\d{3}\s?\d{2}", "fr.nir"),
    NationalId(r"\d{13}", "si.emso", frozenset({"sl", "hr", "sr", "bs", "mk"})),
    NationalId(r"\d{11}", "hr.oib", frozenset({"hr"})),
    NationalId(r"\d{8}[- ]?[A-Z]|[XYZ]\d{7}[- ]?[A-Z]", "es.nie", frozenset({"es", "ca", "eu", "gl"})),
    NationalId(r"\d{8}[- ]?[A-Z]", "es.dni", frozenset({"es", "ca", "eu", "gl"})),
    NationalId(r"\d{2} ?\d{3} ?\d{3} ?\d{3}", "de.idnr", frozenset({"de"})),
    NationalId(r"\d{4} ?\d{6}", "at.vnr", frozenset({"de"})),
    NationalId(r"\d{3} \d{3} \d{4}", "gb.nhs", frozenset({"en"})),
    NationalId(r"\d{9}", "nl.bsn", frozenset({"nl"})),
    NationalId(r"\d{11}", "pl.pesel", frozenset({"pl"})),
    NationalId(r"(?:\d{2})?\d{6}[-+]\d{4}", "se.personnummer", frozenset({"sv"})),
    NationalId(r"\d{6}-?\d{4}", "dk.cpr", frozenset({"da"})),
    NationalId(r"\d{6} ?\d{5}", "no.fodselsnummer", frozenset({"no", "nb", "nn"})),
    NationalId(r"\d{6}/?\d{3,4}", "cz.rc", frozenset({"cs", "sk"})),
    NationalId(r"[1-8]\d{12}", "ro.cnp", frozenset({"ro"})),
    NationalId(r"\d{16}", "id.nik", frozenset({"id"})),
    NationalId(r"[2-9]\d{3} \d{4} \d{4}", "in_.aadhaar", frozenset({"hi", "ta", "en"})),
)


def find_personal(text: str, language: str = "") -> list[Match]:
    """What looks like personal data, each place once, in the order of the text.

    Args:
        text: Any text.
        language: ISO 639; it decides which countries' telephone numbers and ids are looked for.
    """
    found: list[Match] = []
    if "@" not in text and not _DIGIT.search(text):
        return found
    for kind, search in _SEARCHES.items():
        for start, end in search(text, language):
            if not any(start < other.end and other.start < end for other in found):
                found.append(Match(kind, start, end))
    return sorted(found, key=lambda match: match.start)


def masked(text: str) -> str:
    """The shape of a match that may be shown: letters as `a`, digits as `9`."""
    return "".join("9" if one.isdigit() else "a" if one.isalpha() else one for one in text)


def _emails(text: str, language: str) -> Iterator[tuple[int, int]]:
    if "@" in text:  # without one the pattern would be tried at every letter
        yield from (found.span() for found in _EMAIL.finditer(text))


def _births(text: str, language: str) -> Iterator[tuple[int, int]]:
    for pattern in (_BIRTH, _BIRTH_CJK):
        for found in pattern.finditer(text):
            yield found.span(found.lastindex or 0)


def _ibans(text: str, language: str) -> Iterator[tuple[int, int]]:
    for found in _IBAN.finditer(text):
        # Words in capitals may follow it: the longest beginning that is an IBAN.
        for end in range(found.end(), found.start() + 14, -1):
            if iban.is_valid(text[found.start() : end], check_country=False):
                yield found.start(), end
                break


def _cards(text: str, language: str) -> Iterator[tuple[int, int]]:
    for found in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", found[0])
        if len(set(digits)) > 1 and _CARD_ISSUERS.match(digits) and luhn.is_valid(digits):
            yield found.span()


def _national_ids(text: str, language: str) -> Iterator[tuple[int, int]]:
    for search, is_valid, languages in _CHECKED:
        if not languages or language in languages:
            for found in search.finditer(text):
                if len(set(_DIGIT.findall(found[0]))) > 1 and is_valid(found[0]):
                    yield found.span()


def _phones(text: str, language: str) -> Iterator[tuple[int, int]]:
    for found in _PHONE.finditer(text):
        written = found[0]
        is_international = written.startswith(("+", "00"))
        # Digits in a row may be anything: a national number is written in groups, or begins with 0.
        if not is_international and (language not in _REGIONS or not re.search(r"^\(?0|\d[ ()/.-]+\d", written)):
            continue
        if _LIKE_DATE.fullmatch(written):
            continue
        number = "+" + written[2:] if written.startswith("00") else written
        try:
            parsed = phonenumbers.parse(number, None if is_international else _REGIONS[language])
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            yield found.span()


_CHECKED: list[tuple[re.Pattern[str], Callable[[str], bool], frozenset[str]]] = [
    (
        re.compile(rf"(?<![\w.-])(?:{one.pattern})(?![\w-])"),
        import_module(f"stdnum.{one.module}").is_valid,
        one.languages,
    )
    for one in NATIONAL_IDS
]
_SEARCHES: dict[str, Callable[[str, str], Iterator[tuple[int, int]]]] = {
    "e-mail": _emails,
    "date of birth": _births,
    "IBAN": _ibans,
    "card": _cards,
    "national id": _national_ids,
    "phone": _phones,
}
