"""Personal data in a text: e-mail and IP addresses, telephone, card, bank account and US social security numbers.

Patterns with checks (Luhn for cards, ISO 7064 mod 97 for IBANs), meant to be precise rather than complete: names and
postal addresses are not looked for, and a clean result is no proof that there is nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from headstart.data.conversation import Conversation, Turn
from headstart.errors import listed

E_MAIL, IBAN, CARD, SSN, IP, PHONE = "E-MAIL", "IBAN", "CARD", "SSN", "IP", "PHONE"
NOUNS = {
    E_MAIL: ("e-mail address", "e-mail addresses"),
    IBAN: ("IBAN", "IBANs"),
    CARD: ("card number", "card numbers"),
    SSN: ("US social security number", "US social security numbers"),
    IP: ("IP address", "IP addresses"),
    PHONE: ("telephone number", "telephone numbers"),
}
_CARD_KINDS = re.compile(
    r"4(\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}|6\d{15}|6\d{18}"
)
_DATE = re.compile(r"(19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](19|20)\d\d")
_START, _END = r"(?<![\w.,:/+-])", r"(?![\w]|[-/.,:]\d)"  # a number stands alone, and is no piece of a longer one


class Span(NamedTuple):
    """Where something personal stands in a text."""

    start: int
    end: int
    kind: str  # a key of NOUNS


def find(text: str) -> list[Span]:
    """All spans, in order, none within another."""
    found: list[Span] = []
    for kind, pattern, is_one in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("it")
            if is_one(match["it"]) and not any(start < other.end and other.start < end for other in found):
                found.append(Span(start, end, kind))
    return sorted(found)


def mask(text: str) -> str:
    """The text with `[E-MAIL]`, `[PHONE]` … in place of what `find` finds."""
    return "".join(_pieces(text, find(text)))


def redacted(conversations: Sequence[Conversation]) -> tuple[list[Conversation], str]:
    """The conversations with all turns masked, and a note of how much that was."""
    counts: Counter[str] = Counter()
    masked = []
    for one in conversations:
        found = [find(turn.text) for turn in one.turns]
        counts.update(span.kind for spans in found for span in spans)
        pairs = zip(one.turns, found, strict=True)
        turns = (Turn(turn.role, "".join(_pieces(turn.text, spans))) for turn, spans in pairs)
        masked.append(Conversation(tuple(turns)) if any(found) else one)
    return masked, f"masked {counted(counts) or 'nothing: no personal data of the known patterns was found'}"


def counted(counts: Mapping[str, int]) -> str:
    """ "3 e-mail addresses, 1 IBAN"; "" for nothing."""
    return listed(f"{counts[kind]:,} {nouns[counts[kind] != 1]}" for kind, nouns in NOUNS.items() if counts.get(kind))


def _pieces(text: str, spans: list[Span]) -> Iterator[str]:
    at = 0
    for start, end, kind in spans:
        yield f"{text[at:start]}[{kind}]"
        at = end
    yield text[at:]


def is_card(text: str) -> bool:
    """Digits as a card company gives them out, whose last one is right (Luhn 1954)."""
    digits = re.sub(r"\D", "", text)
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return bool(_CARD_KINDS.fullmatch(digits)) and sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Letters and digits whose check digits are right (ISO 13616, ISO 7064 mod 97-10)."""
    plain = re.sub(r"\s", "", text).upper()
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _is_ip(text: str) -> bool:
    """An address of a machine somewhere: not this one, not all of them; of version 6 at least three parts written."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if address.version == 6 and sum(map(bool, text.split(":"))) < 3:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or text.startswith("255."))


def _is_phone(text: str) -> bool:
    """Of 7 to 15 digits, and no date; +1 is followed by ten."""
    digits = re.sub(r"\D", "", text)
    if text.startswith("+1") and len(digits) != 11:
        return False
    return 7 <= len(digits) <= 15 and not _DATE.fullmatch(text) and len(set(digits)) > 1


_NO_VERSION = "".join(f"(?<!{word} )" for word in ("version", "Version", "release", "section", "Section"))
_KEYWORD = (  # "tel.", "call me at"
    r"\b(?i:tel|telephone|phone|mobile|cell|fax|whatsapp|telefon|handy|call|text)\b"
    r"(?i:[.:#]|\s|\bme|\bus|\bat|\bon|\bis|\bno|\bnumbers?|\bnummer){1,8}"
)
_PATTERNS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = tuple(
    (kind, re.compile(pattern), is_one)
    for kind, pattern, is_one in (
        (E_MAIL, r"(?P<it>(?<![\w.+%-])[\w.+%-]*\w@(?:[\w-]+\.)+[^\W\d_]{2,24})(?![\w-])", bool),
        (IBAN, r"(?<!\w)(?P<it>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?!\w)", is_iban),
        (CARD, rf"{_START}(?P<it>\d(?:[ -]?\d){{12,18}}){_END}", is_card),
        (SSN, rf"{_START}(?P<it>(?!000|666|9)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}){_END}", bool),
        (IP, rf"(?<![\w.:/+-]){_NO_VERSION}(?P<it>(?:\d{{1,3}}\.){{3}}\d{{1,3}})(?!\w|\.\d)", _is_ip),
        (IP, r"(?<![\w:.])(?P<it>(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4})(?![\w:])", _is_ip),
        # +49 30 1234567, +1 (555) 234-5678
        (PHONE, rf"(?<![\w+])(?P<it>\+[1-9]\d{{0,2}}(?:[ .-]?\(?\d{{1,5}}\)?){{2,6}}){_END}", _is_phone),
        # (555) 234-5678; 555-234-5678, 1-800-555-2345
        (PHONE, rf"{_START}(?P<it>(?:1[ .-])?\([2-9]\d\d\) ?[2-9]\d\d[ .-]\d{{4}}){_END}", _is_phone),
        (PHONE, rf"{_START}(?P<it>(?:1[.-])?[2-9]\d\d(?P<s>[.-])[2-9]\d\d(?P=s)\d{{4}}){_END}", _is_phone),
        # 030 1234567, 020 7946 0958, 0171/1234567: nine digits or more after a nought
        (
            PHONE,
            rf"{_START}(?<!\d )(?P<it>(?=(?:\D?\d){{9}})0\d{{1,4}}[ /-]\d{{3,8}}(?:[ -]\d{{2,8}}){{0,3}}){_END}",
            _is_phone,
        ),
        (PHONE, rf"{_KEYWORD}(?P<it>\+?\(?\d[\d ()./-]{{5,18}}\d){_END}", _is_phone),
    )
)
