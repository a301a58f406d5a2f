"""PEFT's adapter folder: the factors of each low-rank update under PEFT's names, to be put on the pretrained model."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

from headstart.backbones.changes import DOWN, UP
from headstart.backbones.tokens import quietly
from headstart.deploy.export import chat_parity
from headstart.deploy.export.chat_parity import ChatParity, Sample
from headstart.deploy.model import Model
from headstart.errors import PlanError
from headstart.strategies.lora import peft as library

HUB, FOLDER, FILE = "hub:", "folder:", "file:"  # how a `Provenance.source` begins
WEIGHT = ".weight"


def write(model: Model, folder: Path, asked: Sample) -> ChatParity:
    """The adapters alone, with tokenizer and chat template; PlanError where whole weights were trained."""
    from safetensors.torch import save_file

    from headstart.deploy.export.chatbot import save_tokenizer

    tensors = factors(model)
    ranks = {name: tensor.shape[0] for name, tensor in tensors.items() if name.endswith(DOWN)}
    modules = {name.removesuffix(DOWN).removesuffix(WEIGHT): rank for name, rank in ranks.items()}
    rank = max(modules.values())
    settings = library().LoraConfig(
        r=rank,
        lora_alpha=rank,  # the scale is in the second factor
        rank_pattern={name: one for name, one in modules.items() if one != rank},
        alpha_pattern={name: one for name, one in modules.items() if one != rank},
        target_modules=sorted(modules),
        base_model_name_or_path=base_name(model),
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    settings.save_pretrained(folder)
    save_file(
        {_peft_name(name): one.contiguous() for name, one in tensors.items()}, folder / "adapter_model.safetensors"
    )
    (folder / "adapter_model.safetensors").chmod(0o644)  # safetensors makes it private
    save_tokenizer(model, folder)
    base: Any = copy.deepcopy(model.load_pretrained().network)  # PEFT puts adapters into it
    with quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for what has a new name there
        adapted = library().PeftModel.from_pretrained(base, str(folder)).eval()
    return chat_parity.check(
        asked, chat_parity.spoken(adapted, chat_parity.own_voice(model).backbone.dialogue.tokenizer, asked)
    )


def factors(model: Model) -> dict[str, Any]:
    """The pairs of factors by name. PlanError where there are none, or not only such."""
    changes = model.talker.changes if model.talker else None
    tensors = dict(changes.tensors) if changes else {}
    if not tensors or not all(name.endswith((DOWN, UP)) for name in tensors):
        raise PlanError(
            f"This run has no adapters: {model.plan.strategy} trains {'whole weights' if tensors else 'nothing'}. "
            "Use --format hf, or fit again with --strategy lora."
        )
    return tensors


def base_name(model: Model) -> str:
    """Where the pretrained model is found: its id on the hub, its folder, else its name here."""
    origin = model.origin
    for prefix in (HUB, FOLDER):
        if origin.source.startswith(prefix):
            return origin.source.removeprefix(prefix)
    return origin.name


def _peft_name(name: str) -> str:
    """'model.layers.0.mlp.up_proj.weight.lora_A' as PEFT writes it."""
    for ending in (DOWN, UP):
        if name.endswith(ending):
            return f"base_model.model.{name.removesuffix(ending).removesuffix(WEIGHT)}{ending}{WEIGHT}"
    return name
