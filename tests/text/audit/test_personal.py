"""Made-up numbers with right check digits are found; near misses and other numbers are not."""

import pytest

from toolkit.text.audit.personal import NATIONAL_IDS, find_personal, masked


@pytest.mark.parametrize(
    ("text", "language", "kind", "match"),
    [
        ("write to ana.novak@example.si today", "en", "e-mail", "ana.novak@example.si"),
        ("pay to SI56 1910 0000 0123 438 by Monday", "en", "IBAN", "SI56 1910 0000 0123 438"),
        ("IBAN: DE89370400440532013000.", "de", "IBAN", "DE89370400440532013000"),
        ("card 4111 1111 1111 1111 was charged", "en", "card", "4111 1111 1111 1111"),
        ("call +386 1 478 60 00 now", "en", "phone", "+386 1 478 60 00"),
        ("Tel. 030 22732152 anrufen", "de", "phone", "030 22732152"),
        ("call (202) 456-1111 now", "en", "phone", "(202) 456-1111"),
        ("请拨打 010-6505 2255", "zh", "phone", "010-6505 2255"),
        ("EMŠO 0101006500006", "sl", "national id", "0101006500006"),
        ("SSN 536-90-4399", "en", "national id", "536-90-4399"),
        ("身份证 11010519491231002X", "zh", "national id", "11010519491231002X"),
        ("DNI 54362315-K", "es", "national id", "54362315-K"),
        ("codice RCCMNL83S18D969H", "it", "national id", "RCCMNL83S18D969H"),
        ("PESEL 44051401359", "pl", "national id", "44051401359"),
        ("Steuer-ID 36 574 261 809", "de", "national id", "36 574 261 809"),
        ("numéro 2 95 10 99 126 111 93", "fr", "national id", "2 95 10 99 126 111 93"),
        ("rodné číslo 710319/2745", "cs", "national id", "710319/2745"),
        ("NHS number 943 476 5870", "en", "national id", "943 476 5870"),
        ("bsn 111222333", "nl", "national id", "111222333"),
        ("personnummer 880320-0016", "sv", "national id", "880320-0016"),
        ("CPR 211062-5629", "da", "national id", "211062-5629"),
        ("fødselsnummer 151086 95088", "no", "national id", "151086 95088"),
        ("CNP 1630615123457", "ro", "national id", "1630615123457"),
        ("OIB 33392005961", "hr", "national id", "33392005961"),
        ("SVNR 1237 010180", "de", "national id", "1237 010180"),
        ("hetu 131052-308T", "fi", "national id", "131052-308T"),
        ("AHV 756.9217.0769.85", "de", "national id", "756.9217.0769.85"),
        ("CPF 390.533.447-05", "pt", "national id", "390.533.447-05"),
        ("Aadhaar 2341 2341 2346", "hi", "national id", "2341 2341 2346"),
        ("NIK 3171011708450001", "id", "national id", "3171011708450001"),
        ("NIE X2482300W", "es", "national id", "X2482300W"),
        ("patient, born on 3 March 1962, was", "en", "date of birth", "3 March 1962"),
        ("geb. am 03.04.1962 in", "de", "date of birth", "03.04.1962"),
        ("rojena 3. 4. 1962", "sl", "date of birth", "3. 4. 1962"),
        ("né le 03/04/1962", "fr", "date of birth", "03/04/1962"),
        ("他于1962年3月4日出生", "zh", "date of birth", "1962年3月4日"),
        ("DOB: 1962-03-04", "en", "date of birth", "1962-03-04"),
    ],
)
def test_found(text: str, language: str, kind: str, match: str) -> None:
    found = [(one.kind, text[one.start : one.end]) for one in find_personal(text, language)]
    assert found == [(kind, match)]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("pay to SI56 1910 0000 0123 439", "en"),  # a wrong check digit
        ("card 4111 1111 1111 1112", "en"),
        ("EMŠO 0101006500007", "sl"),
        ("PESEL 44051401358", "pl"),
        ("the building was opened on 3 March 1962", "en"),
        ("gebaut am 03.04.1962", "de"),
        ("from 2019-03-04 to 2020-01-01", "en"),
        ("1 234 567 people, 3.14159265 and 192.168.0.1", "en"),
        ("version 10.2.33.4-5, order 000000000000000", "en"),
        ("0000 0000 0000 0000", "en"),
        ("a @ sign, user@host and @name", "en"),
        ("44051401359", "sl"),  # a Polish number in a Slovene text could be anything
    ],
)
def test_not_found(text: str, language: str) -> None:
    assert find_personal(text, language) == []


def test_every_country_is_checked_by_its_module() -> None:
    assert len({one.module for one in NATIONAL_IDS}) == len(NATIONAL_IDS) >= 20


def test_several_in_one_text_come_in_its_order_and_once() -> None:
    text = "+386 1 478 60 00 or ana@example.si, DE89 3704 0044 0532 0130 00"
    assert [one.kind for one in find_personal(text, "en")] == ["phone", "e-mail", "IBAN"]


def test_a_shape_shows_nothing() -> None:
    assert masked("Ana.Novak7@example.si") == "aaa.aaaaa9@aaaaaaa.aa"
    assert masked("出生 1962年3月") == "aa 9999a9a"
