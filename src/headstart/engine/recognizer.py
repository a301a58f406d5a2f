"""A recogniser: the stages of a backbone, a head that reads them, and what it hears in recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.costs import work_of
from headstart.backbones.resume import Resumable
from headstart.engine import freeze
from headstart.engine.maps import whole_maps
from headstart.engine.platt import Line
from headstart.engine.utterances import Texts
from headstart.errors import PlanError
from headstart.modalities.base import Modality
from headstart.modalities.waves import RATE
from headstart.tasks.base import one_each
from headstart.tasks.beam import BeamSearch, Language
from headstart.tasks.ctc import Alphabet, greedy, heard
from headstart.tasks.ctc_head import CtcHead, Frames
from headstart.tasks.heard import Heard
from headstart.tasks.ngram import Ngram

AS_SAID = Line()
LANGUAGE = "language."  # before the names of the language model's arrays


class OnFrames(nn.Module):
    """A head that writes characters on the stages of a backbone above a cut."""

    def __init__(self, upper: Resumable | None, frames: Frames) -> None:
        super().__init__()
        self.upper, self.frames = upper, frames  # no `upper`: outputs come from a backbone that others run
        self.head, self.stages = CtcHead(frames), (frames.stage,)

    def forward(self, inputs: Mapping[str, Tensor], maps: Mapping[int, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(log-probabilities (N, T, K), frames (N,) that count)."""
        assert self.upper is not None, "a head that only predicts is given what stages hand on"
        whole = self.upper.whole(inputs, (self.frames.stage,), maps)
        return self.read(self.upper.backbone[0], inputs, whole[self.frames.stage])

    def loss(self, raw: tuple[Tensor, Tensor], truth: Texts) -> Tensor:
        """Mean loss a character of a batch."""
        return self.head.loss(*raw, *truth)

    def read(self, backbone: Backbone, inputs: Mapping[str, Tensor], output: Tensor) -> tuple[Tensor, Tensor]:
        """The same of the stage's outputs (N, T, D)."""
        each = backbone.unpad(output, inputs)
        lengths = torch.tensor([len(one) for one in each], device=output.device)
        return self.head(pad_sequence(each, batch_first=True), lengths), lengths

    @torch.inference_mode()
    def hears(self, backbone: Backbone, inputs: Mapping[str, Tensor], whole: Mapping[int, Tensor]) -> list[np.ndarray]:
        """Log-probabilities (T, K) of each recording of a batch, from whole outputs by stage."""
        log_probs, lengths = self.read(backbone, inputs, whole[self.frames.stage])
        return [one[:n].float().numpy(force=True) for one, n in zip(log_probs, lengths.tolist(), strict=True)]

    def said(self, found: np.ndarray, seconds: float) -> Said:
        """Such log-probabilities, of a recording that is so long."""
        return Said(found, seconds / len(found))


@dataclass(frozen=True, kw_only=True)
class Recognizer:
    """What a run keeps of a recogniser: how it is built, what was learnt, and how its frames are read."""

    alphabet: Alphabet
    frames: Frames
    head: Mapping[str, Tensor] = field(repr=False)  # the head's tensors
    changes: Changes | None = None  # what training changed in the backbone
    language: Language | None = None  # of the transcripts, where it helped on validation
    beam: bool = False  # whether texts are searched for rather than paths
    sure: Line = AS_SAID  # what the confidence of a word means

    @property
    def stages(self) -> tuple[int, ...]:
        """That are read."""
        return (self.frames.stage,)

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        return {
            "characters": list(self.alphabet.characters),
            "frames": self.frames.to_json(),
            "language": self.language.to_json() if self.language else None,
            "beam": self.beam,
            "sure": vars(self.sure),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The language model's arrays, by name."""
        return {f"{LANGUAGE}{k}": v for k, v in self.language.model.state().items()} if self.language else {}

    @classmethod
    def restore(
        cls,
        saved: Mapping[str, Any],
        head: Mapping[str, Tensor],
        changes: Changes | None,
        arrays: Mapping[str, np.ndarray],
    ) -> Recognizer:
        """The inverse of `to_json` and `arrays`, with the tensors."""
        language = None
        if saved["language"]:
            state = {n.removeprefix(LANGUAGE): array for n, array in arrays.items() if n.startswith(LANGUAGE)}
            about = saved["language"]
            model = Ngram.restore(about["unit"], state)
            language = Language(model=model, weight=about["weight"], bonus=about["bonus"])
        return cls(
            alphabet=Alphabet(tuple(saved["characters"])),
            frames=Frames.from_json(saved["frames"]),
            head=head,
            changes=changes,
            language=language,
            beam=saved["beam"],
            sure=Line(**saved["sure"]),
        )

    def network(self, backbone: Backbone | None = None) -> OnFrames:
        """The head, ready to predict from what stages hand on; nothing of the backbone is needed for it."""
        network = OnFrames(None, self.frames)
        network.head.load_state_dict(dict(self.head))
        return network.eval().requires_grad_(False)

    def read(self, said: Sequence[Said]) -> np.ndarray:
        """Frames of N recordings as what is heard in them, (N,) of Heard."""
        search = BeamSearch(self.alphabet, self.language) if self.beam else None
        return one_each([self._heard(one, search) for one in said])

    def _heard(self, said: Said, search: BeamSearch | None) -> Heard:
        ids = greedy(said.log_probs) if search is None else search.decode(said.log_probs)
        return heard(said.log_probs, ids, self.alphabet, said.frame_s).surer(self.sure.of)


@dataclass(frozen=True)
class Said:
    """What a head says of each frame of one recording."""

    log_probs: np.ndarray  # (T, K)
    frame_s: float  # seconds a frame


def depths_of(backbone: Backbone, example: Any) -> dict[int, int]:
    """Stage -> numbers a frame, of the stages that hand on frames (N, T, D) as the last one does.

    PlanError where that hands on none.
    """
    whole = whole_maps(backbone, backbone.collate([example]), range(backbone.n_stages))
    shape = whole[backbone.n_stages - 1].shape
    if len(shape) != 3:
        raise PlanError(
            f"The stages of {backbone.provenance.name} hand on no frames, and transcripts need them. "
            "Use a speech encoder, such as 'whisper-tiny.en'."
        )
    return {stage: int(one.shape[-1]) for stage, one in whole.items() if one.shape == shape}


def head_cost(backbone: Backbone, frames: Frames, example: Any) -> float:
    """What a head's forward pass costs, as a share of the backbone's."""
    inputs = backbone.collate([example])
    output = whole_maps(backbone, inputs, (frames.stage,))[frames.stage].float()
    return work_of(CtcHead(frames).eval(), output, torch.tensor([output.shape[1]])) / work_of(
        backbone.network, **inputs
    )


class Hears(Protocol):
    """What reads the outputs of stages: a head that writes characters, or a decoder."""

    @property
    def stages(self) -> tuple[int, ...]:
        """Whose outputs are read."""

    def hears(self, backbone: Backbone, inputs: Mapping[str, Tensor], whole: Mapping[int, Tensor]) -> list[np.ndarray]:
        """An array for each recording of a batch, from whole outputs by stage."""

    def said(self, found: np.ndarray, seconds: float) -> Any:
        """Such an array as its recogniser reads it, of a recording that is so long."""


class Reads(Protocol):
    """What makes words of what a network says: a recogniser, or an adapted decoder."""

    @property
    def stages(self) -> tuple[int, ...]:
        """That its network reads."""

    @property
    def changes(self) -> Changes | None:
        """What training changed in the backbone."""

    def network(self, backbone: Backbone) -> Any:
        """What `Hears`, ready to predict, on a backbone that holds the changes already."""

    def read(self, said: Sequence[Any]) -> np.ndarray:
        """What is heard in N recordings, (N,) of Heard."""


def listen(network: Hears, backbone: Backbone, modality: Modality, items: Sequence[Any], bar: freeze.Bar) -> list[Any]:
    """What a network says of N stored recordings, as its recogniser reads it."""
    seconds: dict[int, float] = {}

    def look(backbone: Backbone, inputs: dict[str, Any]) -> list[np.ndarray]:
        return network.hears(backbone, inputs, whole_maps(backbone, inputs, network.stages))

    def time(position: int, opened: Any) -> Any:
        seconds[position] = len(opened) / RATE
        return opened

    said: list[Any] = [None] * len(items)
    with bar(len(items), modality.noun[1]) as advance:
        for rows, each in freeze.run(backbone, modality, items, look, change=time):
            for row, one in zip(rows, each, strict=True):
                said[row] = network.said(one, seconds[int(row)])
            advance(len(rows))
    return said
