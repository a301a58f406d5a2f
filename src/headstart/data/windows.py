"""Long texts as pieces that a network can read whole, so that nothing of a document goes unread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Lengths = Callable[[Sequence[str]], list[int]]  # tokens of each text


def windows(texts: Sequence[str], lengths: Lengths, most: int) -> list[list[str]]:
    """Each text as consecutive pieces of at most `most` tokens and of like length, parted at white space.

    A short text stays as it is; a word that is longer alone is a piece of its own.
    """
    own = lengths(texts)
    words = sorted({word for text, n in zip(texts, own, strict=True) if n > most for word in text.split()})
    (special,) = lengths([""])
    cost = {word: n - special for word, n in zip(words, lengths(words), strict=True)}
    return [[text] if n <= most else _pieces(text, cost, most - special) for text, n in zip(texts, own, strict=True)]


def _pieces(text: str, cost: dict[str, int], room: int) -> list[str]:
    words = text.split()
    total = sum(cost[word] for word in words)
    fair = -(-total // max(1, -(-total // room)))  # or else the last piece would be a crumb
    pieces: list[list[str]] = [[]]
    filled = 0
    for word in words:
        if pieces[-1] and (filled >= fair or filled + cost[word] > room):
            pieces.append([])
            filled = 0
        pieces[-1].append(word)
        filled += cost[word]
    return [" ".join(piece) for piece in pieces]
