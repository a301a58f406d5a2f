"""The list of items that are worth labelling first, as `headstart fit` takes it once labels are filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FILE = "label_these.csv"


def to_label(column: str, items: Sequence[Any], names: Sequence[str], hints: Sequence[str]) -> dict[str, bytes]:
    """label_these.csv: the item in its `column`, an empty label, the group as a hint; rows in the order given.

    Pictures that have no file of their own are put beside it.
    """
    import pandas as pd

    names, pictures = list(names), {}
    for place, item in enumerate(items):
        if isinstance(item, dict) and not item.get("path") and item.get("bytes"):
            names[place] = f"item-{place + 1:04d}.png"
            pictures[names[place]] = item["bytes"]
    table = pd.DataFrame({column: names, "label": "", "group": hints})
    return {FILE: table.to_csv(index=False).encode(errors="replace"), **pictures}
