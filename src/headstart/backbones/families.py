"""Which file of this folder can load a model, by what its config.json says the network is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS = {"headstart-wavenet": "wavenet"}  # model_type: its file
SOUNDS = {"whisper": "whisper", **dict.fromkeys(("wav2vec2", "hubert", "wavlm"), "wav2vec2")}  # model_type: its file
CAUSAL = frozenset(  # model_type of decoders that write; the file for language models says where their stages are
    ("gpt2", "phi", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3")
)

BOLT = "ChronosBoltModelForForecasting"
PATCHED = {kind: kind for kind in ("timesfm", "timesfm2_5", "patchtst")}  # model_type: its file
RUN = "TimesFM ('google/timesfm-2.5-200m-transformers') and PatchTST ('ibm-granite/granite-timeseries-patchtst')"
SERIES = frozenset(  # model_type of networks for series that are not run; the file for Chronos says which ones are
    {
        *("autoformer", "ctsm", "informer", "patchtsmixer", "time_series_transformer"),
        *("timer", "time_moe"),
    }
)


def family_of(folder: Path) -> str:
    """The file's name; "transformers", which says what is wrong, for what nothing else takes."""
    try:
        saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, heads = str(saved.get("model_type")), saved.get("architectures") or ()
    except (OSError, ValueError, AttributeError):
        return "transformers"
    if any(str(name).endswith("ForObjectDetection") for name in heads):
        return "detectors"
    if is_causal(kind):
        return "causal_lm"
    if "chronos_config" in saved or kind in SERIES or is_moirai(saved):
        return "chronos"
    return "fracast" if is_fracast(saved) else (OURS | SOUNDS | PATCHED).get(kind, "transformers")


def is_causal(kind: str) -> bool:
    """Whether networks of this `model_type` are language models that write."""
    return kind in CAUSAL


def is_fracast(saved: Mapping[str, Any]) -> bool:
    """Whether a config.json is of Fracast, which has no `model_type`."""
    model = saved.get("model")
    return isinstance(model, dict) and model.get("family") == "fracast"


def is_moirai(saved: Mapping[str, Any]) -> bool:
    """Whether a config.json is of Moirai, which has no `model_type` either."""
    return "model_type" not in saved and "max_seq_len" in saved and ("patch_sizes" in saved or "patch_size" in saved)
