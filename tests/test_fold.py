"""Folded networks compute the same function, and lanes give what one batch after the other gives."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.backbones.base import Backbone
from headstart.backbones.efficientnet_lite import _conv
from headstart.backbones.fold import FoldedConv2d, find_chains, folded
from headstart.engine import lanes
from headstart.engine.lanes import in_lanes
from headstart.engine.ways import run_as
from headstart.modalities.image import Image
from headstart.modalities.text import Text
from headstart.progress import Progress
from headstart.workshop import load_backbone
from tests.test_backbones import save_tiny


def settle(network: nn.Module) -> None:
    """Batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -1), (module.running_var, 0.5), (module.bias, -1)):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + low)


def load(family: str, folder: Path) -> Backbone:
    backbone = load_backbone(str(save_tiny(family, folder / family)), Image(), Progress())
    settle(backbone.network)
    return backbone


@pytest.mark.parametrize("family", ["resnet", "mobilenet_v2"])
def test_a_folded_network_gives_the_same_features_at_every_stage(family: str, tmp_path: Path) -> None:
    backbone = load(family, tmp_path)
    norms = [module for module in backbone.network.modules() if isinstance(module, nn.BatchNorm2d)]
    other = folded(backbone)
    assert len(find_chains(backbone)) == len(norms) > 3
    assert not any(isinstance(module, nn.BatchNorm2d) for module in other.network.modules())
    inputs = {"pixel_values": torch.randn(3, 3, backbone.detail, backbone.detail)}
    for one, two in zip(backbone.pooled(inputs), other.pooled(inputs), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    exact, fused = (net.activations(inputs, 2) for net in (backbone, other))
    torch.testing.assert_close(exact, fused, atol=1e-4, rtol=1e-4)


def test_efficientnet_lite_pads_alike_when_folded() -> None:
    """Strided convolutions pad one side more; the kernel grows by zeros for it."""
    backbone = load_backbone("efficientnet-lite0", Image(), Progress())
    other = run_as(backbone, "folded float32")
    assert other.fingerprint != backbone.fingerprint
    assert len(find_chains(backbone)) == 49
    inputs = {"pixel_values": torch.randn(2, 3, 224, 224)}
    for one, two in zip(backbone.pooled(inputs), other.pooled(inputs), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_without_onednn_a_folded_convolution_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _conv(3, 8, kernel=3, stride=2).eval()
    settle(plain)
    conv, norm, activation = plain
    fused = FoldedConv2d(conv, norm, activation, (9, 9))
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), plain(x))
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        torch.testing.assert_close(fused(x), plain(x))


def test_a_network_without_batch_norms_is_left_alone(tmp_path: Path) -> None:
    text = load_backbone(str(save_tiny("bert", tmp_path / "bert")), Text(), Progress())
    assert folded(text) is text
    vit = load_backbone(str(save_tiny("vit", tmp_path / "vit")), Image(), Progress())
    assert folded(vit) is vit


def test_a_module_that_runs_twice_is_not_folded(tmp_path: Path) -> None:
    backbone = load("resnet", tmp_path)
    first = find_chains(backbone)[0]
    conv, norm = (backbone.network.get_submodule(path) for path in (first.conv, first.norm))
    conv.register_forward_hook(lambda _m, _a, output: norm(output))
    assert first.conv not in {chain.conv for chain in find_chains(backbone)}


@pytest.fixture
def text_backbone(tmp_path: Path) -> Backbone:
    return load_backbone(str(save_tiny("bert", tmp_path / "bert")), Text(), Progress())


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_lanes_give_the_results_in_order(n_threads: int, text_backbone: Backbone) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        inputs = [text_backbone.collate(["a cat " * n]) for n in range(1, 12)]
        expected = [text_backbone.pooled(one)[-1].numpy() for one in inputs]
        found = list(in_lanes(text_backbone, lambda net, one: net.pooled(one)[-1].numpy(), inputs))
        for one, two in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)


def test_lanes_work_beside_each_other_with_the_same_tensors(
    text_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    meeting = threading.Barrier(2, timeout=20)
    seen: list[Backbone] = []

    def work(backbone: Backbone, task: int) -> int:
        meeting.wait()  # breaks unless two are here
        seen.append(backbone)
        return task

    assert list(in_lanes(text_backbone, work, range(4))) == [0, 1, 2, 3]
    assert len({id(one.network) for one in seen}) == 2
    weights = {next(one.network.parameters()).data_ptr() for one in seen}
    assert weights == {next(text_backbone.network.parameters()).data_ptr()}


def test_what_goes_wrong_in_a_lane_comes_out_and_ends_the_rest(
    text_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    done: list[int] = []

    def work(backbone: Backbone, task: int) -> Any:
        done.append(task)
        if task == 1:
            raise ValueError("a broken picture")
        return task

    with pytest.raises(ValueError, match="a broken picture"):
        list(in_lanes(text_backbone, work, range(100)))
    assert len(done) <= 2 + lanes.MOST_LANES
