"""Histograms of oriented gradients over a whole picture, in cells of any size (Dalal & Triggs 2005).

doi:10.1109/CVPR.2005.177. Gradients are taken once and summed into cells as large as each window asks for, so that one
picture serves windows of every size. A cell is normalised by each of the four blocks of 2 × 2 cells that hold it; of
the 36 numbers the sums are kept, over blocks and over orientations, as in Felzenszwalb et al. 2010
(doi:10.1109/TPAMI.2009.167), who found that nothing is lost by it. The mean colour stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

N_ORIENTATIONS = 9  # over 180°
N_NUMBERS = N_ORIENTATIONS + 4 + 3  # of a cell: orientations, energy in each of its blocks, colour
MOST = 0.2  # of a block that one number may hold
NOTHING = 1e-3  # keeps the noise of an even surface small


def oriented(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(orientation, magnitude), (H, W) each, of grey (H, W) float32; the outermost pixels have no gradient."""
    down, across = np.zeros_like(grey), np.zeros_like(grey)
    down[1:-1] = grey[2:] - grey[:-2]
    across[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    angle = np.arctan2(down, across) * np.float32(N_ORIENTATIONS / np.pi)
    return np.floor(angle).astype(np.int64) % N_ORIENTATIONS, np.hypot(down, across)


def cells(picture: Any, grids: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """For each grid of (rows, columns) the picture in so many cells: (rows, columns, 9 + 3) float16.

    Mean magnitude per pixel at each orientation, then the mean colour; the picture is RGB.
    """
    from PIL.Image import Resampling

    orientation, magnitude = oriented(np.asarray(picture.convert("L"), dtype=np.float32) / 255)
    height, width = magnitude.shape
    found = []
    for rows, columns in grids:
        row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
        bins = (row[:, None] * columns + column) * N_ORIENTATIONS + orientation
        sums = np.bincount(bins.ravel(), magnitude.ravel(), minlength=rows * columns * N_ORIENTATIONS)
        mean = sums.reshape(rows, columns, N_ORIENTATIONS) * (rows * columns / magnitude.size)
        colour = np.asarray(picture.resize((columns, rows), Resampling.BOX)) / 255
        found.append(np.concatenate([mean, colour], axis=2, dtype=np.float16, casting="same_kind"))
    return found


def described(cells: np.ndarray) -> np.ndarray:
    """(rows, columns, 16) float32 of cells (rows, columns, 12), normalised block by block."""
    histogram, colour = np.split(cells.astype(np.float32), [N_ORIENTATIONS], axis=2)
    rows, columns = histogram.shape[:2]
    energy = np.pad((histogram**2).sum(axis=2), 1, mode="edge")
    four = energy[1:, 1:] + energy[:-1, 1:] + energy[1:, :-1] + energy[:-1, :-1]  # (rows + 1, columns + 1) blocks
    scale = 1 / np.sqrt(four + NOTHING**2)
    each = [np.minimum(histogram * scale[i : i + rows, j : j + columns, None], MOST) for i in (0, 1) for j in (0, 1)]
    energies = np.stack([one.sum(axis=2) for one in each], axis=2)
    return np.concatenate([np.add.reduce(each), energies, colour], axis=2)
