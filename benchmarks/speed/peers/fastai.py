"""fastai as its vision tutorial has it: `vision_learner` and `fine_tune`.

One epoch with the network frozen, then as many as are asked for with discriminative learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from fastai.vision.all import (
    ImageDataLoaders,
    Resize,
    default_split,
    error_rate,
    model_meta,
    set_seed,
    vision_learner,
)
from torch import nn

from benchmarks.speed.networks import MEAN, SIDE, STD, efficientnet
from benchmarks.speed.tasks import Case, Learnt


def learn(case: Case, epochs: int) -> Learnt:
    """Fine-tune EfficientNet-Lite0; everything that is not about the network is fastai's default."""
    set_seed(0)
    table = pd.concat(
        pd.DataFrame({"file": rows.inputs, "label": rows.labels, "held_out": split == "val"})
        for split in ("train", "val")
        for rows in [case.read(split)]
    )
    loaders = ImageDataLoaders.from_df(table, path="/", valid_col="held_out", item_tfms=Resize(SIDE))

    def network(pretrained: bool) -> nn.Module:
        return efficientnet(case)

    model_meta[network] = {"cut": -1, "split": default_split, "stats": (MEAN, STD)}
    learner = vision_learner(loaders, network, metrics=error_rate, path=case.out)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    learner.save("model")

    def predict(inputs: Sequence[str]) -> np.ndarray:
        test = loaders.test_dl(pd.DataFrame({"file": list(inputs)}))
        with learner.no_bar():
            return learner.get_preds(dl=test)[0][:, 1].numpy()

    return Learnt(predict=predict)
