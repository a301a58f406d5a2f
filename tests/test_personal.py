"""Personal data: what is found and masked, and what looks alike and is left alone."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data import personal
from headstart.data.conversation import Conversation

FOUND = [
    ("write to ada.lovelace+x@mail.example.co.uk.", "write to [E-MAIL]."),
    ("<info@example.com>", "<[E-MAIL]>"),
    ("card 4111 1111 1111 1111, thanks", "card [CARD], thanks"),
    ("5500-0000-0000-0004", "[CARD]"),
    ("amex 378282246310005", "amex [CARD]"),
    ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN [IBAN] please"),
    ("GB82WEST12345698765432", "[IBAN]"),
    ("my SSN is 219-09-9999.", "my SSN is [SSN]."),
    ("ping 192.168.178.24 or 8.8.8.8", "ping [IP] or [IP]"),
    ("at 2001:db8:85a3::8a2e:370:7334 now", "at [IP] now"),
    ("call +49 30 1234567 today", "call [PHONE] today"),
    ("+1 (555) 234-5678", "[PHONE]"),
    ("+15552345678", "[PHONE]"),
    ("(555) 234-5678 or 555-234-5678", "[PHONE] or [PHONE]"),
    ("555.234.5678", "[PHONE]"),
    ("1-800-555-2345", "[PHONE]"),
    ("in Berlin 030 12345678", "in Berlin [PHONE]"),
    ("020 7946 0958", "[PHONE]"),
    ("0171/12345678", "[PHONE]"),
    ("phone number: 2345678", "phone number: [PHONE]"),
    ("call me at 5552345678!", "call me at [PHONE]!"),
]
LEFT = [
    *("on 2024-01-31", "on 31.01.2024", "01/02/2024", "2024-01-31 10:30:45", "2024-01-31T12:00:00", "31 01 2024"),
    *("call me on 2024-01-31", "call 911", "from 1999-2004", "1990 1991 1992 1993", "2019-2020-2021"),
    *("ISBN 978-3-16-148410-0", "ISBN 0-306-40615-2", "ISBN 0306406152", "ISBN 9783161484100"),
    *("$1,234,567,890.12", "costs 12.50 or 1.234,56 €", "9,999,999,999", "3.14159265358979", "100000000000"),
    *("order 4111111111111112", "id 1234567890123456", "tracking 00340434161094042557", "0.30 1234567 kg"),
    *("version 1.2.3.4", "127.0.0.1", "0.0.0.0", "300.1.2.3", "section 1.2.3.4", "1.2.3", "1.2.3.4.5"),
    *("at 10:30:45", "std::vector", "a::b", "ratio 1:2:3", "00:1A:2B:3C:4D:5E"),
    *("me @ home", "@user", "a@b", "x@y.1", "DE89 3704 0044 0532 0130 01", "DE FG 12", "123-45-678", "000-12-3456"),
    *("666-12-3456", "+1 000 000", "+5", "a+b", "555-1234", "(555)", "200-300-400", "1-2-3", "7777777 times"),
    *("doses of 250, 500, 1000 mg", "SARS-CoV-2", "12345678", "GSE-123-456-7890x", "https://x.org/555-234-5678"),
]


@pytest.mark.parametrize(("text", "masked"), FOUND)
def test_found(text, masked):
    assert personal.mask(text) == masked


@pytest.mark.parametrize("text", LEFT)
def test_left_alone(text):
    assert personal.find(text) == []


def test_luhn_finds_every_changed_digit():
    """Whatever one digit of a card number is changed to, the check fails."""
    number = "4111111111111111"
    for i in range(1, 16):
        for digit in set("0123456789") - {number[i]}:
            assert not personal.is_card(number[:i] + digit + number[i + 1 :])
    assert personal.is_card(number)


@settings(deadline=None, max_examples=50)
@given(st.text(), st.sampled_from([text for text, _ in FOUND]), st.text())
def test_masking_twice_is_masking_once(before, middle, after):
    once = personal.mask(f"{before} {middle} {after}")
    assert personal.mask(once) == once


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="0123456789 .-/()+@:abAB", max_size=60))
def test_spans_are_in_order_and_apart(text):
    spans = personal.find(text)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)


def test_redacted_counts():
    talk = Conversation.asking("I am a@b.org, 555-234-5678", "Mail c@d.org")
    masked, note = personal.redacted([talk, Conversation.asking("hello")])
    assert [turn.text for turn in masked[0].turns] == ["Mail [E-MAIL]", "I am [E-MAIL], [PHONE]"]
    assert note == "masked 2 e-mail addresses, 1 telephone number"
    assert personal.redacted([Conversation.asking("hello")])[1].startswith("masked nothing")
