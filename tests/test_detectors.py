"""Ready-made detectors: stages, boxes, losses and resuming, against transformers' own answers."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor

from headstart.backbones import catalog
from headstart.backbones.base import Backbone
from headstart.backbones.changes import Changes
from headstart.backbones.detectors import Detectors, canvas_of
from headstart.backbones.queries import Queries
from headstart.backbones.resume import Resumable
from headstart.errors import BackboneError, PlanError
from headstart.progress import Progress

NAMES = ["Person", "dog", "cat"]  # of the pretrained network
WANTED = ["screw", "CAT", "person", "nut"]  # of the user
CANVAS = (64, 96)

_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_DETR = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 7,
}
_HYBRID = _DETR | {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [8, 12, 16],
    "decoder_in_channels": [16, 16, 16],
    "encoder_layers": 1,
    "num_denoising": 6,
}


def _resnet(*features: str) -> Any:
    return transformers.ResNetConfig(**_RESNET, out_features=list(features))


def _rt_resnet() -> Any:
    return transformers.RTDetrResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"])


def _hgnet() -> Any:
    return transformers.HGNetV2Config(
        embedding_size=8,
        hidden_sizes=[8, 8, 12, 16],
        depths=[1, 1, 1, 1],
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 8, 12],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 8, 12, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[2, 2, 2, 2],
        out_features=["stage2", "stage3", "stage4"],
    )


def _deformable(**more: Any) -> Any:
    trunk = _resnet("stage2", "stage3", "stage4")
    settings = _DETR | {"d_model": 32, "num_feature_levels": 4, "with_box_refine": False} | more
    return transformers.DeformableDetrConfig(**settings, use_timm_backbone=False, backbone_config=trunk)


CONFIGS: dict[str, Callable[[], Any]] = {
    "detr": lambda: transformers.DetrConfig(**_DETR, use_timm_backbone=False, backbone_config=_resnet("stage4")),
    "detr, auxiliary": lambda: transformers.DetrConfig(
        **_DETR, auxiliary_loss=True, use_timm_backbone=False, backbone_config=_resnet("stage4")
    ),
    "conditional_detr": lambda: transformers.ConditionalDetrConfig(
        **_DETR, use_timm_backbone=False, backbone_config=_resnet("stage4")
    ),
    "deformable_detr": lambda: _deformable(),
    "deformable_detr, two stages": lambda: _deformable(
        two_stage=True, with_box_refine=True, two_stage_num_proposals=7, auxiliary_loss=True
    ),
    "rt_detr": lambda: transformers.RTDetrConfig(**_HYBRID, backbone_config=_rt_resnet()),
    "rt_detr_v2": lambda: transformers.RTDetrV2Config(**_HYBRID, backbone_config=_rt_resnet()),
    "d_fine": lambda: transformers.DFineConfig(**_HYBRID, depth_mult=0.34, backbone_config=_hgnet()),
    "yolos": lambda: transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 64],
        num_detection_tokens=7,
    ),
}


@dataclass(frozen=True)
class Objects:
    boxes: Tensor
    classes: Tensor
    ignored: Tensor
