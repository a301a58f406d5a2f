"""Training above a cut: cached equals uncached, what is frozen stays, a stopped training goes on, losses and rates."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.engine import freeze, loop
from headstart.engine import train as engine
from headstart.engine.learner import one_cycle
from headstart.engine.learning_rate import find_rate, steepest
from headstart.engine.lesson import Learnt, Lesson
from headstart.engine.train import calibrated_loss, train
from headstart.progress import Progress
from headstart.strategies.base import Part, Trained
from headstart.strategies.full import Full
from headstart.strategies.lora import Lora
from headstart.strategies.partial import Partial
from headstart.strategies.probe import Probe
from headstart.strategies.scratch import Scratch
from headstart.tasks.classification import Classification
from headstart.tasks.regression import Regression
from tests.conftest import draw
from tests.test_backbones import WORDS, save_tiny

N_STEPS = 20


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")


def some_texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 12))) + f" {i}" for i in range(n)]


def some_pictures(n: int) -> list[dict[str, Any]]:
    rng, image = np.random.default_rng(0), registry.modality("image")
    return [image.store(draw(rng, i % 3 == 0), None) for i in range(n)]


def make_lesson(backbone: Backbone, n_train: int = 40, n_val: int = 8) -> tuple[Lesson, list[str]]:
    """A lesson on noise with two classes, its head a solved probe."""
    n, modality = n_train + n_val, registry.modality(backbone.modality)
    items: list[Any] = some_texts(n) if backbone.modality == "text" else some_pictures(n)
    digests = [modality.examine(item).digest for item in items]
    y, task = np.arange(n) % 2, Classification(class_names=("a", "b"), positive="b")
    train_rows, val = np.arange(n_train), np.arange(n_train, n)
    pooled = freeze.features(backbone, modality, items, digests, Progress()).stage(backbone.n_stages - 1, np.arange(n))
    probe = Probe().adapt(task, Part(pooled[train_rows], y[train_rows]), Part(pooled[val], y[val]), 0)
    lesson = Lesson(
        backbone=backbone,
        modality=modality,
        task=task,
        items=items,
        y=y,
        train=train_rows,
        val=val,
        head=probe.head,
        pooled=pooled[train_rows],
    )
    return lesson, digests


def with_cache(lesson: Lesson, digests: list[str], cut: int) -> Lesson:
    kept = freeze.activations(lesson.backbone, lesson.modality, lesson.items, digests, cut, Progress())
    return replace(lesson, views=(kept,))


@pytest.fixture(scope="module", params=["bert", "vit", "efficientnet-lite0"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if request.param == "efficientnet-lite0":
        return catalog.load(request.param, Progress())
    return catalog.load(str(save_tiny(request.param, tmp_path_factory.mktemp("models") / "model")), Progress())


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return catalog.load(str(save_tiny("bert", tmp_path_factory.mktemp("models") / "model")), Progress())


def assert_same(one: Learnt, other: Learnt, tolerance: float) -> None:
    assert one.adapted.changes is not None
    assert other.adapted.changes is not None
    mine, theirs = one.adapted.changes.tensors, other.adapted.changes.tensors
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
    np.testing.assert_allclose(one.adapted.head.weight, other.adapted.head.weight, rtol=1e-4, atol=tolerance)


def test_twenty_steps_from_the_cache_are_twenty_steps_without_it(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 1, at every cut: the same weights to 1e-5, and they did move.

    A convolution rounds differently in batches of another size, which AdamW can blow up to 1e-4 in single weights
    (docs/log.md); so the pass over pictures has the training's batches here, and what is compared is the caching.
    """
    if backbone.modality == "image":
        monkeypatch.setattr(type(backbone), "batch_budget", property(lambda self: 2))
    lesson, digests = make_lesson(backbone)
    for cut in range(1, backbone.n_stages):
        strategy = Partial(freeze=cut, epochs=1, batch_size=2)
        uncached, cached = train(strategy, lesson), train(strategy, with_cache(lesson, digests, cut))
        assert len(lesson.train) / strategy.batch_size == N_STEPS
        assert_same(uncached, cached, 1e-5)
        before = backbone.network.state_dict()
        assert uncached.adapted.changes is not None
        moved = max(float((t - before[n]).abs().max()) for n, t in uncached.adapted.changes.tensors.items())
        assert moved > 1e-4


def test_adapters_train_alike_from_the_cache(bert: Backbone) -> None:
    lesson, digests = make_lesson(bert)
    strategy = Lora(freeze=2, epochs=1, batch_size=2)
    assert_same(train(strategy, lesson), train(strategy, with_cache(lesson, digests, 2)), 1e-5)


@pytest.mark.parametrize("strategy", [Partial(freeze=2, epochs=2), Full(epochs=2), Lora(freeze=1, epochs=2)])
def test_what_was_learnt_predicts_as_it_did_in_training(bert: Backbone, strategy: Trained) -> None:
    """The changed backbone under the folded head gives the logits that validation saw."""
    lesson, _ = make_lesson(bert)
    learnt = train(strategy, lesson)
    assert learnt.adapted.changes is not None
    network = bert.adapted(learnt.adapted.changes)
    pooled = network.pooled(network.collate([lesson.items[row] for row in lesson.val]))[-1].numpy()
    np.testing.assert_allclose(learnt.adapted.head.logits(pooled), learnt.val_logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strategy", [Full(epochs=1), Scratch(epochs=1), Lora(freeze=5, epochs=1)])
def test_a_convolutional_network_predicts_as_it_did_in_training(strategy: Trained) -> None:
    """Its weights lie channels-last in memory, and from scratch its batch norms move."""
    network = catalog.load("efficientnet-lite0", Progress())
    lesson, _ = make_lesson(network, n_train=8, n_val=4)
    learnt = train(strategy, lesson)
    assert learnt.adapted.changes is not None
    adapted = network.adapted(learnt.adapted.changes)
    assert adapted.fingerprint != network.fingerprint
    opened = [lesson.modality.open(lesson.items[row], network.detail) for row in lesson.val]
    pooled = adapted.pooled(adapted.collate(opened))[-1].numpy()
    np.testing.assert_allclose(learnt.adapted.head.logits(pooled), learnt.val_logits, rtol=1e-2, atol=1e-3)


def test_frozen_weights_do_not_move_and_a_repeat_gives_the_same(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    before = {name: tensor.clone() for name, tensor in bert.network.state_dict().items()}
    learnt, again = (train(Partial(freeze=2, epochs=2), lesson) for _ in range(2))
    assert all(torch.equal(t, before[name]) for name, t in bert.network.state_dict().items())
    assert learnt.adapted.changes is not None
    assert not any(name.startswith(("embeddings", "encoder.layer.0")) for name in learnt.adapted.changes.tensors)
    assert_same(learnt, again, 0.0)


def test_the_best_epoch_is_kept_and_training_stops_early(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    learnt = train(Full(epochs=8, learning_rate=5e-3, patience=1), lesson)
    assert len(learnt.val_losses) < 8
    assert learnt.adapted.val_loss == min(learnt.val_losses)
    task = lesson.task
    assert calibrated_loss(task, lesson.y[lesson.val], learnt.val_logits) == pytest.approx(min(learnt.val_losses))


@pytest.mark.parametrize(
    "strategy", [Full(epochs=4, patience=9, gradual=True), Partial(freeze=2, epochs=4, patience=9)]
)
def test_a_stopped_training_goes_on_to_the_same_weights(
    bert: Backbone, strategy: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two epochs and begun again from its checkpoint: same weights, same stages frozen."""
    lesson, _ = make_lesson(bert)
    whole = train(strategy, lesson)
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    resumable = replace(lesson, checkpoint=tmp_path / "training.ckpt")
    keep = engine.Best.on_train_epoch_end

    def stop(self: Any, trainer: Any, module: Any) -> None:
        keep(self, trainer, module)
        if len(self.losses) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.Best, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(strategy, resumable)
    assert (tmp_path / "training.ckpt").exists()
    went_on = train(strategy, resumable)
    assert went_on.val_losses == whole.val_losses
    assert_same(whole, went_on, 0.0)
    assert whole.adapted.changes is not None
    frozen = {n for n in bert.network.state_dict() if n not in whole.adapted.changes.tensors}
    if isinstance(strategy, Partial):
        assert any(name.startswith("encoder.layer.0") for name in frozen)


def test_gradual_unfreezing_starts_with_the_last_stage(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    learnt = train(Full(epochs=1, gradual=True), lesson)
    before = bert.network.state_dict()
    assert learnt.adapted.changes is not None
    moved = {n for n, t in learnt.adapted.changes.tensors.items() if not torch.equal(t, before[n])}
    assert moved
    assert all(name.startswith("encoder.layer.2") for name in moved)


def test_from_scratch_knows_nothing_of_the_pretrained_weights(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    learnt = train(Scratch(epochs=1), replace(lesson, head=None, pooled=None))
    assert learnt.adapted.changes is not None
    before = bert.network.state_dict()
    name = "encoder.layer.1.output.dense.weight"
    one, other = learnt.adapted.changes.tensors[name].flatten(), before[name].flatten()
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.2


def test_balanced_weights_raise_the_rare_class(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    y = (np.arange(len(lesson.y)) % 8 == 0).astype(np.int64)
    lesson = replace(lesson, y=y)
    plain, balanced = (
        train(Full(epochs=4, learning_rate=1e-3, class_weight=weight), replace(lesson, head=None, pooled=None))
        for weight in (None, "balanced")
    )
    share = [lesson.task.scores(one.val_logits)[:, 1].mean() for one in (plain, balanced)]
    assert share[1] > share[0] + 0.1


def test_a_number_is_learnt_in_its_own_unit(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    y = np.array([1e6 + 1e5 * len(text) for text in lesson.items], dtype=np.float32)
    learnt = train(Full(epochs=1), replace(lesson, task=Regression(), y=y, head=None, pooled=None))
    assert abs(float(learnt.val_logits.mean()) - float(y.mean())) < 5 * float(y.std())


def test_the_rate_rises_and_falls_once() -> None:
    rate = [one_cycle(100)(step) for step in range(100)]
    assert rate[0] == pytest.approx(0.1)
    assert max(rate) == pytest.approx(1.0)
    assert int(np.argmax(rate)) in (9, 10)
    assert rate[-1] < 0.01
    assert all(a >= b for a, b in itertools.pairwise(rate[10:]))


def test_the_finder_takes_the_steepest_fall() -> None:
    rates = np.geomspace(1e-6, 1e-2, 60)
    losses = 1 / (1 + np.exp(4 * (np.log10(rates) + 4)))  # falls fastest at 1e-4
    assert steepest(rates, losses) == pytest.approx(0.5e-4, rel=0.8)


def test_the_finder_leaves_the_network_alone(bert: Backbone) -> None:
    lesson, _ = make_lesson(bert)
    before = {name: tensor.clone() for name, tensor in bert.network.state_dict().items()}
    rate = find_rate(Full(), lesson)
    assert 1e-7 < rate < 1e-2
    assert all(torch.equal(t, before[name]) for name, t in bert.network.state_dict().items())


def test_views_below_a_cut_are_cached_and_stay_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    backbone = catalog.load(str(save_tiny("vit", tmp_path_factory.mktemp("models") / "model")), Progress())
    lesson, digests = make_lesson(backbone)
    kept = [
        freeze.activations(backbone, lesson.modality, lesson.items, digests, 1, Progress(), view)
        for view in (0, 1, 1, 2)
    ]
    plain, one, again, other = (activations.rows([3])[0] for activations in kept)
    assert np.array_equal(one, again)
    assert not np.array_equal(plain, one)
    assert not np.array_equal(one, other)
    views = replace(lesson, views=(kept[0], kept[1], kept[3]))
    learnt, repeated = (train(Partial(freeze=1, epochs=2, views=3), views) for _ in range(2))
    assert_same(learnt, repeated, 0.0)
    assert learnt.val_losses != train(Partial(freeze=1, epochs=2), replace(views, views=(kept[0],))).val_losses


def test_uncached_training_sees_new_views_every_epoch(tmp_path_factory: pytest.TempPathFactory) -> None:
    backbone = catalog.load(str(save_tiny("vit", tmp_path_factory.mktemp("models") / "model")), Progress())
    lesson, _ = make_lesson(backbone)
    plain, augmented, again = (train(Full(epochs=2, augment=one), lesson) for one in (False, True, True))
    assert_same(augmented, again, 0.0)
    assert plain.val_losses != augmented.val_losses
