"""AutoGluon's MultiModalPredictor (Tang et al. 2024, arXiv:2404.16233) with its default recipe, for as many epochs.

Its own networks come from hubs. EfficientNet-Lite0 is in timm too, with the same layers in the same order, so the
weights are handed to it as a local timm checkpoint. Its choice of normalisation that is nearest to theirs is
"inception".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from autogluon.multimodal import MultiModalPredictor
from autogluon.multimodal.models import timm_image as _  # noqa: F401  (imports are left out for all)

from benchmarks.speed.networks import SIDE, WIDTH, efficientnet
from benchmarks.speed.tasks import Case, Learnt


def learn(case: Case, epochs: int) -> Learnt:
    """Fine-tune everything with layer-wise learning rates, augmentation and an average of the best checkpoints."""
    tables = {split: pd.DataFrame(vars(case.read(split))) for split in ("train", "val")}
    predictor = MultiModalPredictor(label="labels", problem_type="binary", path=str(case.out / "model"), verbosity=0)
    predictor.fit(
        tables["train"],
        tuning_data=tables["val"],
        column_types={"inputs": "image_path"},
        seed=0,
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": str(checkpoint(case)),
            "model.timm_image.image_norm": "inception",
            "optim.max_epochs": epochs,
            "env.num_gpus": 0,
        },
    )

    def predict(inputs: Sequence[str]) -> np.ndarray:
        return predictor.predict_proba(pd.DataFrame({"inputs": list(inputs)}), as_pandas=False)[:, 1]

    return Learnt(predict=predict)


def checkpoint(case: Case) -> Path:
    """A folder as timm writes it for the hub, without ImageNet's classifier."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    ours = [tensor for name, tensor in efficientnet(case).state_dict().items() if not name.startswith("classifier")]
    weights = dict(zip(network.state_dict(), ours, strict=True))
    folder = case.out / "timm"
    folder.mkdir()
    torch.save(weights, folder / "pytorch_model.bin")
    config = {
        "architecture": "tf_efficientnet_lite0",
        "num_features": WIDTH,
        "pretrained_cfg": {**network.default_cfg, "input_size": [3, SIDE, SIDE]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
