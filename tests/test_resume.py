"""Resumed above a cut from an activation, a network gives what it gives when run whole: every family, every cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.costs import stage_costs
from headstart.backbones.resume import Resumable
from headstart.errors import BackboneError
from headstart.progress import Progress
from tests.test_backbones import ALL, items_for, save_tiny


@pytest.fixture(scope="module", params=[*ALL, "efficientnet-lite0"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if request.param == "efficientnet-lite0":
        return catalog.load(request.param, Progress())
    return catalog.load(str(save_tiny(request.param, tmp_path_factory.mktemp("models") / "model")), Progress())


def padded(rows: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) if rows[0].ndim == 2 else torch.stack(rows)


def test_resuming_at_every_cut_gives_the_whole_pass(backbone: Backbone) -> None:
    items = items_for(backbone)
    inputs = backbone.collate(items)
    whole = backbone.pooled(inputs)[-1]
    for cut in range(1, backbone.n_stages):
        rows = backbone.unpad(backbone.activations(inputs, cut), inputs)
        resumable = Resumable(backbone, cut, backbone.collate(items[:1])).eval()
        with torch.no_grad():
            resumed = resumable(backbone.placeholders(items), padded([row.clone() for row in rows]))
            again = resumable(inputs)
        torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-5)


def test_one_pass_gives_pooled_stages_and_activations(backbone: Backbone) -> None:
    inputs = backbone.collate(items_for(backbone))
    each = backbone.pooled(inputs)
    features, whole = backbone.outputs(inputs, {0, 1}, {1, 2})
    assert [stage for stage in (0, 1) if not torch.equal(features[stage], each[stage])] == []
    assert [cut for cut in (1, 2) if not torch.equal(whole[cut], backbone.activations(inputs, cut))] == []


def test_networks_that_only_predict_share_an_activation_and_what_is_below_the_cut(backbone: Backbone) -> None:
    items = items_for(backbone)
    inputs = backbone.collate(items)
    whole = backbone.pooled(inputs)[-1]
    for cut in (1, backbone.n_stages - 1):
        activation = backbone.activations(inputs, cut)
        last = backbone.stages[-1].modules[-1]
        adapted = backbone.adapted(Changes({k: v for k, v in backbone.network.state_dict().items() if last in k}))
        upper = Resumable(adapted, cut, backbone.collate(items[:1])).for_predictions(backbone)
        pretrained = {id(p) for p in backbone.network.parameters()}
        below = tuple(f"{path}." for stage in backbone.stages[:cut] for path in stage.modules)
        assert all(id(p) in pretrained for n, p in upper.network.named_parameters() if n.startswith(below))
        other = upper.beside()
        assert {id(p) for p in other.parameters()} == {id(p) for p in upper.parameters()}
        for one in (upper, other, upper):
            torch.testing.assert_close(one(backbone.placeholders(items), activation), whole, rtol=1e-5, atol=1e-5)


def test_only_what_is_above_the_cut_is_trained(backbone: Backbone) -> None:
    items = items_for(backbone)
    example = backbone.collate(items[:1])
    before = {name: p.clone() for name, p in backbone.network.named_parameters()}
    for cut in (0, 1, backbone.n_stages - 1):
        resumable = Resumable(backbone, cut, example)
        resumable(backbone.collate(items)).square().sum().backward()
        moved = {n for n, p in resumable.network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert moved
        assert moved <= resumable.trained_names
        optimiser = torch.optim.SGD([p for p in resumable.parameters() if p.requires_grad], lr=0.1)
        optimiser.step()
    assert all(torch.equal(p, before[name]) for name, p in backbone.network.named_parameters())


def test_frozen_stages_and_batch_norms_stay_in_eval(backbone: Backbone) -> None:
    example = backbone.collate(items_for(backbone)[:1])
    resumable = Resumable(backbone, 1, example)
    assert resumable.training
    first = resumable.network.get_submodule(backbone.stages[0].modules[-1])
    assert not first.training
    norms = [m for m in resumable.network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert not any(norm.training for norm in norms)
    scratch = Resumable(backbone, 0, example, from_scratch=True)
    assert all(m.training for m in scratch.network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm))


def test_from_scratch_starts_from_random_weights(backbone: Backbone) -> None:
    example = backbone.collate(items_for(backbone)[:1])
    torch.manual_seed(1)
    scratch = Resumable(backbone, 0, example, from_scratch=True)
    pretrained = dict(backbone.network.named_parameters())
    matrices = [(n, p) for n, p in scratch.network.named_parameters() if p.ndim > 1]
    assert all(p.requires_grad == (n in scratch.trained_names) for n, p in scratch.network.named_parameters())
    assert all(not torch.equal(p, pretrained[name]) for name, p in matrices if p.std() > 0)


def test_the_shares_of_the_stages_sum_to_one(backbone: Backbone) -> None:
    shares, moves = stage_costs(backbone, items_for(backbone)[:1])
    assert len(shares) == len(moves) == backbone.n_stages
    assert min(moves) > 0
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) >= 0


def test_changes_make_another_network_and_leave_the_first(backbone: Backbone) -> None:
    items = items_for(backbone)
    inputs = backbone.collate(items)
    last = backbone.stages[-1].modules[0]
    name = next(n for n, p in backbone.network.named_parameters() if n.startswith(f"{last}.") and p.ndim > 1)
    before, weight = backbone.pooled(inputs)[-1], backbone.network.state_dict()[name]
    other = backbone.adapted(Changes({name: weight * 1.5}))
    assert other.fingerprint != backbone.fingerprint
    assert torch.equal(backbone.pooled(inputs)[-1], before)
    assert not torch.allclose(other.pooled(inputs)[-1], before)


def test_a_low_rank_update_is_the_product_of_its_factors(tmp_path: Path) -> None:
    network: Any = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Conv2d(4, 3, 1))
    down, up = torch.randn(2, 4), torch.randn(3, 2)
    weight, kernel = network[0].weight.clone(), network[1].weight.clone()
    changes = {"0.weight.lora_A": down, "0.weight.lora_B": up, "1.weight.lora_A": down, "1.weight.lora_B": up}
    Changes(changes).apply(network)
    torch.testing.assert_close(network[0].weight, weight + up @ down)
    torch.testing.assert_close(network[1].weight[..., 0, 0], kernel[..., 0, 0] + up @ down)


def test_changes_of_another_network_are_refused() -> None:
    with pytest.raises(BackboneError, match="lacks 1 tensors"):
        Changes({"nowhere.weight": torch.zeros(1)}).apply(torch.nn.Linear(2, 2))
