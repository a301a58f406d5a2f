"""How far two texts agree: token F1 as SQuAD has it (Rajpurkar et al. 2016, arXiv:1606.05250), ROUGE-L (Lin 2004, ACL
W04-1013).

A token is a word between spaces. Scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Burmese,
Khmer) have a token a character, as MLQA has it for Chinese (arXiv:1910.07475).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

SPACELESS = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
ARTICLES = re.compile(r"\b(a|an|the)\b")  # English ones: SQuAD's


class _Written(dict[int, str]):
    """How each character is written, for `str.translate`; told once a character."""

    def __init__(self, rule: Callable[[str], str]):
        super().__init__()
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = self.rule(chr(code))
        return self[code]


def _is_mark(one: str) -> bool:
    return one in string.punctuation or unicodedata.category(one)[0] == "P"


UNMARKED = _Written(lambda one: "" if _is_mark(one) else one)
LETTERS = _Written(lambda one: one if unicodedata.category(one)[0] in "LMN" else " ")


def bare_tokens(text: str) -> list[str]:
    """In lower case, without punctuation and the articles a, an, the: what SQuAD compares."""
    return ARTICLES.sub(" ", _spaced(text).translate(UNMARKED)).split()


def tokens(text: str) -> list[str]:
    """In lower case, runs of letters, marks and digits: what ROUGE compares (without stemming)."""
    return _spaced(text).translate(LETTERS).split()


def token_f1(one: str, other: str) -> float:
    """Harmonic mean of the shares of each text's tokens that the other has too; order does not matter."""
    a, b = bare_tokens(one), bare_tokens(other)
    return _f((Counter(a) & Counter(b)).total(), a, b)


def rouge_l(one: str, other: str) -> float:
    """Harmonic mean of the shares of each text's tokens that lie on their longest common subsequence."""
    a, b = tokens(one), tokens(other)
    return _f(longest_common(a, b), a, b)


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a bit for each place of `a` (Hyyrö 2004, "Bit-parallel LCS-length
    computation revisited").
    """
    places: dict[str, int] = {}
    for place, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << place
    every = (1 << len(a)) - 1
    row = every  # a 0 where the subsequence has grown
    for token in b:
        met = row & places.get(token, 0)
        row = (row + met | row - met) & every
    return len(a) - row.bit_count()


def _spaced(text: str) -> str:
    return SPACELESS.sub(r" \1 ", unicodedata.normalize("NFC", text).lower())


def _f(hits: int, a: Sequence[str], b: Sequence[str]) -> float:
    """1 where both are empty."""
    return 2 * hits / (len(a) + len(b)) if a or b else 1.0
