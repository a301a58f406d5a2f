"""SetFit (Tunstall et al. 2022, arXiv:2209.11055): contrastive pairs of sentences, then a logistic regression.

2,000 sentences make two million pairs. Where pairs are that many, its documentation sets `batch_size=16` and
`max_steps=500` (how-to "Knowledge Distillation"), and so does this; all else is its default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression

from benchmarks.speed.peers.embeddings import encoder
from benchmarks.speed.tasks import Case, Learnt


def learn(case: Case, steps: int) -> Learnt:
    """`steps` of 16 pairs each."""
    train = case.read("train")
    model = SetFitModel(model_body=encoder(case), model_head=LogisticRegression())
    arguments = TrainingArguments(
        output_dir=str(case.out),
        batch_size=16,
        max_steps=steps,
        save_strategy="no",
        report_to="none",
        show_progress_bar=False,
        seed=0,
    )
    data = Dataset.from_dict({"text": train.inputs, "label": train.labels})
    Trainer(model=model, args=arguments, train_dataset=data).train()
    model.save_pretrained(str(case.out / "model"))

    def predict(inputs: Sequence[str]) -> np.ndarray:
        return np.asarray(model.predict_proba(list(inputs), as_numpy=True))[:, 1]

    return Learnt(predict=predict)
