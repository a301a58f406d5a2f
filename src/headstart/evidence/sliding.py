from dataclasses import dataclass
from typing import Any


@dataclass
class Sliding:
    title: str
    guess: Any

    def found(self, modality, items, sizes):
        return self.guess(len(items))


def fit_sliding(modality, items, y, n_classes, seed, val_items, val_y):
    from headstart.tasks.detection import Detection

    t = Detection(class_names=tuple(str(k) for k in range(n_classes)))
    return Sliding("stub", lambda n: t.naive(y, n))
