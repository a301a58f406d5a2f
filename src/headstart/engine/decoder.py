"""Whisper's own decoder as a recogniser: low-rank adapters learn the transcripts (LoRA, arXiv:2106.09685).

The encoder stays as it is, and its output is cached. Tokens are learnt with the true ones before them (teacher
forcing), and read greedily. An adapted run keeps the two factors of each update, which are added to the pretrained
weights when it is loaded, so that nothing but transformers is needed to predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from headstart.backbones.base import Backbone
from headstart.backbones.changes import DOWN, UP
from headstart.backbones.costs import work_of
from headstart.backbones.resume import Resumable
from headstart.backbones.spelling import Spelling
from headstart.backbones.whisper_decoder import Decoder, decoder_of, spelling_of
from headstart.engine.platt import Line
from headstart.engine.recognizer import AS_SAID
from headstart.engine.utterances import Texts
from headstart.errors import BackboneError
from headstart.strategies.lora import Lora
from headstart.tasks.base import one_each
from headstart.tasks.heard import Heard, Word

SLACK, AT_LEAST = 1.5, 8  # a transcript may be so much denser than the densest of train, and has so many tokens anyway


class OnDecoder(nn.Module):
    """A decoder on the frames of an encoder's last stage; `head` holds its adapters and nothing else."""

    def __init__(self, upper: Resumable | None, decoder: Decoder, spelling: Spelling, stage: int) -> None:
        super().__init__()
        self.upper, self.decoder, self.spelling, self.stages = upper, decoder, spelling, (stage,)
        self.head = nn.ParameterDict()
        self.tokens_a_frame = float("inf")  # at most
        self.untouched = False

    def forward(self, inputs: Mapping[str, Tensor], maps: Mapping[int, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(frames (N, T, D), which of them count (N, T)); the decoder itself runs where the truth is known."""
        assert self.upper is not None, "a decoder that only predicts is given what stages hand on"
        return self.frames(self.upper.backbone[0], inputs, self.upper.whole(inputs, self.stages, maps))

    def frames(
        self, backbone: Backbone, inputs: Mapping[str, Tensor], whole: Mapping[int, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The same of whole outputs (N, T, D) by stage."""
        each = backbone.unpad(whole[self.stages[0]], inputs)
        lengths = torch.tensor([len(one) for one in each], device=each[0].device)
        frames = pad_sequence(each, batch_first=True).float()
        return frames, torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]

    def loss(self, raw: tuple[Tensor, Tensor], truth: Texts) -> Tensor:
        """Mean cross-entropy of a token; each is foretold from the true ones before it."""
        prompt = torch.tensor(self.spelling.prompt, device=truth.ids.device).expand(len(truth.ids), -1)
        states = self.decoder(torch.cat([prompt, truth.ids[:, :-1]], dim=1), *raw)[:, len(self.spelling.prompt) - 1 :]
        there = torch.arange(truth.ids.shape[1], device=truth.ids.device) < truth.lengths[:, None]
        return nn.functional.cross_entropy(self.decoder.logits(states[there]), truth.ids[there])

    def train(self, mode: bool = True) -> OnDecoder:
        """The decoder drops nothing: it is pretrained, and stays as it is but for the adapters."""
        super().train(mode)
        self.decoder.eval()
        return self

    @torch.inference_mode()
    def hears(self, backbone: Backbone, inputs: Mapping[str, Tensor], whole: Mapping[int, Tensor]) -> list[np.ndarray]:
        """(L, 2) of each recording of a batch: tokens, and their log-probabilities."""
        own = inputs["attention_mask"].sum(1).tolist()
        most = [min(self.spelling.longest - 1, AT_LEAST + int(min(n * self.tokens_a_frame, 1e6))) for n in own]
        allowed = self.spelling.allowed(self.decoder.embed_tokens.num_embeddings, self.untouched)
        return greedy(self.decoder, self.spelling, self.frames(backbone, inputs, whole), most, allowed)

    def said(self, found: np.ndarray, seconds: float) -> Spelled:
        """Such tokens as the words of a recording."""
        ids, log_probs = found[:, 0].astype(int).tolist(), found[:, 1]
        return Spelled(tuple(self.spelling.words(ids, log_probs)), seconds)


def greedy(
    decoder: Decoder, spelling: Spelling, raw: tuple[Tensor, Tensor], most: Sequence[int], allowed: np.ndarray
) -> list[np.ndarray]:
    """(L, 2) of each recording: the likeliest of the `allowed` (V,) tokens after those before it, until the end.

    There are at most so many of them, since a decoder can say the same for ever.
    """
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    frames, n = raw[0], len(raw[0])
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    may = torch.from_numpy(allowed).to(frames.device)
    tokens = torch.tensor(spelling.prompt, device=frames.device).expand(n, -1)
    done, found = np.zeros(n, dtype=bool), [list[tuple[int, float]]() for _ in range(n)]
    while not done.all():
        logits = decoder.logits(decoder(tokens, *raw, cache)[:, -1]).masked_fill(~may, -torch.inf)
        best = logits.log_softmax(-1).max(-1)
        tokens = best.indices[:, None]
        for row, (one, log_prob) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True)):
            if not done[row]:
                done[row] = one == spelling.end
                found[row] += [] if done[row] else [(one, log_prob)]
                done[row] |= len(found[row]) >= most[row]
    return [np.array(each, dtype=np.float64).reshape(-1, 2) for each in found]


@dataclass(frozen=True)
class Spelled:
    """What a decoder writes of one recording."""

    words: tuple[tuple[str, float], ...]  # and their confidence
    seconds: float  # how long the recording is


@dataclass(frozen=True, kw_only=True)
class AdaptedDecoder:
    """What a run keeps of a decoder: what was learnt, and how it is read. It takes the place of a `Recognizer`."""

    stage: int  # the last of the encoder
    tokens_a_frame: float  # at most: it must come to an end
    tokenizer: str  # sha256 of its file
    head: Mapping[str, Tensor] = field(repr=False)  # factors by names of the decoder's tensors; none: as pretrained
    sure: Line = AS_SAID  # what the confidence of a word means

    changes = None  # in the encoder

    @property
    def stages(self) -> tuple[int, ...]:
        """That are read."""
        return (self.stage,)

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        own = {"stage": self.stage, "tokens_a_frame": self.tokens_a_frame, "tokenizer": self.tokenizer}
        return {"kind": "decoder", **own, "sure": vars(self.sure)}

    def arrays(self) -> dict[str, np.ndarray]:
        """None beside the head."""
        return {}

    @classmethod
    def restore(cls, saved: Mapping[str, Any], head: Mapping[str, Tensor]) -> AdaptedDecoder:
        """The inverse of `to_json`, with the tensors."""
        own = {name: saved[name] for name in ("stage", "tokens_a_frame", "tokenizer")}
        return cls(**own, head=head, sure=Line(**saved["sure"]))

    def network(self, backbone: Backbone) -> OnDecoder:
        """The decoder beside this encoder, ready to predict. BackboneError where its tokens are others."""
        spelling = spelling_of(backbone)
        if spelling.sha256 != self.tokenizer:
            raise BackboneError(
                f"The tokenizer beside {backbone.provenance.name} is another than the one that this model learnt "
                "with. Bring back the original backbone, or fit again."
            )
        network = OnDecoder(None, decoder_of(backbone, self.head), spelling, self.stage)
        network.tokens_a_frame, network.untouched = self.tokens_a_frame, not self.head
        return network.eval().requires_grad_(False)

    def read(self, said: Sequence[Spelled]) -> np.ndarray:
        """What is written of N recordings, (N,) of Heard.

        This decoder does not say when a word is said: words share the recording among them by their lengths.
        """
        return one_each([Heard.of(timed(one)).surer(self.sure.of) for one in said])


def timed(spelled: Spelled) -> tuple[Word, ...]:
    """Words one after another from the start to the end of the recording, the longer ones for longer."""
    shares = np.array([len(word) + 1 for word, _ in spelled.words], dtype=float)
    bounds = spelled.seconds * np.cumsum([0.0, *shares]) / max(1.0, shares.sum())
    return tuple(
        Word(word, float(start), float(end), sure)
        for (word, sure), start, end in zip(spelled.words, bounds[:-1], bounds[1:], strict=True)
    )


def adapting(upper: Resumable, strategy: Lora, spelling: Spelling) -> OnDecoder:
    """A decoder with adapters on its attention, to be trained on the last stage of `upper`."""
    backbone = upper.backbone[0]
    decoder = decoder_of(backbone)
    strategy.put_on(decoder, decoder.matrices)
    network = OnDecoder(upper, decoder, spelling, backbone.n_stages - 1)
    for name, module in decoder.named_modules():
        if hasattr(module, "lora_A"):
            one: Any = module
            for suffix, factor in ((DOWN, one.lora_A["default"]), (UP, one.lora_B["default"])):
                network.head[f"{name}.weight{suffix}".replace(".", "/")] = factor.weight.requires_grad_(True)
    return network


def factors(head: Mapping[str, Tensor], strategy: Lora) -> dict[str, Tensor]:
    """What `adapting` learnt, by the names of `Changes`: the scale of the updates folded into the second factor."""
    named = {name.replace("/", "."): one for name, one in head.items()}
    return {name: one * (strategy.alpha / strategy.rank if name.endswith(UP) else 1) for name, one in named.items()}


def densest(spelling: Spelling, texts: Sequence[str], n_frames: Sequence[int]) -> float:
    """The most tokens a frame that a transcript may have, by the densest of these."""
    return SLACK * max(len(spelling.ids(text)) / n for text, n in zip(texts, n_frames, strict=True))


def decoder_cost(backbone: Backbone, spelling: Spelling, text: str, example: Any) -> float:
    """What the decoder costs that learns a transcript of an opened sound, as a share of a forward pass of the encoder.

    The output projection counts too: there are many more tokens than characters.
    """
    inputs = backbone.collate([example])
    decoder, tokens = decoder_of(backbone), torch.tensor([[*spelling.prompt, *spelling.ids(text)]])
    frames = torch.zeros(1, inputs["attention_mask"].shape[1], decoder.embed_tokens.embedding_dim)
    there = torch.ones(frames.shape[:2], dtype=torch.bool)
    work = work_of(decoder, tokens, frames, there) + 2 * tokens.numel() * decoder.embed_tokens.weight.numel()
    return work / work_of(backbone.network, **inputs)


def as_written(heard: Heard, characters: Sequence[str]) -> Heard:
    """What a decoder writes, as transcripts in these characters are: in their case, without marks that they lack."""
    cases = [one for one in characters if one.isalpha() and one.lower() != one.upper()]
    case = str.lower if not any(map(str.isupper, cases)) else str.upper if not any(map(str.islower, cases)) else str
    words = (
        replace(word, text="".join(c for c in case(word.text) if c in characters or c.isalnum()))
        for word in heard.words
    )
    return Heard.of(tuple(word for word in words if word.text))
