"""Texts: one string an example, or one UTF-8 `.txt` file; TF-IDF is their classical rival."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, ClassVar

import numpy as np

from headstart.errors import DataError
from headstart.modalities.base import ClassicalFeatures, Examined, Modality, Preview
from headstart.modalities.classical import TfIdf

_FILE_NAME = re.compile(r"[^\n]*\.\w{2,4}")  # 'scans/a.png'; prose ends in a full stop, not in a suffix
_TOKEN = r"(?u)\w+|[^\w\s]"  # marks count as words: '!' says something, and no text is left without one


class Text(Modality):
    """A stored item is the string itself."""

    noun: ClassVar = ("text", "texts")
    suffixes: ClassVar = frozenset({".txt"})
    column_names: ClassVar = (
        "text",
        "sentence",
        "review",
        "content",
        "comment",
        "message",
        "question",
        "title",
        "body",
        "document",
        "utterance",
        "tweet",
        "description",
    )
    default_backbone: ClassVar = "minilm"

    def recognises(self, values: Sequence[Any], folder: str | None) -> bool:
        """Mostly strings that read like prose: letters, several words or some length, and not a few repeated ones."""
        values = [value for value in values if not _missing(value)]
        if values and all(isinstance(value, PurePath) for value in values):
            return all(value.suffix.lower() in self.suffixes for value in values)
        texts = [value for value in values if isinstance(value, str)]
        if not texts or len(texts) < 0.9 * len(values) or 5 * len(set(texts)) < len(texts):
            return False
        n_files = sum(_FILE_NAME.fullmatch(text) is not None for text in texts)
        n_letters = sum(character.isalpha() for text in texts for character in text)
        n_characters = sum(map(len, texts))
        n_spaced = sum(" " in text.strip() for text in texts)
        reads = n_spaced >= len(texts) / 2 or n_characters >= 20 * len(texts)
        return reads and n_files <= len(texts) / 2 and n_letters >= n_characters / 2

    def store(self, value: Any, folder: str | None) -> str:
        """A string as it is, a `Path` as its file's text, a missing value as ''.

        Strings are always texts, never file names. DataError for a file that cannot be read, and for lists and dicts.
        """
        if _missing(value):
            return ""
        if isinstance(value, PurePath):
            return _read(value, folder)
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        if isinstance(value, (str, int, float, np.generic)):
            return str(value)
        raise DataError(f"A text is a string or the pathlib.Path of a text file; this is a {type(value).__name__}.")

    def arrow_feature(self) -> Any:
        """A plain string."""
        from datasets import Value

        return Value("string")

    def example(self) -> str:
        """A few words."""
        return "a few words"

    def examine(self, item: Any) -> Examined:
        """The digest is that of the text without the white space around it."""
        if not isinstance(item, str):
            return Examined("", f"not a text but a {type(item).__name__}")
        text = item.strip()
        digest = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
        return Examined(digest, None if text else "empty text")

    def open(self, item: Any, detail: int | None = None) -> str:
        """The text without the white space around it, as its digest takes it."""
        return str(item).strip()

    def preview(self, item: Any) -> Preview:
        """The first 400 characters."""
        return Preview(text=_shortened(str(item).strip(), 400))

    def describe(self, item: Any) -> str:
        """The first 60 characters, on one line."""
        return _shortened(" ".join(str(item)[:400].split()), 60) or "(empty)"

    def name_in_full(self, item: Any) -> str:
        """The whole text."""
        return str(item)

    def classical_features(self) -> Sequence[ClassicalFeatures]:
        """TF-IDF of words and word pairs, alone and with pieces of words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        words, also_words = (
            TfidfVectorizer(
                ngram_range=(1, 2), token_pattern=_TOKEN, sublinear_tf=True, max_features=30_000, dtype=np.float32
            )
            for _ in range(2)
        )
        pieces = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, max_features=20_000, dtype=np.float32
        )
        return [
            TfIdf("TF-IDF of words", {"words": words}),
            TfIdf("TF-IDF of words and pieces of words", {"words": also_words, "pieces": pieces}),
        ]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _read(path: PurePath, folder: str | None) -> str:
    """A file's text: UTF-8, else Windows' western European, of which Latin-1 is nearly a part."""
    full = Path(folder, path) if folder else Path(path)
    try:
        content = full.read_bytes()
    except OSError as error:
        raise DataError(
            f"Cannot read the text file {full}: {error.strerror}. Check the path and its rights."
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
