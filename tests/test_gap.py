"""The distance between domains against what is known of Gaussians, and the picture against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from headstart.evidence.gap import clouds, domain_gap


def gaussians(shift: float, n: int = 400, t: int = 400, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), rng.normal(size=(t, d)) + np.r_[shift, np.zeros(d - 1)]


@pytest.mark.parametrize(("n", "t"), [(600, 600), (900, 200)])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_two_gaussians_are_as_far_as_the_best_line_says(shift: float, n: int, t: int) -> None:
    expected = 2 * (1 - 2 * norm.cdf(-shift / 2))
    found = domain_gap(*gaussians(shift, n, t))
    assert found.value == pytest.approx(expected, abs=0.15)
    assert found.low <= expected <= found.high
    assert found.low < found.value < found.high


def test_one_distribution_has_no_gap() -> None:
    found = domain_gap(*gaussians(0.0))
    assert found.low == 0
    assert found.value < 0.15
    assert found.high < 0.35


def test_far_domains_are_told_apart_without_a_mistake() -> None:
    found = domain_gap(*gaussians(50.0, 80, 40))
    assert found.value == 2
    assert 1.6 < found.low < 2
    assert found.high == 2


def test_equal_rows_cannot_be_told_apart() -> None:
    found = domain_gap(np.ones((30, 4)), np.ones((30, 4)))
    assert (found.value, found.low) == (0, 0)


def test_more_columns_than_rows_do_not_make_a_gap() -> None:
    assert domain_gap(*gaussians(0.0, 60, 60, 300)).low < 0.3


def test_the_same_seed_gives_the_same_interval() -> None:
    assert domain_gap(*gaussians(1.0), seed=5) == domain_gap(*gaussians(1.0), seed=5)


@pytest.mark.parametrize("shape", [(50, 30, 6), (10, 8, 40)])
def test_clouds_are_the_best_plane_of_both(shape: tuple[int, int, int]) -> None:
    n, t, d = shape
    source, target = gaussians(3.0, n, t, d)
    found = clouds(source, target)
    assert (found.source.shape, found.target.shape) == ((n, 2), (t, 2))
    both = np.concatenate([source, target])
    centred = both - both.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose(found.explained, values[:2] / values.sum())
    flat = np.concatenate([found.source, found.target])
    np.testing.assert_allclose((flat**2).sum(axis=0), values[:2])
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-9)


def test_clouds_of_one_column_lie_on_a_line() -> None:
    found = clouds(np.arange(5.0)[:, None], np.arange(4.0)[:, None])
    assert found.source.shape == (5, 2)
    assert np.ptp(found.source[:, 1]) == 0
    np.testing.assert_allclose(found.explained, [1, 0])
