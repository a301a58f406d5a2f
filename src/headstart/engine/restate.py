"""Estimate the statistics of batch norms anew on each domain, and solve the head (AdaBN, Li et al. 2016,
arXiv:1603.04779).

Each batch norm is measured after those before it have been set, so that its statistics are those of the very numbers
that it will see. They are the same for every size of batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstart.backbones.base import Backbone, tensor_of
from headstart.backbones.changes import Changes
from headstart.backbones.resume import Normalisation, Resumable
from headstart.engine.batching import Batch, batch_of
from headstart.engine.lesson import Learnt, Lesson, Restated, resumable
from headstart.strategies.aligning import Aligning
from headstart.strategies.base import Part, Trained
from headstart.strategies.batch_norm import BatchNorm, has_norms
from headstart.strategies.probe import Probe

N_ROWS = 32  # of a batch


def restate(strategy: BatchNorm, lesson: Lesson) -> Learnt:
    """The network with the target's statistics, under a head solved on the source seen with the source's."""
    start = time.perf_counter()
    resumable(strategy, lesson)  # refuses a network that has none
    found = lesson.restated or measured(strategy, lesson)
    assert found is not None, "there are batch norms"
    adapted = replace(found.head, changes=found.target, source_changes=found.source)
    logits = found.head.head.logits(found.val.features)
    return Learnt(adapted, logits, (adapted.val_loss,), time.perf_counter() - start)


def measured(strategy: Trained, lesson: Lesson) -> Restated | None:
    """Both domains' batch norms above the cut, and the head; None where there are none, or the strategy wants none."""
    cut = strategy.cut(lesson.backbone.n_stages)
    if isinstance(strategy, Aligning) and strategy.own_norms:
        strategy = BatchNorm(class_weight=strategy.class_weight)
    if not isinstance(strategy, BatchNorm) or lesson.target is None or not has_norms(lesson.backbone, cut):
        return None
    source, target = (
        statistics(lesson, cut, some(rows, strategy.most, lesson.seed)) for rows in (lesson.train, lesson.target)
    )
    network = Resumable(lesson.backbone.adapted(source), cut, _example(lesson))
    train, val = (Part(pooled(network, lesson, rows), lesson.y[rows]) for rows in (lesson.train, lesson.val))
    head = Probe(class_weight=strategy.class_weight).adapt(lesson.task, train, val, lesson.seed)
    return Restated(source, target, head, train, val)


def own_norms(strategy: Trained, lesson: Lesson) -> Lesson:
    """The lesson with each domain's statistics, where the strategy wants them, and the head that the source's give."""
    found = lesson.restated or measured(strategy, lesson)
    if found is None:
        return lesson
    return replace(lesson, restated=found, head=found.head.head, pooled=found.train.features)


def set_norms(network: nn.Module, changes: Changes) -> None:
    """Let batch norms use these statistics; other tensors in their place, since the way back needs the old ones."""
    for name, tensor in changes.tensors.items():
        path, buffer = name.rsplit(".", 1)
        module = network.get_submodule(path)
        module._buffers[buffer] = tensor.to(getattr(module, buffer).device)


def some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """All rows, or a seeded draw of `most` of them, sorted."""
    return np.sort(np.random.default_rng([seed, 3]).permutation(rows)[:most])


@torch.no_grad()
def statistics(lesson: Lesson, cut: int, rows: np.ndarray) -> Changes:
    """Mean and variance of what each batch norm above the cut sees of these rows, stage by stage."""
    network = lesson.backbone.adapted(Changes({}))  # a copy
    seen = [_from_cut(network, batch, cut) for batch in _batches(lesson, rows)]
    found: dict[str, Tensor] = {}
    for stage in range(cut, network.n_stages):
        upper = Resumable(network, stage, _example(lesson)).eval()
        for name, norm in norms(upper, stage, seen[0]):
            mean, variance = moments(inputs_of(norm, upper, seen))
            for one, value in (("running_mean", mean), ("running_var", variance)):
                getattr(norm, one).copy_(value)
                found[f"{name}.{one}"] = getattr(norm, one).clone()
        if stage + 1 < network.n_stages:
            last = upper.network.get_submodule(network.stages[stage].modules[-1])
            outputs = outputs_of(last, upper, seen)
            seen = [replace(batch, activation=one) for batch, one in zip(seen, outputs, strict=True)]
            Changes(found).apply(network.network)
    return Changes(found)


def norms(upper: Resumable, stage: int, batch: Batch) -> list[tuple[str, Normalisation]]:
    """(name, module) of a stage's batch norms, in the order in which they run."""
    paths = tuple(f"{path}." for path in upper.backbone[0].stages[stage].modules)
    found: dict[str, Normalisation] = {}
    own = [
        (name, module)
        for name, module in upper.network.named_modules()
        if isinstance(module, Normalisation) and module.track_running_stats and f"{name}.".startswith(paths)
    ]
    hooks = [
        module.register_forward_hook(lambda m, _a, _o, name=name: found.__setitem__(name, m)) for name, module in own
    ]
    upper(batch.inputs, batch.activation)
    for hook in hooks:
        hook.remove()
    return list(found.items())


def moments(inputs: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """(mean (C,), variance (C,)) over all examples and places of inputs (N, C, …); the variance of the population."""
    n, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for one in inputs:
        axes = [axis for axis in range(one.ndim) if axis != 1]
        variance, own = torch.var_mean(one.float(), axes, correction=0)
        count = one.numel() // one.shape[1]
        shift = own.double() - mean
        squares = squares + variance.double() * count + shift.square() * n * count / (n + count)
        mean, n = mean + shift * count / (n + count), n + count
    return mean, squares / n


class _Reached(Exception):  # noqa: N818  (a signal, not an error)
    """Ends a forward pass at the module that was asked for."""


def inputs_of(module: nn.Module, upper: Resumable, batches: Sequence[Batch]) -> Iterator[Tensor]:
    """What the module is given, batch by batch; nothing after it is run."""

    def take(_module: nn.Module, args: Any) -> None:
        raise _Reached(args[0])

    return _taken(module.register_forward_pre_hook(take), upper, batches)


def outputs_of(module: nn.Module, upper: Resumable, batches: Sequence[Batch]) -> Iterator[Tensor]:
    """What the module gives, batch by batch; nothing after it is run."""

    def take(_module: nn.Module, _args: Any, output: Any) -> None:
        raise _Reached(tensor_of(output))

    return _taken(module.register_forward_hook(take), upper, batches)


def _taken(hook: Any, upper: Resumable, batches: Sequence[Batch]) -> Iterator[Tensor]:
    try:
        for batch in batches:
            try:
                upper(batch.inputs, batch.activation)
            except _Reached as reached:
                yield reached.args[0]
    finally:
        hook.remove()


@torch.no_grad()
def pooled(upper: Resumable, lesson: Lesson, rows: np.ndarray) -> np.ndarray:
    """(n, D) float32: the pooled last stage of these rows."""
    upper.eval()
    parts = [upper(batch.inputs, batch.activation).numpy(force=True) for batch in _batches(lesson, rows)]
    return np.concatenate(parts)


def _batches(lesson: Lesson, rows: np.ndarray) -> Iterator[Batch]:
    """These rows, a few at a time, in their order."""
    return (batch_of(lesson, rows[i : i + N_ROWS], 0) for i in range(0, len(rows), N_ROWS))


def _from_cut(network: Backbone, batch: Batch, cut: int) -> Batch:
    """The batch with its activation at the cut, which is run if it is not cached."""
    if cut == 0 or batch.activation is not None:
        return batch
    return replace(batch, activation=network.activations(batch.inputs, cut))


def _example(lesson: Lesson) -> dict[str, Tensor]:
    """The network's keyword arguments for a single example."""
    opened = lesson.modality.open(lesson.items[lesson.train[0]], lesson.backbone.detail)
    return lesson.backbone.collate([opened])
