"""Masked language modelling (BERT, Devlin et al. 2018, arXiv:1810.04805) on the texts of a domain
(Gururangan et al. 2020, arXiv:2004.10964).

15 % of the tokens are chosen, never special ones; of those 80 % become the mask, 10 % a random token, and 10 % stay.
The head is BERT's: a linear layer, GELU, a layer norm, and the word embeddings once more. Where the weight file holds
one it is used; else it starts as the identity, with a bias that says how often each token occurs, and learns alone at
first, so that it does not tear the network. (A bias of zeros would need thousands of Adam's steps for that.)

What the network was pretrained for, such as telling sentences apart, may be lost on the way. `anchor` adds the cosine
distance of the pooled last stage from what the network as it was makes of the same text unmasked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, gelu, linear

from headstart.backbones.base import Backbone, Located
from headstart.backbones.resume import Resumable
from headstart.errors import PlanError
from headstart.losses.base import Learner, Loss, Terms, View

MASKED, BECOME_MASK, BECOME_RANDOM = 0.15, 0.8, 0.1
PUBLISHED = {  # model_type: where the head's linear layer, layer norm and bias stand in a weight file
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "xlm-roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "mpnet": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
}


@dataclass(frozen=True, kw_only=True)
class Mlm(Loss):
    """Guess the tokens that were masked."""

    title: ClassVar = "masked language modelling"
    modality: ClassVar = "text"
    unit: ClassVar = "masked token"
    caches: ClassVar = False  # every epoch masks other tokens

    learning_rate: float = 2e-4
    anchor: float = 0.0  # weight of staying near the pretrained embedding

    def default_freeze(self, n_stages: int) -> int:
        """Three fifths: with less frozen, probes lost more than they gained (docs/log.md)."""
        return round(0.6 * n_stages)

    def learner(self, upper: Resumable, backbone: Backbone, located: Located) -> MaskedLearner:
        """BERT's head on the last stage."""
        tokenizer: Any = backbone.reader.tokenizer  # type: ignore[attr-defined]  # Transformers is the text family
        if tokenizer.mask_token_id is None:
            raise PlanError(
                f"The tokenizer of {backbone.provenance.name} has no token for what is masked, so masked language "
                "modelling cannot be done with it. Use --loss simcse."
            )
        config: Any = upper.network.config
        learner = MaskedLearner(upper, Tokens.of(tokenizer), self.anchor)
        learner.start_from(located, str(config.model_type))
        return learner


@dataclass(frozen=True)
class Tokens:
    """What masking must know of a vocabulary."""

    mask: int
    special: tuple[int, ...]  # never masked
    n: int

    @classmethod
    def of(cls, tokenizer: Any) -> Tokens:
        """Those of a Hugging Face tokenizer."""
        return cls(tokenizer.mask_token_id, tuple(tokenizer.all_special_ids), len(tokenizer))


def masked(ids: Tensor, attention: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """(token ids with some masked (N, T), which tokens were chosen (N, T) bool)."""
    chance, fate = torch.rand(ids.shape).to(ids.device), torch.rand(ids.shape).to(ids.device)
    noise = torch.randint(tokens.n, ids.shape).to(ids.device)
    special = torch.isin(ids, torch.tensor(tokens.special, device=ids.device))
    chosen = (chance < MASKED) & attention.bool() & ~special
    changed = torch.where(chosen & (fate < BECOME_MASK), tokens.mask, ids)
    return torch.where(chosen & (fate >= 1 - BECOME_RANDOM), noise, changed), chosen


class MaskedLearner(Learner):
    """Logits of the whole vocabulary for the chosen tokens alone: the others are not asked about."""

    def __init__(self, upper: Resumable, tokens: Tokens, anchor: float = 0.0) -> None:
        super().__init__(upper)
        self.tokens, self.anchor, self.published = tokens, anchor, False
        config: Any = upper.network.config
        n, width = self.words.shape
        hidden = config.hidden_size
        self.dense, self.norm = (
            nn.Linear(hidden, width),
            nn.LayerNorm(width, eps=getattr(config, "layer_norm_eps", 1e-12)),
        )
        self.bias = nn.Parameter(torch.zeros(n))
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    @property
    def words(self) -> Tensor:
        """The word embeddings (V, E), which decode too."""
        return self.upper.network.get_input_embeddings().weight  # type: ignore[operator]

    @torch.no_grad()
    def start_from(self, located: Located, model_type: str) -> None:
        """Take the head out of the weight file, where one of its family is there."""
        file = located.folder / "model.safetensors"
        if model_type not in PUBLISHED or not file.is_file():
            return
        dense, norm, bias = PUBLISHED[model_type]
        own = {f"{dense}.weight": self.dense.weight, f"{dense}.bias": self.dense.bias, bias: self.bias}
        own |= {f"{norm}.weight": self.norm.weight, f"{norm}.bias": self.norm.bias}
        with safe_open(file, "pt") as tensors:
            if set(own) <= set(tensors.keys()):
                for name, parameter in own.items():
                    parameter.copy_(tensors.get_tensor(name))
                self.published = True

    @torch.no_grad()
    def meet(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Let the bias of a new head say how often each token occurs."""
        if self.published:
            return
        counts = torch.ones_like(self.bias)  # one more of each, for those that do not occur
        for inputs in batches:
            seen = inputs["input_ids"][inputs["attention_mask"].bool()]
            counts += torch.bincount(seen, minlength=len(counts))
        counts[list(self.tokens.special)] = 1
        self.bias.copy_((counts / counts.sum()).log())

    def forward(self, views: Sequence[View]) -> Terms:
        """Cross-entropy of the chosen tokens; a unit is a text."""
        inputs = views[0].inputs
        ids, attention = inputs["input_ids"], inputs["attention_mask"]
        changed, chosen = masked(ids, attention, self.tokens)
        last = self.upper.last_stage({**inputs, "input_ids": changed})
        logits = linear(self.norm(gelu(self.dense(last[chosen]))), self.words, self.bias)
        losses = cross_entropy(logits.float(), ids[chosen], reduction="none")
        text = chosen.nonzero()[:, 0]
        sums = torch.zeros(len(ids), device=ids.device).index_add(0, text, losses)
        return Terms(sums, chosen.sum(1).float(), self.anchor * self.drift(last, inputs) if self.anchor else 0.0)

    def drift(self, last: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Mean cosine distance of the pooled last stage (N, T, D) from the pretrained network's, nothing masked."""
        backbone = self.upper.backbone[0]
        with torch.no_grad():
            before = backbone.pool(backbone.network(**inputs).last_hidden_state, inputs)
        return (1 - cosine_similarity(backbone.pool(last, inputs), before)).mean()
