"""How Whisper's decoder writes texts: byte-level tokens, what it is prompted with, and words read back from tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import BackboneError, MissingExtraError, PlanError

START, SILENT_CLOCK, TRANSCRIBE, END = "<|startoftranscript|>", "<|notimestamps|>", "<|transcribe|>", "<|endoftext|>"
SPACE = "Ġ"  # how a byte-level token that starts with a space is written (GPT-2's alphabet of bytes)


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """A tokenizer, and the tokens that go before and after a transcript.

    English-only models are prompted as they were trained, with START and SILENT_CLOCK. Multilingual ones also expect
    a language and a task between the two: they get them where the generation settings name the language, as those of
    a model that was fine-tuned on one do. Where none is named, nothing says what language the transcripts are in, and
    both are left out: the adapters learn to do without.
    """

    tokenizer: Any
    prompt: tuple[int, ...]
    end: int
    longest: int  # tokens of a transcript, its end counted
    as_trained: bool  # whether the prompt is one that the decoder was trained with
    sha256: str  # of the tokenizer's file
    suppressed: tuple[int, ...] = ()  # tokens that the untouched decoder may not write: brackets around noises …

    @classmethod
    def of(cls, folder: Path, n_positions: int) -> Spelling:
        """Read from a folder in the hub's layout. BackboneError where the tokenizer or one of the tokens is lacking."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtraError("transformers", "audio") from None
        file = folder / "tokenizer.json"
        try:
            tokenizer, sha256 = Tokenizer.from_file(str(file)), hashlib.sha256(file.read_bytes()).hexdigest()
        except Exception as error:  # the library raises nothing more precise
            raise BackboneError(
                f"{file} cannot be read, and the decoder writes with it: {error}. Give the folder of a complete model, "
                "or another --strategy: the encoder alone needs no tokenizer."
            ) from error
        settings = _settings(folder)
        prompt, as_trained = _prompt(tokenizer, settings)
        lacking = [token for token in (*prompt, END) if tokenizer.token_to_id(token) is None]
        if lacking:
            raise BackboneError(
                f"{file} lacks {lacking[0]}, so that the decoder cannot be prompted as Whisper is. Give the folder of "
                "a complete model, or another --strategy."
            )
        ids: list[Any] = [tokenizer.token_to_id(token) for token in (*prompt, END)]
        longest = n_positions - len(prompt) + 1
        return cls(
            tokenizer=tokenizer,
            prompt=tuple(ids[:-1]),
            end=ids[-1],
            longest=longest,
            as_trained=as_trained,
            sha256=sha256,
            suppressed=tuple(settings.get("suppress_tokens") or ()),
        )

    def ids(self, text: str) -> list[int]:
        """Tokens of a transcript and its end; of one that is too long for the decoder, the first ones."""
        found: list[int] = self.tokenizer.encode(f" {text}", add_special_tokens=False).ids
        return [*found, self.end][: self.longest]

    def text(self, ids: Sequence[int]) -> str:
        """The inverse of `ids`, with or without the end."""
        read: str = self.tokenizer.decode([one for one in ids if one != self.end], skip_special_tokens=False)
        return " ".join(read.split())

    def covers(self, texts: Sequence[str]) -> None:
        """PlanError where a text does not come back as it was written; with byte-level tokens all do."""
        lost = [
            text for text in texts if self.text(self.tokenizer.encode(f" {text}", add_special_tokens=False).ids) != text
        ]
        if lost:
            raise PlanError(
                f"The decoder's tokens cannot write {len(lost)} of {len(texts)} transcripts, such as {lost[0]!r}, "
                f"which comes back as {self.text(self.ids(lost[0]))!r}. Learn characters instead (--strategy frozen)."
            )

    def allowed(self, n_tokens: int, untouched: bool = False) -> np.ndarray:
        """(V,) which tokens may stand in a transcript: those of the texts, and the end; no prompts, no times.

        Of an `untouched` decoder those that its own settings suppress may not either.
        """
        may = np.zeros(n_tokens, dtype=bool)
        may[[one for one in self._plain if one < n_tokens]] = True
        may[[one for one in self.suppressed if untouched and one < n_tokens]] = False
        may[self.end] = True
        return may

    def words(self, ids: Sequence[int], log_probs: Sequence[float] | np.ndarray) -> list[tuple[str, float]]:
        """Each word, and the geometric mean of the probabilities of its tokens."""
        groups: list[list[int]] = []
        for position, one in enumerate(ids):
            if not groups or self._tokens.get(one, "").startswith(SPACE):
                groups.append([])
            groups[-1].append(position)
        found = []
        for group in groups:
            sure = float(np.exp(np.mean([log_probs[position] for position in group])))
            found += [(word, sure) for word in self.text([ids[position] for position in group]).split()]
        return found

    @cached_property
    def _plain(self) -> list[int]:
        special = self.tokenizer.get_added_tokens_decoder()
        return [one for one in self.tokenizer.get_vocab(with_added_tokens=False).values() if one not in special]

    @cached_property
    def _tokens(self) -> dict[int, str]:
        return {index: token for token, index in self.tokenizer.get_vocab(with_added_tokens=True).items()}


def _settings(folder: Path) -> dict[str, Any]:
    """What is said of how to generate; nothing where it cannot be read."""
    try:
        found = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _prompt(tokenizer: Any, settings: dict[str, Any]) -> tuple[list[str], bool]:
    """The tokens before a transcript, and whether the decoder was trained with them."""
    multilingual = settings.get("is_multilingual", tokenizer.token_to_id("<|en|>") is not None)
    if not multilingual:
        return [START, SILENT_CLOCK], True
    language = _language(tokenizer, settings)
    return ([START, language, TRANSCRIBE, SILENT_CLOCK], True) if language else ([START, SILENT_CLOCK], False)


def _language(tokenizer: Any, settings: dict[str, Any]) -> str | None:
    """The token of the language that the settings name, as a name's token or at the first place after the start."""
    named = settings.get("language")
    token = named if not named or str(named).startswith("<|") else f"<|{named}|>"
    if token and tokenizer.token_to_id(token) is not None:
        return str(token)
    forced = dict(pair for pair in settings.get("forced_decoder_ids") or [] if len(pair) == 2)
    found: str | None = tokenizer.id_to_token(forced[1]) if forced.get(1) is not None else None
    return found
