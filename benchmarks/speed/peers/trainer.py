"""The Hugging Face Trainer as its course has it: dynamic padding, batches of 16.

"Frozen" freezes embeddings and encoder; the pooler and the classifier are trained, as its guides do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from scipy.special import softmax
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from benchmarks.speed.tasks import Case, Learnt


def learn(case: Case, epochs: int, frozen: bool) -> Learnt:
    """Fine-tune MiniLM for some epochs."""
    train = case.read("train")
    tokenizer = AutoTokenizer.from_pretrained(case.weights / "minilm")
    model = AutoModelForSequenceClassification.from_pretrained(case.weights / "minilm", num_labels=2)
    if frozen:
        model.bert.embeddings.requires_grad_(False)
        model.bert.encoder.requires_grad_(False)

    def tokenized(**columns: list) -> Dataset:
        return Dataset.from_dict(columns).map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True)

    arguments = TrainingArguments(
        output_dir=str(case.out),
        per_device_train_batch_size=16,
        num_train_epochs=epochs,
        learning_rate=1e-3 if frozen else 5e-5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=tokenized(text=train.inputs, label=train.labels),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    trainer.save_model()

    def predict(inputs: Sequence[str]) -> np.ndarray:
        return softmax(trainer.predict(tokenized(text=list(inputs))).predictions, axis=1)[:, 1]

    return Learnt(predict=predict)
