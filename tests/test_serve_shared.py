"""Models behind one pass answer as they do alone, and share what they can; batches hold what waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from headstart.backbones.base import Backbone
from headstart.deploy.model import Model
from headstart.deploy.serve.batcher import Batcher, BusyError, Item, Ticket, UnreadableError
from headstart.deploy.serve.members import first_changed
from headstart.deploy.serve.metrics import Metrics
from headstart.deploy.serve.settings import Settings
from headstart.deploy.serve.shared import Fleet, SharedPass
from headstart.errors import PlanError
from tests import serving
from tests.test_backbones import pictures


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return serving.backbone("bert", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return serving.backbone("resnet", tmp_path_factory.mktemp("models"))


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(Settings(waiting=100, items=64), Metrics(), n_lanes=1)
    made.start()
    yield made
    made.close()


def many(on: Backbone) -> dict[str, Model]:
    """Ten models on one backbone, of every kind and task."""
    return {
        "first": serving.model(on, stages=[0], seed=1),
        "last": serving.model(on, seed=2),
        "several": serving.model(on, stages=[0, 2], seed=3),
        "number": serving.model(on, task="regression", seed=4),
        "labels": serving.model(on, task="multilabel", seed=5),
        "partial-1": serving.model(on, changed=1, seed=6),
        "partial-2": serving.model(on, changed=2, seed=7),
        "another-2": serving.model(on, changed=2, task="regression", seed=8),
        "adapters": serving.model(on, changed=1, low_rank=True, seed=9),
        "full": serving.model(on, changed=0, seed=10),
    }


def item(given: Any) -> Item:
    return Item(given, str(given))


def answers(batcher: Batcher, fleet: Fleet, items: list[Any], modality: str = "text") -> list[Any]:
    ticket = Ticket(
        fleet=fleet, modality=modality, names=fleet.taking(modality), items=[item(given) for given in items]
    )
    batcher.submit(ticket)
    return ticket.future.result(60)


def scores_of(model: Model, found: list[dict[str, Any]]) -> np.ndarray:
    if "value" in found[0]:
        return np.array([[one["value"]] for one in found])
    return np.array([[one["probabilities"][name] for name in model.task.score_names] for one in found])


def assert_as_alone(models: dict[str, Model], stored: list[Any], found: list[dict[str, Any]]) -> None:
    for name, model in models.items():
        alone = model.predict_proba(stored)
        served = scores_of(model, [one[name] for one in found])
        np.testing.assert_allclose(served, alone, rtol=1e-5, atol=1e-5)
        said = [one[name].get("label", one[name].get("labels", one[name].get("value"))) for one in found]
        if model.task.score_names:
            assert said == model.task.decode(alone)


def test_texts_are_answered_as_each_model_does_alone(bert: Backbone, batcher: Batcher) -> None:
    models = many(bert) | {"classical": serving.classical(bert)}
    items = serving.texts(40)
    found = answers(batcher, Fleet.of(models, 1), items)
    assert_as_alone(models, items, found)


@pytest.mark.parametrize("way", ["float32", "folded float32"])
def test_pictures_are_answered_as_each_model_does_alone(resnet: Backbone, batcher: Batcher, way: str) -> None:
    models = {
        "probe": serving.model(resnet, stages=[1, 3], way=way),
        "partial": serving.model(resnet, changed=2, way=way, seed=1),
        "full": serving.model(resnet, changed=0, way=way, seed=2),
    }
    fleet = Fleet.of(models, 1)
    assert len(fleet.passes) == 2
    stored = [models["probe"].modality.store(one, None) for one in pictures()]
    assert_as_alone(models, stored, answers(batcher, fleet, stored, "image"))


def test_ten_models_take_one_pass_of_the_frozen_stages(bert: Backbone, batcher: Batcher) -> None:
    models = many(bert)
    del models["full"]  # shares no stage
    fleet = Fleet.of(models, 1)
    (shared,) = fleet.passes
    assert isinstance(shared, SharedPass)
    n_runs = dict.fromkeys(range(bert.n_stages), 0)
    for index, stage in enumerate(bert.stages):
        module = shared.trunk.lanes[0].network.get_submodule(stage.modules[-1])
        module.register_forward_hook(lambda *_, index=index: n_runs.__setitem__(index, n_runs[index] + 1))
    answers(batcher, fleet, serving.texts(8))
    assert set(n_runs.values()) == {1}


def test_a_pass_ends_at_the_deepest_stage_that_is_read(bert: Backbone, batcher: Batcher) -> None:
    fleet = Fleet.of({"first": serving.model(bert, stages=[0]), "partial": serving.model(bert, changed=2)}, 1)
    (shared,) = fleet.passes
    assert isinstance(shared, SharedPass)
    above = shared.trunk.lanes[0].network.get_submodule(bert.stages[2].modules[-1])
    above.register_forward_hook(lambda *_: pytest.fail("a stage ran that no one reads"))
    answers(batcher, fleet, serving.texts(2))


def test_ten_models_hold_one_backbone(bert: Backbone) -> None:
    models = {f"probe-{i}": serving.model(bert, seed=i) for i in range(8)}
    models |= {f"partial-{i}": serving.model(bert, changed=2, seed=i) for i in range(2)}
    fleet = Fleet.of(models, 2)
    networks = [network.network for one in fleet.passes if isinstance(one, SharedPass) for network in one.trunk.lanes]
    networks += [upper.network for member in fleet.members.values() for upper in member.uppers]
    assert len(networks) == 2 + 2 * 2
    held = {tensor.data_ptr(): tensor.numel() for network in networks for tensor in network.parameters()}
    whole = sum(p.numel() for p in bert.network.parameters())
    frozen = [path for stage in bert.stages[:2] for path in stage.modules]
    below = sum(p.numel() for path in frozen for p in bert.network.get_submodule(path).parameters())
    assert sum(held.values()) == whole + 2 * (whole - below)


def test_a_new_fleet_keeps_what_stays(bert: Backbone) -> None:
    before = Fleet.of({"a": serving.model(bert), "b": serving.model(bert, changed=1)}, 1)
    models = {name: one.model for name, one in before.members.items()} | {"b": serving.model(bert, changed=2)}
    after = Fleet.of(models, 1, before)
    assert after.members["a"] is before.members["a"]
    assert after.members["b"] is not before.members["b"]
    assert after.members["b"].trunk is before.members["b"].trunk


def test_the_cut_is_where_the_first_changed_tensor_is(bert: Backbone) -> None:
    for cut in range(bert.n_stages):
        for low_rank in (False, True):
            changes = serving.model(bert, changed=cut, low_rank=low_rank).changes
            assert changes is not None
            assert first_changed(bert, changes) == cut


def test_what_waits_is_run_together_and_identical_items_once(bert: Backbone, batcher: Batcher) -> None:
    fleet = Fleet.of({"probe": serving.model(bert)}, 1)
    first, *others = serving.texts(6)
    with serving.held_lanes() as held, ThreadPoolExecutor(12) as pool:
        begun = pool.submit(answers, batcher, fleet, [first])
        assert held.began.acquire(timeout=30)
        waiting = [pool.submit(answers, batcher, fleet, [text]) for text in [*others, *others]]
        while batcher.n_waiting < len(waiting):
            time.sleep(0.001)
        held.go.set()
        assert begun.result(30)
        found = [one.result(30) for one in waiting]
    assert held.runs == [1, len(others)]
    assert found[: len(others)] == found[len(others) :]
    assert_as_alone({"probe": fleet.members["probe"].model}, others, [one[0] for one in found[: len(others)]])


def test_a_full_queue_refuses_and_what_is_given_up_is_not_run(bert: Backbone, batcher: Batcher) -> None:
    fleet = Fleet.of({"probe": serving.model(bert)}, 1)

    def ticket(n: int) -> Ticket:
        items = [item(text) for text in serving.texts(n)]
        return Ticket(fleet=fleet, modality="text", names=frozenset({"probe"}), items=items)

    with serving.held_lanes() as held:
        batcher.submit(ticket(1))
        assert held.began.acquire(timeout=30)
        given_up, kept = ticket(60), ticket(40)
        batcher.submit(given_up)
        batcher.submit(kept)
        with pytest.raises(BusyError, match="100 items wait"):
            batcher.submit(ticket(1))
        given_up.future.cancel()
        held.go.set()
        assert len(kept.future.result(30)) == 40
    assert sum(held.runs) == 41


def test_one_bad_item_fails_only_its_request(bert: Backbone, batcher: Batcher, resnet: Backbone) -> None:
    fleet = Fleet.of({"probe": serving.model(resnet)}, 1)
    modality = fleet.members["probe"].model.modality
    good = [modality.store(one, None) for one in pictures()]
    bad = {"path": None, "bytes": good[0]["bytes"][:60]}
    tickets = [
        Ticket(fleet=fleet, modality="image", names=frozenset({"probe"}), items=[item(one) for one in items])
        for items in ([good[0]], [good[1], bad], [good[2]])
    ]
    for one in tickets:
        batcher.submit(one)
    assert all(len(tickets[i].future.result(30)) == 1 for i in (0, 2))
    with pytest.raises(UnreadableError, match="Item 1 cannot be read: truncated"):
        tickets[1].future.result(30)


def test_a_network_that_fails_on_one_item_answers_the_others(
    bert: Backbone, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, plain = Fleet.of({"probe": serving.model(bert)}, 1), SharedPass.run

    def run(self: SharedPass, lane: int, items: Any, asked: Any) -> Any:
        if "poison" in items:
            raise RuntimeError("broken")
        return plain(self, lane, items, asked)

    monkeypatch.setattr(SharedPass, "run", run)
    tickets = [
        Ticket(fleet=fleet, modality="text", names=frozenset({"probe"}), items=[item(text)])
        for text in ("a cat", "poison", "dogs")
    ]
    for one in tickets:
        batcher.submit(one)
    assert tickets[0].future.result(30)
    assert tickets[2].future.result(30)
    with pytest.raises(RuntimeError, match="broken"):
        tickets[1].future.result(30)


def test_closing_finishes_what_waits_and_takes_nothing_more(bert: Backbone) -> None:
    batcher, fleet = Batcher(Settings(), Metrics(), n_lanes=2), Fleet.of({"probe": serving.model(bert)}, 2)
    batcher.start()
    tickets = [
        Ticket(fleet=fleet, modality="text", names=frozenset({"probe"}), items=[item(text)])
        for text in serving.texts(50)
    ]
    for one in tickets:
        batcher.submit(one)
    batcher.close()
    assert all(one.future.done() for one in tickets)
    with pytest.raises(BusyError, match="stopping"):
        batcher.submit(tickets[0])


def test_settings_check_themselves() -> None:
    with pytest.raises(PlanError, match="must all find room"):
        Settings(items=64, waiting=10)
    with pytest.raises(PlanError, match="body_bytes=0"):
        Settings(body_bytes=0)
