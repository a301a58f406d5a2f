"""Tiny random TimesFM and PatchTST networks of transformers in the hub's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

PATCHED = ["timesfm", "timesfm, positions", "timesfm2_5", "patchtst", "patchtst, token"]
TIMESFM: dict[str, Any] = {
    "patch_length": 4,
    "context_length": 64,
    "horizon_length": 6,
    "hidden_size": 16,
    "intermediate_size": 24,
    "head_dim": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
}
PATCHTST: dict[str, Any] = {
    "context_length": 64,
    "prediction_length": 6,
    "patch_length": 8,
    "patch_stride": 5,  # patches overlap, and the first steps are in none
    "d_model": 16,
    "ffn_dim": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "loss": "nll",
}


def built(name: str) -> Any:
    """A network of transformers; its weights are large enough for errors to show."""
    torch.manual_seed(0)
    kind, _, way = name.partition(", ")
    network: Any
    if kind == "timesfm":
        config = transformers.TimesFmConfig(**TIMESFM, use_positional_embedding=way == "positions")
        network = transformers.TimesFmModelForPrediction(config)
    elif kind == "timesfm2_5":
        config = transformers.TimesFm2_5Config(**TIMESFM, num_key_value_heads=2, output_quantile_len=8)
        network = transformers.TimesFm2_5ModelForPrediction(config)
    else:
        token: dict[str, Any] = {"use_cls_token": True, "distribution_output": "normal", "norm_type": "layernorm"}
        point = {"loss": "mse"} if way == "point" else {}
        config = transformers.PatchTSTConfig(**PATCHTST | (token if way == "token" else {}) | point)
        heads = {"pretrained": transformers.PatchTSTForPretraining, "bare": transformers.PatchTSTModel}
        network = heads.get(way, transformers.PatchTSTForPrediction)(config)
    return shaken(network)


def shaken(network: Any) -> Any:
    """The network with more of chance in its weights and in what its batch norms remember."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith(("running_mean", "running_var")):
                buffer.add_(0.3 * torch.rand_like(buffer))
    return network.eval()


def save_patched(name: str, folder: Path) -> Path:
    """As transformers saves it."""
    built(name).save_pretrained(folder)
    return folder
