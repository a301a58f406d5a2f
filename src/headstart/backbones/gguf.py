"""Language models out of GGUF files (llama.cpp's format), kept in the hub's layout; transformers reads the file.

The weights of such a file are quantised, most of them in four bits. They are made numbers again once, when the file
arrives, and kept in float16, which holds what four bits and a scale can say: to load them then takes no time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from headstart import places
from headstart.backbones.families import is_causal
from headstart.backbones.tokens import quietly
from headstart.errors import BackboneError, MissingExtraError

SUFFIX = ".gguf"
SOURCE = "source.json"


def is_gguf(path: Path) -> bool:
    """Whether it is a file that says of itself that it is in this format."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def keep_in_hub_layout(folder: Path) -> None:
    """Replace the one GGUF file in the folder by config.json, model.safetensors and the tokenizer's files."""
    (file,) = folder.glob(f"*{SUFFIX}")
    network, tokenizer = _read(file)
    with quietly():
        network.to(torch.float16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    file.unlink()


def converted(file: Path) -> Path:
    """The folder in the weights cache of a GGUF file of the user's; it is converted once, and known by its sha256."""
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    folder = places.weights() / f"gguf-{sha256[:16]}"
    if (folder / SOURCE).is_file():
        return folder
    places.weights().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=places.weights(), prefix=".gguf-") as scratch:
        ready = Path(scratch) / "ready"
        ready.mkdir()
        shutil.copyfile(file, ready / f"model{SUFFIX}")
        keep_in_hub_layout(ready)
        made = {path.name: _sha256(path) for path in sorted(ready.iterdir())}
        (ready / SOURCE).write_text(json.dumps({"source": f"file:{file}", "files": made}, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(ready, folder)
    return folder


def _read(file: Path) -> tuple[Any, Any]:
    """(network, tokenizer) of a file; BackboneError where transformers cannot read it, or knows no such decoder."""
    for library in ("transformers", "gguf", "accelerate"):
        if find_spec(library) is None:
            raise MissingExtraError(library, "chat")
    import transformers

    network: Any
    own = {"gguf_file": file.name, "local_files_only": True}
    try:
        with quietly(), redirect_stderr(io.StringIO()):  # its bars
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **own)
            network = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **own)
    except (ImportError, OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise BackboneError(
            f"{file} cannot be read ({str(error).splitlines()[0]}). Copy it anew, or give the model's folder in the "
            "layout of the Hugging Face hub."
        ) from error
    kind = network.config.model_type
    if not is_causal(kind):
        raise BackboneError(f"{file} holds a network of the type {kind!r}, whose stages Headstart does not know.")
    network.hf_quantizer, network.is_quantized = None, False  # it is not any more, and says so
    for owner, name in ((network.config, "quantization_config"), (network, "quantization_method")):
        if hasattr(owner, name):
            delattr(owner, name)
    if _field(file, "tokenizer.ggml.pre") == "smollm":
        _digits_alone(tokenizer)
    return network, tokenizer


def _digits_alone(tokenizer: Any) -> None:
    """SmolLM's tokenizer takes each digit by itself, which the file only hints at."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    own = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(own)


def _field(file: Path, name: str) -> str:
    from gguf import GGUFReader

    field = GGUFReader(str(file)).get_field(name)
    return "" if field is None else str(field.contents())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
