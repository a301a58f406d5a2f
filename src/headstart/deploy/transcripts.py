"""What a recogniser hears: a row a recording, for tables and for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from headstart.data.dataset import Dataset
from headstart.modalities.base import Modality
from headstart.tasks.heard import Heard


def heard_table(names: Sequence[str], heard: Sequence[Heard] | np.ndarray) -> pd.DataFrame:
    """A row a recording: input, prediction, confidence, and its words with their times."""
    words = [[vars(word) for word in one.words] for one in heard]
    return pd.DataFrame(
        {
            "input": list(names),
            "prediction": [one.text for one in heard],
            "confidence": [one.confidence for one in heard],
            "words": words,
        }
    )


def tested_table(modality: Modality, tested: Dataset, heard: np.ndarray) -> pd.DataFrame:
    """The same with the true transcripts (`label`)."""
    table = heard_table([modality.name_in_full(item) for item in tested.inputs], heard)
    table.insert(1, "label", tested.column("label"))
    return table


def as_json(heard: Heard) -> str:
    """One recording, as JSON for people."""
    said: dict[str, Any] = heard.to_json()
    return json.dumps(said, ensure_ascii=False, indent=1)
