"""PyTorch's tutorial "Transfer learning for computer vision": its loop, augmentation, batches of 4 and SGD.

The network and its normalisation are ours, for the same weights; as many loader processes as there are cores, since
torch warns against the tutorial's four on two.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.speed.networks import MEAN, SIDE, STD, WIDTH, efficientnet
from benchmarks.speed.tasks import Case, Learnt
from headstart.engine.allocator import keep_memory

TO_TENSOR = (transforms.ToTensor(), transforms.Normalize(MEAN, STD))
RANDOM = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), *TO_TENSOR])
PLAIN = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIDE), *TO_TENSOR])


class Pictures(Dataset):
    """(changed picture, label) of every path."""

    def __init__(self, paths: Sequence[str], labels: Sequence[int], change: transforms.Compose) -> None:
        self.paths, self.labels, self.change = paths, labels, change

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.change(Image.open(self.paths[row]).convert("RGB")), self.labels[row]


def batches(paths: Sequence[str], labels: Sequence[int], training: bool) -> DataLoader:
    """Four pictures at a time; shuffled and augmented for training."""
    pictures = Pictures(paths, labels, RANDOM if training else PLAIN)
    return DataLoader(pictures, batch_size=4, shuffle=training, num_workers=os.cpu_count() or 1)


def learn(case: Case, epochs: int, frozen: bool, tuned: bool = False) -> Learnt:
    """Train the classifier alone or everything, and keep the epoch that is best on validation; "tuned" keeps memory."""
    if tuned:
        keep_memory()
    torch.manual_seed(0)
    train, val = case.read("train"), case.read("val")
    network = efficientnet(case).requires_grad_(not frozen)
    network.classifier = nn.Linear(WIDTH, 2)
    fit(network, batches(train.inputs, train.labels, True), batches(val.inputs, val.labels, False), epochs, case)

    def predict(inputs: Sequence[str]) -> np.ndarray:
        loader = batches(inputs, [0] * len(inputs), False)
        with torch.inference_mode():
            return torch.cat([network(pictures).softmax(1)[:, 1] for pictures, _ in loader]).numpy()

    return Learnt(predict=predict)


def fit(network: nn.Module, train: DataLoader, val: DataLoader, epochs: int, case: Case) -> None:
    """The tutorial's loop; ends with the best epoch's weights, in `eval()`."""
    criterion = nn.CrossEntropyLoss()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.001, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=7, gamma=0.1)
    best = -1.0
    for _ in range(epochs):
        network.train()
        for pictures, labels in train:
            optimizer.zero_grad()
            criterion(network(pictures), labels).backward()
            optimizer.step()
        scheduler.step()
        network.eval()
        with torch.no_grad():
            right = torch.cat([network(pictures).argmax(1) == labels for pictures, labels in val])
        if (accuracy := right.float().mean().item()) > best:
            best = accuracy
            torch.save(network.state_dict(), case.out / "model.pt")
    network.load_state_dict(torch.load(case.out / "model.pt", weights_only=True))
