"""Texts as tokens: a fast tokenizer, and how much of a text it may keep."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headstart.backbones.base import Located
from headstart.errors import BackboneError

MOST_TOKENS = 512  # longer texts are cut here, whatever the network could take
AT_ONCE = 1024  # texts tokenised to be counted: a token takes a hundred bytes until it is
tokenizing = threading.Lock()  # a fast tokenizer keeps its settings for a call: "Already borrowed" from two threads


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A fast tokenizer and how much of a text it may keep."""

    tokenizer: Any
    sha256: str  # of the whole tokenizer as JSON
    max_tokens: int

    def to_json(self) -> dict[str, Any]:
        """What decides the tokens of a text."""
        return {"tokenizer": self.sha256, "max_tokens": self.max_tokens}

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text after truncation."""
        found: list[int] = []
        for start in range(0, len(texts), AT_ONCE):
            tokens = self._tokens(texts[start : start + AT_ONCE], return_attention_mask=False)
            found += map(len, tokens["input_ids"])
        return found

    def tensors(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (N, T), padded to the longest."""
        tokens = self._tokens(texts, padding="longest", return_tensors="pt")
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def _tokens(self, texts: Sequence[str], **how: Any) -> Any:
        # token types are all zero for single texts, which is every network's own default
        with tokenizing:
            return self.tokenizer(
                list(texts), truncation=True, max_length=self.max_tokens, return_token_type_ids=False, **how
            )


def tokens_of(
    located: Located, config: Mapping[str, Any], reserved_positions: int = 0, most: int = MOST_TOKENS
) -> Tokens:
    """The tokenizer beside a network's weights; it pads and cuts on the right. BackboneError for a slow one."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(located.folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise BackboneError(
            f"{located.name} has only a slow tokenizer. Save its fast one beside the weights with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)`."
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:  # GPT-2 and its like: what pads is masked, and never looked at
        tokenizer.pad_token = tokenizer.eos_token
    return Tokens(
        tokenizer=tokenizer,
        sha256=sha256_of(tokenizer),
        max_tokens=min(tokenizer.model_max_length, positions_of(config) - reserved_positions, most),
    )


def sha256_of(tokenizer: Any) -> str:
    """sha256 (hex) of a whole fast tokenizer."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def positions_of(config: Mapping[str, Any]) -> int:
    """How many tokens a network of these settings can see at once."""
    return int(config.get("max_position_embeddings") or config.get("n_positions") or MOST_TOKENS)


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' own bars and remarks about loading."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
