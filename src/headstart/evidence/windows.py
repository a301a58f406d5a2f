"""One shape of a sliding window: a linear model of what is in it, and of how its object's box differs from it.

The windows of a shape are cut from one map of cells (`gradients`). Its model is multinomial logistic regression, taught
twice: from windows drawn at random, then with the background that looked most like an object (hard negatives, Dalal &
Triggs 2005, doi:10.1109/CVPR.2005.177). Windows weigh as many as they were drawn from, so that the probabilities of
different shapes can be compared. A ridge regression moves the window to the box, as in Felzenszwalb et al. 2010
(doi:10.1109/TPAMI.2009.167).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import softmax
from sklearn.linear_model import Ridge

from headstart.evidence.gradients import N_NUMBERS, described
from headstart.strategies.probe import standardised
from headstart.tasks import logistic
from headstart.tasks.base import LinearHead
from headstart.tasks.boxes import Objects, overlaps
from headstart.tasks.linear import mean_squared_length

HIT, NEAREST, MISS = 0.6, 0.45, 0.4  # overlaps of an object; of its best window at least; of background at most
CROWD = 0.2  # overlap with what is ignored from which a window teaches nothing
MOST_WINDOWS = 2500  # of objects, of hard and of other background, each
C_TIMES_ROW = np.logspace(0.5, 2.5, 5)  # strongest first
ALPHA_PER_ROW = np.logspace(-3, 1, 5)
FARTHEST = 0.7  # of log size by which a box may differ from its window


@dataclass(frozen=True)
class Shape:
    """A typical box, in pixels of a picture as it is looked at, and the cells that it is cut into."""

    width: float
    height: float
    across: int
    down: int

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of cells of a picture of this size."""
        rows, columns = round(size[1] * self.down / self.height), round(size[0] * self.across / self.width)
        return max(rows, self.down), max(columns, self.across)

    def boxes(self, size: tuple[int, int]) -> np.ndarray:
        """Every window (n, 4) in a picture of this size, row by row."""
        rows, columns = self.grid(size)
        x, y = np.linspace(0, size[0], columns + 1), np.linspace(0, size[1], rows + 1)
        left, top = np.meshgrid(x[: -self.across], y[: -self.down])
        right, bottom = np.meshgrid(x[self.across :], y[self.down :])
        return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)


@dataclass(frozen=True)
class Template:
    """What is learnt of one shape."""

    shape: Shape
    classes: np.ndarray  # (K,) those that it can tell from background
    weight: np.ndarray  # (1 + K + 4, D): logits of background and classes, then how the box moves
    bias: np.ndarray  # (1 + K + 4,)

    def outputs(self, cells: np.ndarray) -> np.ndarray:
        """(n, 1 + K + 4) of every window of a map: the product with each cell of the template is added up."""
        numbers, (down, across) = described(cells), (self.shape.down, self.shape.across)
        rows, columns = len(numbers) + 1 - down, numbers.shape[1] + 1 - across
        weight = self.weight.reshape(len(self.weight), down, across, N_NUMBERS)
        total = np.tile(self.bias, (rows, columns, 1))
        for i in range(down):
            for j in range(across):
                total += numbers[i : i + rows, j : j + columns] @ weight[:, i, j].T
        return total.reshape(rows * columns, -1)

    def answers(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(probability of each class (n, K), offsets of the box (n, 4))."""
        found, n = self.outputs(cells), 1 + len(self.classes)
        return softmax(found[:, :n], axis=1)[:, 1:], found[:, n:]


def moved(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) moved by offsets (n, 4): of the centre in widths and heights, and of their logarithms."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2 + offsets[:, :2] * size
    half = size * np.exp(np.clip(offsets[:, 2:], -FARTHEST, FARTHEST)) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def offsets(boxes: np.ndarray, to: np.ndarray) -> np.ndarray:
    """What moves boxes (n, 4) to others (n, 4): the inverse of `moved`."""
    size, other = boxes[:, 2:] - boxes[:, :2], np.maximum(to[:, 2:] - to[:, :2], 1e-3)
    shift = (to[:, 2:] + to[:, :2] - boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([shift / size, np.log(other / size)], axis=1)


@dataclass(frozen=True)
class Windows:
    """Every window of one shape in a few pictures, and what it holds."""

    shape: Shape
    cells: Sequence[np.ndarray]  # one map a picture
    picture: np.ndarray  # (n,)
    place: np.ndarray  # (n,) which window of its picture
    label: np.ndarray  # (n,) 0 is background, 1 + k a class, -1 neither
    offset: np.ndarray  # (n, 4) float32 to its nearest object

    @classmethod
    def of(
        cls, shape: Shape, cells: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], y: Sequence[Objects]
    ) -> Windows:
        """Of maps of pictures of these sizes, in which these objects lie."""
        told = [told_of(shape.boxes(size), one, size) for size, one in zip(sizes, y, strict=True)]
        n = [len(label) for label, _ in told]
        place = np.concatenate([np.arange(one) for one in n])
        label, offset = (np.concatenate(one) for one in zip(*told, strict=True))
        return cls(shape, cells, np.repeat(np.arange(len(n)), n), place, label, offset)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), D) float32."""
        down, across = self.shape.down, self.shape.across
        found = np.empty((len(rows), down * across * N_NUMBERS), dtype=np.float32)
        for picture in np.unique(self.picture[rows]):
            here = self.picture[rows] == picture
            view = sliding_window_view(described(self.cells[picture]), (down, across), axis=(0, 1))
            cut = view[np.divmod(self.place[rows[here]], view.shape[1])]
            found[here] = cut.transpose(0, 2, 3, 1).reshape(len(cut), -1)
        return found


def told_of(boxes: np.ndarray, own: Objects, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(label (n,), offset (n, 4)) of windows (n, 4) in a picture that is looked at in this size."""
    if not len(own):
        return np.zeros(len(boxes), np.int64), np.zeros((len(boxes), 4), np.float32)
    objects = own.boxes * np.array([size[0] / own.size[0], size[1] / own.size[1]] * 2)
    shared = overlaps(boxes, objects)
    nearest, most = shared.argmax(axis=1), shared.max(axis=1)
    label = np.where(most >= HIT, 1 + own.classes[nearest], np.where(most < MISS, 0, -1))
    best = shared.argmax(axis=0)  # of each object
    best = best[most[best] >= NEAREST]
    label[best] = 1 + own.classes[nearest[best]]
    label[own.ignored[nearest] & (most > CROWD)] = -1
    return label, offsets(boxes, objects[nearest]).astype(np.float32)


@dataclass(frozen=True)
class Drawn:
    """Windows that teach."""

    features: np.ndarray  # (n, D)
    y: np.ndarray  # (n,) 0 is background, 1 … K a class
    weight: np.ndarray  # (n,) how many windows each stands for


def fit_template(train: Windows, val: Windows, rng: np.random.Generator) -> Template | None:
    """The template of a shape, its strengths chosen on validation; None where no object has this shape."""
    classes = np.unique(train.label[train.label > 0]) - 1
    if not len(classes):
        return None
    guess: Template | None = None
    for _ in range(2):
        head = best_head(draw(train, classes, guess, rng), draw(val, classes, guess, rng))
        guess = Template(train.shape, classes, head.weight, head.bias)
    move = best_move(train, val, rng)
    weight, bias = np.concatenate([head.weight, move.weight]), np.concatenate([head.bias, move.bias])
    return Template(train.shape, classes, weight, bias)


def draw(windows: Windows, classes: np.ndarray, guess: Template | None, rng: np.random.Generator) -> Drawn:
    """Windows of objects and of background; where there is a guess, also the background that it is wrong on."""
    held = [np.flatnonzero(windows.label == 1 + k) for k in classes]
    background = np.flatnonzero(windows.label == 0)
    hard = background[:0]
    if guess is not None:
        n = 1 + len(classes)
        logits = np.concatenate([guess.outputs(one) for one in windows.cells])[background]
        order = np.argsort(softmax(logits[:, :n], axis=1)[:, 0], kind="stable")
        hard, background = background[order[:MOST_WINDOWS]], np.sort(background[order[MOST_WINDOWS:]])
    strata = [(one, some(one, rng, MOST_WINDOWS // len(classes))) for one in held]
    strata += [(one, some(one, rng)) for one in (hard, background)]
    rows = np.concatenate([few for _, few in strata])
    weight = np.concatenate([np.full(len(few), len(every) / max(1, len(few))) for every, few in strata])
    y = np.where(windows.label[rows] > 0, 1 + np.searchsorted(classes, windows.label[rows] - 1), 0)
    features = windows.features(rows)
    # Where objects fill the pictures there is no other background.
    empty = np.zeros((1, features.shape[1]), np.float32)
    return Drawn(np.concatenate([features, empty]), np.append(y, 0), np.append(weight, 1.0))


def some(rows: np.ndarray, rng: np.random.Generator, most: int = MOST_WINDOWS) -> np.ndarray:
    """At most so many of the rows, but at least one if there is any, in their order."""
    return np.sort(rng.permutation(rows)[: max(1, most)])


def best_head(train: Drawn, val: Drawn) -> LinearHead:
    """Logits (n, 1 + K) of the strength that does best on validation."""
    features, unfold = standardised(train.features)
    penalties = mean_squared_length(features) / C_TIMES_ROW * train.weight.mean()
    rotated = logistic.Rotated.of(features)
    best, least = None, np.inf
    for weight, bias in logistic.path(rotated, train.y, penalties, train.weight):
        if len(bias) == 1:  # one class: its logit against background's 0
            weight, bias = np.concatenate([0 * weight, weight]), np.append(0 * bias, bias)
        head = unfold(LinearHead(weight, bias))
        probability = softmax(head.logits(val.features).astype(np.float64), axis=1)
        loss = -val.weight @ np.log(np.maximum(probability[np.arange(len(val.y)), val.y], 1e-12))
        if loss < least:
            best, least = head, loss
    assert best is not None
    return best


def best_move(train: Windows, val: Windows, rng: np.random.Generator) -> LinearHead:
    """How windows that hold an object differ from its box; the strength does best on validation."""
    rows, others = (some(np.flatnonzero(one.label > 0), rng) for one in (train, val))
    features, unfold = standardised(train.features(rows))
    heads = []
    for alpha in ALPHA_PER_ROW * len(rows):
        ridge = Ridge(alpha=alpha).fit(features, train.offset[rows])
        heads.append(unfold(LinearHead(ridge.coef_, ridge.intercept_)))
    if not len(others):
        return heads[-1]
    asked = val.features(others)
    return min(heads, key=lambda head: float(((head.logits(asked) - val.offset[others]) ** 2).sum()))
