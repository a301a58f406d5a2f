"""What the cache alone is worth: a head on a frozen network by an ordinary loop that has all our other levers.

The floating type that `fit` finds for the network (bfloat16 for MiniLM, float32 for EfficientNet-Lite0), batches by
length, convolutions channels-last, memory kept, texts tokenized and pictures decoded once; but the frozen network runs
again in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.speed.networks import WIDTH, chunks, efficientnet, pixels
from benchmarks.speed.tasks import Case, Learnt
from headstart.data.batch import shuffled_batches
from headstart.engine.allocator import keep_memory

SIZE, LEARNING_RATE = 32, 3e-3
Opened = Sequence  # of N inputs, decoded
Embed = Callable[[Opened], Tensor]  # to (N, D) float32


def learn(case: Case, network: str, epochs: int) -> Learnt:
    """Train a linear head on "minilm" or "efficientnet" for some epochs."""
    keep_memory()
    torch.manual_seed(0)
    train = case.read("train")
    open_all, embed, width = {"minilm": _minilm, "efficientnet": _efficientnet}[network](case)
    opened, labels = open_all(train.inputs), torch.tensor(train.labels)
    head = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, 2))
    optimizer = torch.optim.Adam(head.parameters(), lr=LEARNING_RATE)
    for epoch in range(epochs):
        for rows in shuffled_batches([len(one) for one in opened], SIZE, seed=epoch):
            loss = cross_entropy(head(embed([opened[row] for row in rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(head.state_dict(), case.out / "head.pt")
    head.eval()

    @torch.inference_mode()
    def predict(inputs: Sequence[str]) -> np.ndarray:
        opened = open_all(inputs)
        order = sorted(range(len(opened)), key=lambda row: len(opened[row]))
        logits = torch.cat([head(embed([opened[row] for row in rows])) for rows in chunks(order, SIZE)])
        return logits.softmax(1)[np.argsort(order), 1].numpy()

    return Learnt(predict=predict)


def _minilm(case: Case) -> tuple[Callable[[Sequence[str]], Opened], Embed, int]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(case.weights / "minilm")
    model = AutoModel.from_pretrained(case.weights / "minilm").eval().bfloat16()

    @torch.no_grad()
    def embed(tokens: Opened) -> Tensor:
        inputs = tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        mask = inputs["attention_mask"][:, :, None]
        return (model(**inputs).last_hidden_state.float() * mask).sum(1) / mask.sum(1)

    return lambda texts: tokenizer(list(texts), truncation=True)["input_ids"], embed, model.config.hidden_size


def _efficientnet(case: Case) -> tuple[Callable[[Sequence[str]], Opened], Embed, int]:
    network = efficientnet(case).eval().to(memory_format=torch.channels_last)
    trunk = nn.Sequential(network.stem, network.blocks, network.head)

    @torch.no_grad()
    def embed(pictures: Opened) -> Tensor:
        return trunk(torch.stack(list(pictures)).to(memory_format=torch.channels_last)).mean((2, 3))

    return pixels, embed, WIDTH
