"""Training on two domains: each loss against its formula, cached equals uncached, the target never told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import headstart
from headstart import adapt, registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.resume import Normalisation
from headstart.engine import loop
from headstart.engine import train as engine
from headstart.engine.batching import Epochs
from headstart.engine.lesson import Lesson, resumable
from headstart.engine.restate import own_norms
from headstart.engine.train import train
from headstart.engine.trials import Trials, key_of
from headstart.errors import PlanError
from headstart.evidence import planner
from headstart.evidence.planner import Work
from headstart.problem import Problem, pose
from headstart.progress import Progress
from headstart.strategies.aligning import (
    Aligning,
    Pair,
    Seen,
    domain_entropy,
    reversal_strength,
    reversed_gradient,
)
from headstart.strategies.base import Trained
from headstart.strategies.batch_norm import BatchNorm
from headstart.strategies.cdan import N_RANDOM, Cdan, Conditional
from headstart.strategies.dann import Dann
from headstart.strategies.deep_coral import DeepCoral, coral_loss
from headstart.strategies.mcc import Mcc, class_confusion
from headstart.strategies.partial import Partial
from headstart.strategies.self_training import SelfTraining, pseudo_loss, rise
from headstart.wishes import Wishes
from headstart.workshop import Workshop, open_workshop
from tests.test_backbones import WORDS, save_tiny
from tests.test_train import assert_same, make_lesson, with_cache

BLOWS_UP = 10**6  # a class that no network has: reading the target's y is an index out of range
TRAINED: tuple[type[Aligning], ...] = (DeepCoral, Dann, Cdan, Mcc, SelfTraining)


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return catalog.load(str(save_tiny("bert", tmp_path_factory.mktemp("models") / "model")), Progress())


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return catalog.load(str(save_tiny("resnet", tmp_path_factory.mktemp("models") / "model")), Progress())


def two_domains(backbone: Backbone, n_train: int = 24, n_target: int = 16) -> tuple[Lesson, list[str]]:
    """A lesson whose last items are the target, with labels that nobody can use."""
    lesson, digests = make_lesson(backbone, n_train=n_train, n_val=8 + n_target)
    val, target = lesson.val[:8], lesson.val[8:]
    y = lesson.y.copy()
    y[target] = BLOWS_UP
    return replace(lesson, y=y, val=val, target=target), digests


def a_pair(n: int = 6, d: int = 5, k: int = 3, progress: float = 0.5) -> Pair:
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    return Pair(Seen(some(n, d), some(n, k)), Seen(some(n, d) + 1, some(n, k)), torch.arange(n) % k, progress)


def number(scalar: Tensor) -> float:
    return float(scalar.detach())


# --- formulas


def test_deep_coral_is_the_distance_of_the_covariances() -> None:
    pair = a_pair()
    source, target = (seen.pooled.detach().numpy() for seen in (pair.source, pair.target))
    difference = np.cov(source.T) - np.cov(target.T)
    wanted = sum(x * x for x in difference.flatten()) / (4 * 5 * 5)
    assert number(coral_loss(pair.source.pooled, pair.target.pooled)) == pytest.approx(wanted)
    assert number(DeepCoral().domain_loss(pair, None)) == pytest.approx(wanted)


def test_one_example_has_no_covariance() -> None:
    assert number(coral_loss(torch.randn(1, 3), torch.randn(1, 3))) == 0.0


def test_the_gradient_is_turned_round_and_scaled() -> None:
    x = torch.tensor([[1.0, -2.0]], requires_grad=True)
    y = reversed_gradient(x, 0.3)
    assert torch.equal(y, x)
    (y * torch.tensor([[5.0, 7.0]])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[-1.5, -2.1]]))


def test_the_reversal_grows_as_in_the_paper() -> None:
    assert reversal_strength(0.0) == 0.0
    assert reversal_strength(0.5) == pytest.approx(2 / (1 + np.exp(-5)) - 1)
    assert reversal_strength(1.0) == pytest.approx(0.9999, abs=1e-4)


class Recorder(nn.Module):
    """A discriminator that keeps what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, dtype=torch.float64)

    def forward(self, *inputs: Tensor) -> Tensor:
        self.inputs = [one.detach() for one in inputs]
        return self.linear(inputs[0])


def test_danns_discriminator_sees_both_domains_and_learns_while_the_network_unlearns() -> None:
    pair, judge = a_pair(), Recorder(5)
    loss = Dann().domain_loss(pair, judge)
    both = torch.cat([pair.source.pooled, pair.target.pooled])
    assert torch.equal(judge.inputs[0], both)
    of_pooled, of_judge = torch.autograd.grad(loss, [pair.source.pooled, judge.linear.weight])
    truth = torch.cat([torch.ones(6), torch.zeros(6)]).double()
    plain = nn.functional.binary_cross_entropy_with_logits(judge.linear(both)[:, 0], truth)
    plain_pooled, plain_judge = torch.autograd.grad(plain, [pair.source.pooled, judge.linear.weight])
    torch.testing.assert_close(of_judge, plain_judge)
    torch.testing.assert_close(of_pooled, -reversal_strength(0.5) * plain_pooled)


def test_cdans_discriminator_sees_every_product() -> None:
    judge = Conditional(4, 3, hidden=2)
    features, probabilities = torch.randn(5, 4), torch.rand(5, 3)
    wanted = [[float(p * f) for p in probabilities[i] for f in features[i]] for i in range(5)]
    torch.testing.assert_close(judge.products(features, probabilities), torch.tensor(wanted))
    pair, recorder = a_pair(), Recorder(5)
    Cdan().domain_loss(pair, recorder)
    assert torch.equal(recorder.inputs[0], torch.cat([pair.source.pooled, pair.target.pooled]))
    logits = torch.cat([pair.source.logits, pair.target.logits])
    torch.testing.assert_close(recorder.inputs[1], logits.softmax(1).detach())


def test_random_products_keep_inner_products() -> None:
    """The paper's randomised map: <T(f, p), T(f', p')> is <f, f'> <p, p'> on average."""
    torch.manual_seed(0)
    judge = Conditional(2048, 3, hidden=2)
    features = torch.randn(2, 2048) / 2048**0.5
    features[1] = features[0] + 0.3 * features[1]
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]])
    products = judge.products(features, probabilities)
    assert products.shape == (2, N_RANDOM)
    wanted = float((features[0] @ features[1]) * (probabilities[0] @ probabilities[1]))
    assert float(products[0] @ products[1]) == pytest.approx(wanted, abs=0.15)


def test_cdan_weighs_by_entropy_within_each_domain() -> None:
    pair, judge = a_pair(), Recorder(5)
    found = number(Cdan().domain_loss(pair, judge))
    total = 0.0
    for seen, truth in ((pair.source, 1.0), (pair.target, 0.0)):
        p = seen.logits.softmax(1).detach().numpy()
        weight = 1 + np.exp((p * np.log(p)).sum(1))
        z = judge.linear(seen.pooled).detach().numpy()[:, 0]
        each = np.log1p(np.exp(-z)) if truth else np.log1p(np.exp(z))
        total += (weight * each).sum() / weight.sum() / 2
    assert found == pytest.approx(total)
    plain = number(Cdan(by_entropy=False).domain_loss(pair, judge))
    logits = judge.linear(torch.cat([pair.source.pooled, pair.target.pooled]))
    assert plain == pytest.approx(number(domain_entropy(logits)))


def test_class_confusion_written_out() -> None:
    """Two examples, two classes, probabilities (3/4, 1/4) and (1/2, 1/2)."""
    p = np.array([[0.75, 0.25], [0.5, 0.5]])
    entropies = [-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), np.log(2)]
    raw = [1 + np.exp(-h) for h in entropies]
    w = [2 * one / sum(raw) for one in raw]
    c = [[sum(w[i] * p[i, a] * p[i, b] for i in range(2)) for b in range(2)] for a in range(2)]
    wanted = (c[0][1] / (c[0][0] + c[0][1]) + c[1][0] / (c[1][0] + c[1][1])) / 2
    assert number(class_confusion(torch.from_numpy(np.log(p)))) == pytest.approx(wanted)
    logits = a_pair().target.logits
    assert number(Mcc(temperature=2.0).domain_loss(a_pair(), None)) == pytest.approx(
        number(class_confusion(logits / 2))
    )
    assert number(class_confusion(50 * torch.eye(3))) == pytest.approx(0.0, abs=1e-6)


def test_self_training_ignores_what_is_not_sure() -> None:
    logits = torch.tensor([[4.0, 0.0], [3.5, 0.0], [0.0, 4.0], [0.2, 0.0]], requires_grad=True)
    pseudo_loss(logits, 0.9).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[3], torch.zeros(2))
    assert (logits.grad[:3].abs().sum(1) > 0).all()
    logits = torch.zeros(3, 2, requires_grad=True)
    loss = pseudo_loss(logits, 0.9)
    loss.backward()
    assert number(loss) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_self_training_counts_every_predicted_class_the_same() -> None:
    logits = torch.tensor([[4.0, 0.0], [3.5, 0.0], [0.0, 4.0], [0.2, 0.0]])
    loss = [float(-row.log_softmax(0).max()) for row in logits]
    wanted = ((loss[0] + loss[1]) / 2 + loss[2]) / 2 * 3 / 4
    assert number(pseudo_loss(logits, 0.9)) == pytest.approx(wanted)


def test_pseudo_labels_count_more_and_more() -> None:
    assert rise(0.0, 0.4) == pytest.approx(np.exp(-5))
    assert rise(0.2, 0.4) == pytest.approx(np.exp(-5 / 4))
    assert rise(0.4, 0.4) == rise(1.0, 0.4) == rise(0.0, 0.0) == 1.0


# --- the loop


def test_every_source_batch_has_a_target_batch_that_seed_and_epoch_decide(bert: Backbone) -> None:
    lesson, _ = two_domains(bert, n_train=26, n_target=10)
    strategy, epoch = Dann(batch_size=4), [0]
    epochs = Epochs(strategy, lesson, lambda: epoch[0])
    first, again = list(epochs), list(epochs)
    assert first == again
    assert len(first) == len(epochs) == 7
    epoch[0] = 1
    assert list(epochs) != first
    assert lesson.target is not None
    source = [row for batch in first for row in batch[: len(batch) // 2]]
    target = [row for batch in first for row in batch[len(batch) // 2 :]]
    assert sorted(source) == list(lesson.train)
    counts = [target.count(row) for row in lesson.target]
    assert sum(counts) == 26
    assert set(counts) == {2, 3}  # every one twice before any comes a third time


@pytest.mark.parametrize("kind", [Dann, Cdan, SelfTraining])
@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_cached_is_uncached(
    kind: type[Aligning], name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 1 on two domains, though the target's labels are nonsense; the weights did move."""
    backbone: Backbone = request.getfixturevalue(name)
    if backbone.modality == "image":  # a convolution rounds differently in batches of another size
        monkeypatch.setattr(type(backbone), "batch_budget", property(lambda self: 4))
    lesson, digests = two_domains(backbone)
    strategy = kind(freeze=2, epochs=1, batch_size=2)
    uncached, cached = train(strategy, lesson), train(strategy, with_cache(lesson, digests, 2))
    assert_same(uncached, cached, 1e-5)
    source_only = train(Partial(freeze=2, epochs=1, batch_size=2), lesson)
    assert uncached.adapted.changes is not None
    assert source_only.adapted.changes is not None
    plain = source_only.adapted.changes.tensors
    assert any(not torch.equal(t, plain[n]) for n, t in uncached.adapted.changes.tensors.items())


def test_a_stopped_training_goes_on_with_its_discriminator(
    bert: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson, _ = two_domains(bert)
    strategy = Cdan(freeze=2, epochs=4, batch_size=8)
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
    kept = torch.load(tmp_path / "training.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("extra.judge") for name in kept)
    went_on = train(strategy, resumable)
    assert went_on.val_losses == whole.val_losses
    assert_same(whole, went_on, 0.0)


def test_all_epochs_run_and_the_last_is_kept(bert: Backbone) -> None:
    """The validation loss is that of the logits, which are the last epoch's, though an earlier one was better."""
    lesson, _ = two_domains(bert)
    learnt = train(Dann(epochs=6, patience=1, learning_rate=5e-3, batch_size=8), lesson)
    assert len(learnt.val_losses) == 6
    assert learnt.adapted.val_loss == learnt.val_losses[-1]
    found = engine.calibrated_loss(lesson.task, lesson.y[lesson.val], learnt.val_logits)
    assert found == pytest.approx(learnt.val_losses[-1])
    assert learnt.adapted.changes is not None
    assert not any("extra" in name for name in learnt.adapted.changes.tensors)


def shifted(backbone: Backbone) -> tuple[Lesson, list[str]]:
    """Source and target texts of different words: the label is one word that both have."""
    rng, (lesson, _) = np.random.default_rng(0), two_domains(backbone, n_train=48, n_target=48)
    y = np.arange(len(lesson.items)) % 2
    items = []
    for i, label in enumerate(y):
        words = WORDS[8:] if lesson.target is not None and i in lesson.target else WORDS[:7]
        items.append(" ".join([*rng.choice(words, 5), *(["mat"] * 2 if label else [])]))
    y[lesson.target] = BLOWS_UP
    return replace(lesson, items=items, y=y, head=None, pooled=None), items


def pooled_of(backbone: Backbone, lesson: Lesson, changes: Changes | None, rows: np.ndarray) -> np.ndarray:
    assert changes is not None
    network = backbone.adapted(changes)
    opened = [lesson.modality.open(lesson.items[row], backbone.detail) for row in rows]
    return network.pooled(network.collate(opened))[-1].numpy()


def mean_gap(backbone: Backbone, lesson: Lesson, strategy: Trained) -> float:
    """Distance of the domains' means after training, in standard deviations of the features."""
    changes = train(strategy, lesson).adapted.changes
    assert lesson.target is not None
    source, target = (pooled_of(backbone, lesson, changes, rows) for rows in (lesson.train, lesson.target))
    spread = np.concatenate([source - source.mean(0), target - target.mean(0)]).std(0)
    return float(np.linalg.norm((source.mean(0) - target.mean(0)) / spread))


def test_aligning_brings_the_domains_nearer(bert: Backbone) -> None:
    lesson, _ = shifted(bert)
    settings: dict[str, Any] = {"freeze": 1, "epochs": 20, "batch_size": 16, "learning_rate": 2e-3}
    without = mean_gap(bert, lesson, DeepCoral(domain_weight=0.0, **settings))
    assert mean_gap(bert, lesson, DeepCoral(domain_weight=10.0, **settings)) < 0.8 * without


def test_the_adversary_makes_a_linear_map_forget_the_domain() -> None:
    """The label lies along the first axis, the domains three apart along the second: the map comes to drop it."""
    torch.manual_seed(0)
    source, target = torch.randn(128, 2), torch.randn(128, 2) + torch.tensor([0.0, 3.0])
    y = (source[:, 0] > 0).long()
    gaps = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        way = Dann(domain_weight=weight, hidden=16)
        network, head, extra = nn.Linear(2, 2), nn.Linear(2, 2), way.extra(2, 2)
        optimiser = torch.optim.Adam([*network.parameters(), *head.parameters(), *extra.parameters()], lr=0.01)
        for step in range(400):
            of_source, of_target = (Seen(f := network(x), head(f)) for x in (source, target))
            loss = nn.functional.cross_entropy(of_source.logits, y)
            loss = loss + way.domain_weight * way.domain_loss(Pair(of_source, of_target, y, step / 400), extra)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            gaps.append(float((network(source).mean(0) - network(target).mean(0)).norm() / network(source).std()))
            assert (head(network(source)).argmax(1) == y).float().mean() > 0.9
    assert gaps[1] < 0.5 * gaps[0]


# --- batch norms


def brute_force(backbone: Backbone, lesson: Lesson, cut: int) -> dict[str, Tensor]:
    """All of the target in one batch, through batch norms that take their statistics from it."""
    assert lesson.target is not None
    network = backbone.adapted(Changes({})).network
    above = tuple(f"{path}." for stage in backbone.stages[cut:] for path in stage.modules)
    found, own = {}, {n: m for n, m in network.named_modules() if isinstance(m, Normalisation) and n.startswith(above)}
    for name, module in own.items():
        module.train()
        module.register_forward_pre_hook(
            lambda m, args, n=name: found.update({n: torch.var_mean(args[0].double(), (0, 2, 3), correction=0)})
        )
    opened = [lesson.modality.open(lesson.items[row], backbone.detail) for row in lesson.target]
    with torch.no_grad():
        network(**backbone.collate(opened))
    means = {f"{name}.running_mean": mean.float() for name, (_, mean) in found.items()}
    return means | {f"{name}.running_var": variance.float() for name, (variance, _) in found.items()}


@pytest.mark.parametrize("cut", [0, 2])
def test_the_statistics_are_exactly_the_targets(resnet: Backbone, cut: int) -> None:
    """In batches of 32, of which the last is smaller, they are those of one batch that holds all."""
    lesson, digests = two_domains(resnet, n_target=40)
    learnt = train(BatchNorm(freeze=cut), lesson)
    assert learnt.adapted.changes is not None
    wanted, found = brute_force(resnet, lesson, cut), learnt.adapted.changes.tensors
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    if cut:
        assert_same(learnt, train(BatchNorm(freeze=cut), with_cache(lesson, digests, cut)), 1e-4)


def test_the_head_is_solved_on_the_source_as_the_source_is_seen(resnet: Backbone) -> None:
    lesson, _ = two_domains(resnet)
    adapted = (learnt := train(BatchNorm(), lesson)).adapted
    assert adapted.source_changes is not None
    network = resnet.adapted(adapted.source_changes)
    opened = [lesson.modality.open(lesson.items[row], resnet.detail) for row in lesson.val]
    logits = adapted.head.logits(network.pooled(network.collate(opened))[-1].numpy())
    np.testing.assert_allclose(logits, learnt.val_logits, rtol=1e-3, atol=1e-4)
    same = train(BatchNorm(), replace(lesson, target=lesson.train)).adapted
    assert same.changes is not None
    assert same.source_changes is not None
    assert all(torch.equal(t, same.source_changes.tensors[n]) for n, t in same.changes.tensors.items())


def test_each_domain_is_trained_under_its_own_statistics(resnet: Backbone) -> None:
    """Both halves of a batch as the two restated networks pool them; what is kept has the target's statistics."""
    lesson, strategy = two_domains(resnet)[0], Mcc(freeze=1, epochs=1, batch_size=4)
    assert lesson.target is not None
    ready = own_norms(strategy, lesson)
    module = engine.Adapting(strategy, ready, resumable(strategy, ready)).eval()
    rows = [*lesson.train[:4], *lesson.target[:4]]
    found = module.by_domain(module.collate([int(row) for row in rows], 0), 4)
    assert ready.restated is not None
    for seen, norms, part in zip(
        found, (ready.restated.source, ready.restated.target), (rows[:4], rows[4:]), strict=True
    ):
        pooled = torch.from_numpy(pooled_of(resnet, lesson, norms, np.array(part)))
        torch.testing.assert_close(seen.pooled, (pooled - module.mean) / module.spread, rtol=1e-3, atol=1e-4)
    adapted = train(strategy, lesson).adapted
    for changes, norms in (
        (adapted.changes, ready.restated.target),
        (adapted.changes_for(True), ready.restated.source),
    ):
        assert changes is not None
        assert all(torch.equal(changes.tensors[name], tensor) for name, tensor in norms.tensors.items())
    plain = train(replace(strategy, own_norms=False), lesson).adapted
    assert plain.source_changes is None
    assert plain.changes is not None
    assert not any(name.endswith("running_mean") for name in plain.changes.tensors)


def test_a_network_without_batch_norms_is_refused(bert: Backbone, resnet: Backbone) -> None:
    lesson, _ = two_domains(bert)
    with pytest.raises(PlanError, match="batch_norm needs a network with batch norms"):
        train(BatchNorm(), lesson)
    assert not BatchNorm().suits(bert.network)
    assert BatchNorm().suits(resnet.network)
    assert Dann().suits(bert.network)


# --- round about


@pytest.mark.parametrize("kind", [*TRAINED, BatchNorm])
def test_without_a_target_nothing_is_aligned(bert: Backbone, kind: type[Trained]) -> None:
    name = kind.__module__.rsplit(".", 1)[-1]
    with pytest.raises(PlanError, match=f"{name} needs an unlabelled target: name it with --to"):
        Wishes(strategy=name).check(5)
    Wishes(strategy=name, freeze=3).check(5, has_target=True)
    with pytest.raises(PlanError, match="freeze=5"):
        Wishes(strategy=name, freeze=5).check(5, has_target=True)
    with pytest.raises(PlanError, match=f"{name} needs an unlabelled target"):
        train(kind(), replace(two_domains(bert)[0], target=None))
    assert all(not way.needs_target for way in planner.options(5, 100))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Dann, {"domain_weight": -1.0}),
        (Mcc, {"temperature": 0.0}),
        (SelfTraining, {"confidence": 1.1}),
        (SelfTraining, {"ramp": -0.1}),
        (BatchNorm, {"most": 1}),
    ],
)
def test_settings_out_of_range_are_refused(kind: type[Trained], wrong: dict[str, float]) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        kind(**wrong)


def test_another_target_has_another_key_and_source_statistics_are_kept(resnet: Backbone, tmp_path: Path) -> None:
    lesson, digests = two_domains(resnet)
    assert lesson.target is not None
    key = key_of(BatchNorm(), lesson, digests)
    assert key_of(BatchNorm(), replace(lesson, target=lesson.target[1:]), digests) != key
    assert key_of(BatchNorm(), replace(lesson, target=None), digests) != key
    trials, learnt = Trials(tmp_path), train(BatchNorm(), lesson)
    trials.put(key, learnt)
    read = trials.get(key)
    assert read is not None
    assert read.adapted.strength == learnt.adapted.strength
    for one in ("changes", "source_changes"):
        mine, theirs = getattr(learnt.adapted, one).tensors, getattr(read.adapted, one).tensors
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(t, theirs[n]) for n, t in mine.items())


def test_the_target_counts_as_work() -> None:
    """By hand: two stages of a half each, 10 training, 5 validation and 20 target examples, cut in the middle."""
    work = Work(shares=(0.5, 0.5), n_train=10, n_val=5, n_target=20)
    source = work.passes(Partial(freeze=1, epochs=2), 10)
    both = work.passes(Dann(freeze=1, epochs=2), 10)
    assert source == pytest.approx((2 * 0.5 * (10 * 3 + 5) + 0.5 * 15) / 15)
    assert both == pytest.approx((2 * 0.5 * (20 * 3 + 5) + 0.5 * 35) / 15)
    uncached = work.passes(Dann(freeze=1, epochs=2), 10, cache=False)
    assert uncached == pytest.approx((2 * 0.5 * (20 * 3 + 5) + 2 * 0.5 * 25) / 15)


def test_a_named_strategy_is_cut_in_the_middle_or_where_it_was_said(bert: Backbone, tmp_path: Path) -> None:
    shop = shop_of(bert, a_problem(bert), tmp_path)
    assert [way.cut(4) for way in adapt.ways_of(shop, Wishes(strategy="dann"))] == [2]
    assert [way.cut(4) for way in adapt.ways_of(shop, Wishes(strategy="dann", freeze=0))] == [0]
    assert adapt.title_of(Dann(freeze=2), ["a", "b", "c", "d"]) == "domain-adversarial (DANN) above b"


def shop_of(backbone: Backbone, problem: Problem, tmp_path: Path) -> Workshop:
    shop = open_workshop(problem, backbone, problem.task.metrics(), Wishes(), 0, Progress())
    shop.trials = Trials(tmp_path)
    return shop


def a_problem(backbone: Backbone) -> Problem:
    """The test split is the target, and its labels are gone."""
    lesson, _ = make_lesson(backbone, n_train=96, n_val=4)
    if backbone.modality == "text":
        items = list(lesson.items)
    else:
        items = [lesson.modality.open(item) for item in lesson.items]
    labels = ["even" if i % 2 else "odd" for i in range(len(items))]
    problem = pose(headstart.read(items, labels), 0, Progress(), crosswise=False)
    rows = {**problem.rows, "target": problem.rows["test"], "test": np.empty(0, dtype=np.int64)}
    y = problem.y.copy()
    y[rows["target"]] = BLOWS_UP
    return replace(problem, rows=rows, y=y)


@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_a_workshop_trains_on_both_domains_and_shows_what_the_head_reads(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Validation as the source is seen gives the scores that were tried; the target's features give its scores."""
    backbone: Backbone = request.getfixturevalue(name)
    problem = a_problem(backbone)
    shop = shop_of(backbone, problem, tmp_path)
    target = problem.target
    assert target is not None
    ways = [w for w in planner.aligning(backbone.n_stages, len(problem.rows["train"])) if w.suits(backbone.network)]
    assert {registry.plugin_name(w) for w in ways} >= {"deep_coral", "dann", "cdan", "mcc", "self_training"}
    for way in (Partial(freeze=2, epochs=1), *(replace(way, epochs=1) for way in ways)):
        tried = shop.train(way)
        seen = shop.scores(tried.solved, problem.rows["val"], source=True)
        np.testing.assert_allclose(seen, tried.scores, atol=1e-3)
        features = shop.embedded(tried.solved, target)
        scores = problem.task.scores(tried.solved.adapted.head.logits(features), tried.solved.temperature)
        np.testing.assert_allclose(scores, shop.scores(tried.solved, target))
        assert features.shape == (len(target), shop.embedded(tried.solved, problem.rows["train"], True).shape[1])
