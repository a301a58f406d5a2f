"""Chatbots for other programs: PEFT's adapter folder, a merged Hugging Face folder, a GGUF file."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

from headstart.backbones.tokens import quietly
from headstart.deploy import artifact
from headstart.deploy.export import chat_parity
from headstart.deploy.export.chat_parity import ChatParity, Sample
from headstart.deploy.model import Model
from headstart.engine.talker import Talker
from headstart.errors import PlanError, did_you_mean, listed

FORMATS = {  # name: what it is
    "hf": "a folder for transformers' AutoModelForCausalLM, the adapters merged into the weights",
    "peft": "an adapter folder for PEFT, to be put on the same pretrained model",
    "gguf": "a file for llama.cpp and what is built on it, in 16 bits",
}


def check_kind(model: Model, kind: str, int8: bool) -> None:
    """PlanError unless this chatbot can be written so."""
    if not isinstance(model.talker, Talker):
        raise PlanError("This chatbot is run by others, and its weights are not here: there is nothing to export.")
    if kind not in FORMATS:
        raise PlanError(f"A chatbot is exported as {listed(FORMATS)}, not {kind!r}.{did_you_mean(kind, FORMATS)}")
    if int8:
        raise PlanError("8-bit weights are for --format onnx, and a chatbot is exported in 16 or 32 bits.")


def write(model: Model, kind: str, folder: Path, asked: Sample) -> ChatParity:
    """Write the files of one format, and check them; RunError where they do not say what the model says."""
    if kind == "hf":
        return write_folder(model, folder, asked)
    found: ChatParity = importlib.import_module(f"headstart.deploy.export.{kind}").write(model, folder, asked)
    return found


def write_folder(model: Model, folder: Path, asked: Sample) -> ChatParity:
    """The merged network with its tokenizer and chat template, as transformers saves them."""
    import transformers

    backbone = chat_parity.own_voice(model).backbone
    network: Any = backbone.network
    with quietly():
        network.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_bytes(artifact.to_bytes(config | {"use_cache": True}))  # training has it off
    save_tokenizer(model, folder)
    with quietly():
        written: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    _check_template(model, tokenizer)
    return chat_parity.check(asked, chat_parity.spoken(written.eval(), tokenizer, asked))


def save_tokenizer(model: Model, folder: Path) -> None:
    """The tokenizer, with the chat template that the model learnt in."""
    dialogue = chat_parity.own_voice(model).backbone.dialogue
    tokenizer = copy.copy(dialogue.tokenizer)
    tokenizer.chat_template = dialogue.template
    with quietly():
        tokenizer.save_pretrained(folder)


def _check_template(model: Model, tokenizer: Any) -> None:
    if tokenizer.chat_template != chat_parity.own_voice(model).backbone.dialogue.template:
        raise PlanError("transformers does not keep this model's chat template. Use `headstart bundle`.")
