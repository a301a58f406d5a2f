"""A talk with a chatbot that goes on: its history, what the system says first, what is left out when it is long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from headstart.backbones import catalog
from headstart.backbones.causal_lm import CausalLm
from headstart.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from headstart.deploy import artifact
from headstart.deploy.restore import load
from headstart.deploy.talk import fitting
from headstart.engine.talker import Talker
from headstart.engine.voice import Sampling
from headstart.errors import PlanError, RunError
from headstart.hosted.voice import AnyVoice
from headstart.progress import Progress


def voice_of(reference: str, progress: Progress) -> tuple[AnyVoice, str]:
    """The chatbot of a run, or a language model as it was pretrained; and what it is, in one line.

    PlanError for a run, or a backbone, that does not chat.
    """
    folder = Path(reference)
    if (folder / artifact.CARD).is_file() or (folder.parts[:1] == (artifact.RUNS,) and not folder.exists()):
        model = load(reference)
        voice = model.voice()
        return voice, f"{Path(reference).name}: {model.origin.name}, {model.plan.strategy}"
    backbone = catalog.load(reference, progress)
    if not isinstance(backbone, CausalLm):
        raise PlanError(
            f"{reference} is no language model, and cannot chat. Give a run of `headstart fit DATA --task chat`, or a "
            "language model such as smollm2-135m."
        )
    found = Talker(changes=None, most_tokens=backbone.context).network(backbone)
    return found, f"{backbone.provenance.name}, untouched"


@dataclass(kw_only=True)
class Session:
    """One user's talk."""

    voice: AnyVoice
    how: Sampling
    system: str | None = None  # what the system says first; None: what the run has for it
    turns: list[Turn] = field(default_factory=list)  # of the user and the assistant
    n_left_out: int = 0  # of the oldest turns, at the last answer

    def say(self, text: str) -> Iterator[str]:
        """The answer in pieces; kept as far as it was read, with the question. DataError where this is too long."""
        self.turns.append(Turn(USER, text))
        shown, self.n_left_out = fitting(self.voice, self.conversation, self.how)
        said: list[str] = []
        try:
            with closing(self.voice.stream(shown, self.how)) as pieces:
                for piece in pieces:
                    said.append(piece)
                    yield piece
        finally:
            if answer := "".join(said).strip():
                self.turns.append(Turn(ASSISTANT, answer))
            else:  # nothing was said
                self.turns.pop()

    @property
    def conversation(self) -> Conversation:
        """All of it."""
        system = self.voice.system if self.system is None else self.system
        return Conversation((*([Turn(SYSTEM, system)] if system else []), *self.turns))

    def reset(self) -> None:
        """Begin anew; what the system says stays."""
        self.turns.clear()
        self.n_left_out = 0

    def save(self, path: Path) -> None:
        """Add the talk to a file: its messages as JSON on one line. RunError where that cannot be written."""
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"messages": self.conversation.messages}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}. Choose another file.") from error
