"""The examples that a run keeps: which, and how they come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart import registry
from headstart.deploy.examples import MOST, Examples
from headstart.errors import RunError


def some(n: int = 6, width: int = 4) -> Examples:
    rng = np.random.default_rng(0)
    return Examples(
        splits=["train", "val"] * (n // 2),
        items=[f"text {i}" for i in range(n)],
        labels=["a", "b"] * (n // 2),
        embeddings=rng.normal(size=(n, width)).astype(np.float16).astype(np.float32),
    )


def test_what_is_written_comes_back() -> None:
    kept = some()
    back = Examples.from_bytes(kept.to_bytes())
    assert (back.splits, back.items, back.labels) == (kept.splits, kept.items, kept.labels)
    assert np.array_equal(back.embeddings, kept.embeddings)


def test_nearest_is_brute_force_over_centred_cosines() -> None:
    kept = some(8)
    asked = np.array([1.0, -2.0, 0.5, 0.0], dtype=np.float32)
    centre = kept.embeddings.mean(0)
    rows = kept.embeddings - centre
    cosines = [float(row @ (asked - centre) / np.linalg.norm(row) / np.linalg.norm(asked - centre)) for row in rows]
    found = kept.nearest(asked, most=3)
    assert [one.item for one in found] == [kept.items[i] for i in np.argsort(cosines)[::-1][:3]]
    assert found[0].similarity == pytest.approx(max(cosines), abs=1e-5)


def test_an_example_is_most_like_itself() -> None:
    kept = some()
    assert all(kept.nearest(kept.embeddings[i], 1)[0].item == kept.items[i] for i in range(len(kept.items)))


def test_damage_is_said() -> None:
    with pytest.raises(RunError, match=r"examples\.parquet is damaged"):
        Examples.from_bytes(some().to_bytes()[:-20])


def test_a_run_keeps_train_and_val_and_never_test(text_run: Path) -> None:
    kept = headstart.load(text_run).examples
    assert kept is not None
    assert set(kept.splits) == {"train", "val"}
    assert all(kept.splits.count(name) <= most for name, most in MOST.items())
    import pandas as pd

    tested = set(pd.read_parquet(text_run / "predictions.parquet")["input"])
    assert not tested & set(kept.items)


def test_small_pictures_need_no_file(tmp_path: Path) -> None:
    from PIL import Image

    modality: Any = registry.modality("image")
    Image.new("RGB", (400, 300), "red").save(tmp_path / "red.png")
    small = modality.small(modality.store(str(tmp_path / "red.png"), None))
    (tmp_path / "red.png").unlink()
    assert modality.open(small).size == (160, 120)
    gone = modality.store(str(tmp_path / "gone.png"), None)
    assert modality.small(gone) == gone
