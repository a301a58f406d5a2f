"""A text backbone's tokenizer beside an export, and the Python that follows it without Headstart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headstart.deploy.model import Model
from headstart.errors import PlanError

FILE = "tokenizer.json"
PLAIN = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}


def write_tokenizer(model: Model, folder: Path) -> None:
    """tokenizer.json, without padding, cut where the network ends. PlanError for a backbone that has none."""
    reader = getattr(model.backbone, "reader", None)
    if reader is None:
        raise PlanError(f"{model.origin.name} has no tokenizer that can lie beside its export. Use a bundle.")
    tokenizer: Any = reader.tokenizer.backend_tokenizer
    saved = json.loads(tokenizer.to_str())
    saved["padding"] = None
    saved["truncation"] = {
        "max_length": reader.max_tokens,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    (folder / FILE).write_text(json.dumps(saved, ensure_ascii=False), encoding="utf-8")


def write_tokens(folder: Path) -> None:
    """tokens.py: plain Python for BERT's own recipe, which forty lines can follow; else the library `tokenizers`."""
    saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
    plain = all((saved.get(part) or {}).get("type") == kind for part, kind in PLAIN.items())
    template = Path(__file__).parent / f"tokens_{'wordpiece' if plain else 'tokenizers'}.py.txt"
    (folder / "tokens.py").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
