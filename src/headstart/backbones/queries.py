"""A ready-made detector in training: its own forward pass and its own loss, with a row for each of the user's classes.

Each of a fixed number of queries says one box and its class; the loss pairs queries and objects one to one (DETR,
arXiv:2005.12872), so that nothing has to be suppressed afterwards.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from headstart.backbones.detector_stages import Family
from headstart.backbones.resume import Resumable

ENCODER = "model.encoder"  # of all that have layers of their own before the decoder
PRIOR = 0.01  # of a new class before anything is learnt, where each class has a sigmoid (RetinaNet, arXiv:1708.02002)


class Truth(Protocol):
    """The labelled objects of one picture."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4) float32: left, top, right, bottom in shares of width and height."""

    @property
    def classes(self) -> Tensor:
        """(n,) int64."""

    @property
    def ignored(self) -> Tensor:
        """(n,) bool: neither taught nor counted."""


@dataclass
class Pass:
    """A pass through the network. It runs when it is known what for: some losses want the labels on the way in."""

    inputs: Mapping[str, Tensor]
    maps: Mapping[int, Tensor] | None
    output: Any = None  # of the network, once it has run


class Queries(nn.Module):
    """A detector whose queries find one object each."""

    suppresses = False

    def __init__(self, upper: Resumable, family: Family, class_names: Sequence[str]) -> None:
        super().__init__()
        self.upper, self.family = upper, family
        network: Any = upper.network
        _replace_classes(network, family, class_names)
        network.loss_function = Loss(network.loss_function, family)
        paths = family.head([path for path, _ in network.named_modules()])
        self.head = nn.ModuleDict({path.replace(".", "/"): network.get_submodule(path) for path in paths})
        self.head.requires_grad_(True)

    def train(self, mode: bool = True) -> Queries:
        """Training mode above the cut only. An encoder drops out what it gives layer 1, so it counts to that."""
        super().train(mode)
        encoder, frozen = f"{ENCODER}.layers.0", self.upper.backbone[0].stages[: self.upper.cut]
        if any(encoder in stage.modules for stage in frozen):
            self.upper.network.get_submodule(ENCODER).training = False
        return self

    def forward(self, inputs: Mapping[str, Tensor], maps: Mapping[int, Tensor] | None = None) -> Pass:
        """A pass over the pictures; with `maps` of frozen stages (stage: (N, …)) those stages are not run."""
        return Pass(inputs, maps)

    def loss(self, raw: Pass, truth: Sequence[Truth]) -> Tensor:
        """The network's own loss (): of classes and of boxes, after queries and objects are paired."""
        labels = [
            {"class_labels": one.classes[~one.ignored], "boxes": _centred(one.boxes[~one.ignored])} for one in truth
        ]
        return self._run(raw, labels).loss

    def candidates(self, raw: Pass) -> tuple[Tensor, Tensor]:
        """Relative boxes (N, Q, 4), left, top, right, bottom, and class probabilities (N, Q, K)."""
        output = raw.output if raw.output is not None else self._run(raw, None)
        logits = output.logits.float()
        scores = logits.softmax(-1)[..., :-1] if self.family.softmax else logits.sigmoid()
        centre, size = output.pred_boxes.float().split(2, dim=-1)
        return torch.cat([centre - size / 2, centre + size / 2], dim=-1), scores

    def beside(self) -> Queries:
        """Once more with the same tensors, for another thread."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return copy.deepcopy(self, {id(one): one for one in (*tensors, self.upper.backbone[0])})

    def _run(self, raw: Pass, labels: list[dict[str, Tensor]] | None) -> Any:
        kind = next(self.upper.network.parameters()).dtype
        inputs = {name: one.to(kind) if one.is_floating_point() else one for name, one in raw.inputs.items()}
        with self.upper.resumed(raw.maps):
            output = self.upper.network(**inputs, labels=labels)
        if not self.training:  # in training some queries are noisy labels, and no candidates
            raw.output = output
        return output


class Loss:
    """A network's own loss, also for batches in which no picture holds an object: transformers' fails on them."""

    def __init__(self, own: Any, family: Family) -> None:
        self.own, self.family = own, family

    def __call__(
        self,
        logits: Tensor,
        labels: Sequence[Mapping[str, Tensor]],
        device: Any,
        boxes: Tensor,
        config: Any,
        outputs_class: Tensor | None = None,
        outputs_coord: Tensor | None = None,
        **more: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Any]:
        """(the loss, its parts, the outputs of earlier layers), as transformers' own functions give them."""
        if any(len(one["class_labels"]) for one in labels):
            return self.own(logits, labels, device, boxes, config, outputs_class, outputs_coord, **more)
        every = [logits]
        if config.auxiliary_loss and outputs_class is not None:
            proposed = more.get("enc_topk_logits")  # RT-DETR and D-FINE, whose layers come after the batch
            every += [*outputs_class[:-1]] if proposed is None else [*outputs_class[:, :-1].unbind(1), proposed]
        loss = torch.stack([self.of_nothing(one, config) for one in every]).sum()
        return loss, {"loss_of_nothing": loss}, None

    def of_nothing(self, logits: Tensor, config: Any) -> Tensor:
        """The loss () of logits (N, Q, K) where there is no object: "no object", or no to every class."""
        if self.family.softmax:
            return -functional.log_softmax(logits, dim=-1)[..., -1].mean()
        surprise, p = functional.softplus(logits), logits.sigmoid()
        if hasattr(config, "weight_loss_vfl"):  # varifocal (arXiv:2008.13367): the weight is no part of the gradient
            weight = config.focal_loss_alpha * p.detach() ** config.focal_loss_gamma
            return config.weight_loss_vfl * (weight * surprise).sum()
        return (1 - config.focal_alpha) * (p**2 * surprise).sum()


def _centred(boxes: Tensor) -> Tensor:
    """(n, 4) left, top, right, bottom as centre and size."""
    first, last = boxes.split(2, dim=-1)
    return torch.cat([(first + last) / 2, last - first], dim=-1)


@torch.no_grad()
def _replace_classes(network: Any, family: Family, class_names: Sequence[str]) -> None:
    """Give every layer of classes a row for each of the names: the pretrained one's where that class has its name."""
    known = {name.strip().casefold(): row for row, name in network.config.id2label.items()}
    rows = [known.get(name.strip().casefold()) for name in class_names]
    n_before = network.config.num_labels
    layers = {p: m for p, m in network.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear | nn.Embedding)}
    places = {path.removesuffix("?") for path in family.classes}
    of_classes = {id(m.weight): m for p, m in layers.items() if p in places or p.rpartition(".")[0] in places}
    made = {weight: _with_rows(old, rows, n_before, family) for weight, old in of_classes.items()}
    for path, old in layers.items():
        if id(old.weight) in made:  # layers that share their weights go on sharing them
            network.set_submodule(path, made[id(old.weight)])
    kind = network.config.model_type
    for module in network.modules():
        if getattr(getattr(module, "config", None), "model_type", None) == kind:
            module.config.id2label = dict(enumerate(class_names))  # the loss counts them there


def _with_rows(old: nn.Linear | nn.Embedding, rows: Sequence[int | None], n_before: int, family: Family) -> nn.Module:
    """A layer with these rows of the old one, random ones for None; "no object", where it has one, stays the last."""
    n_old = len(old.weight)
    taken = [*rows, *range(n_before, n_old)]
    new: nn.Linear | nn.Embedding
    if isinstance(old, nn.Embedding):
        new = nn.Embedding(len(taken), old.embedding_dim, padding_idx=len(rows))
    else:
        new = nn.Linear(old.in_features, len(taken))
        nn.init.xavier_uniform_(new.weight)
        nn.init.constant_(new.bias, 0.0 if family.softmax else float(torch.tensor(PRIOR).logit()))
    for row, source in enumerate(taken):
        if source is not None:
            new.weight[row] = old.weight[source]
            if isinstance(old, nn.Linear) and isinstance(new, nn.Linear):
                new.bias[row] = old.bias[source]
    return new.to(old.weight)
