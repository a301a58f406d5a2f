"""A GGUF file (llama.cpp's format) of a network of the Llama family in 16 bits, by the library `gguf`.

It is read again by transformers, and must give the same probabilities as the weights in 16 bits do.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.backbones import gguf as reader
from headstart.deploy.export import chat_parity
from headstart.deploy.export.chat_parity import ChatParity, Sample
from headstart.deploy.model import Model
from headstart.errors import MissingExtraError, PlanError

FILE = "model.gguf"
LLAMA = "llama"
CONTROL, NORMAL = 3, 1  # kinds of tokens


def write(model: Model, folder: Path, asked: Sample) -> ChatParity:
    """The file. PlanError for another family, and for a tokenizer that the format cannot name."""
    backbone = chat_parity.own_voice(model).backbone
    network: Any = copy.deepcopy(backbone.network).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:  # norms stay in 32 bits
            parameter.data = parameter.data.to(torch.float16).to(torch.float32)
    if network.config.model_type != LLAMA:
        raise PlanError(
            f"GGUF files are written of networks of the type {LLAMA!r} alone, and this is "
            f"{network.config.model_type!r}. Use --format hf, and llama.cpp's own convert_hf_to_gguf.py on the folder."
        )
    reference = chat_parity.spoken(network, backbone.dialogue.tokenizer, asked)
    write_file(network, backbone.dialogue.tokenizer, backbone.dialogue.template, folder / FILE)
    read, tokenizer = reader.read_file(folder / FILE)
    return chat_parity.check(asked, chat_parity.spoken(read.eval(), tokenizer, asked), reference)


def write_file(network: Any, tokenizer: Any, template: str, path: Path) -> None:
    """A network of the Llama family with its tokenizer and chat template, as llama.cpp reads them."""
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "chat") from None
    file = gguf.GGUFWriter(path, LLAMA)
    _settings(file, network.config)
    _vocabulary(file, tokenizer, network.config.vocab_size)
    file.add_chat_template(template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, network.config.num_hidden_layers)
    tied = network.config.tie_word_embeddings
    for name, tensor in network.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        array = _permuted(name, tensor, network.config).float().numpy()
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise PlanError(f"The format has no place for {name!r}. Use --format hf.")
        file.add_tensor(known, array.astype(np.float16 if array.ndim > 1 else np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def _settings(file: Any, config: Any) -> None:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    file.add_context_length(config.max_position_embeddings)
    file.add_embedding_length(config.hidden_size)
    file.add_block_count(config.num_hidden_layers)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(config.num_attention_heads)
    file.add_head_count_kv(config.num_key_value_heads)
    file.add_rope_dimension_count(width)
    file.add_rope_freq_base(float(_rope(config)))
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_vocab_size(config.vocab_size)
    file.add_file_type(1)  # mostly 16 bits


def _rope(config: Any) -> float:
    """The base of the rotary positions. PlanError where they are scaled, which the file would have to say too."""
    settings = getattr(config, "rope_parameters", None) or {}
    if settings.get("rope_type", "default") != "default":
        raise PlanError("This network scales its rotary positions, which is not written here. Use --format hf.")
    base: Any = settings.get("rope_theta") or getattr(config, "rope_theta", 10_000.0)
    return float(base)


def _vocabulary(file: Any, tokenizer: Any, n: int) -> None:
    """A byte-level BPE tokenizer. PlanError for another kind, whose splitting the format cannot name."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = {i: token for token, i in tokenizer.get_vocab().items()}
    special = {one["id"] for one in state["added_tokens"] if one["special"]}
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre(_splitting(state))
    file.add_token_list([tokens.get(i, f"<unused{i}>") for i in range(n)])
    file.add_token_types([CONTROL if i in special or i not in tokens else NORMAL for i in range(n)])
    merges = [one if isinstance(one, str) else " ".join(one) for one in state["model"]["merges"]]
    file.add_token_merges(merges)
    for name in ("bos", "eos", "unk", "pad"):
        if (i := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(file, f"add_{name}_token_id")(i)
    file.add_add_bos_token(False)  # the chat template writes all there is
    file.add_add_space_prefix(False)


def _splitting(state: dict[str, Any]) -> str:
    """llama.cpp's name for how texts are split before tokens are found."""
    before = state["pre_tokenizer"] or {}
    parts = before.get("pretokenizers", [before])
    kinds = [part.get("type") for part in parts]
    if state["model"].get("type") == "BPE" and kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"]:
        return "smollm"
    if state["model"].get("type") == "BPE" and kinds == ["ByteLevel"] and before.get("use_regex", True):
        return "gpt-2"
    raise PlanError(
        "llama.cpp has a name of its own for each way of splitting texts, and this tokenizer's is not known here. Use "
        "--format hf, and llama.cpp's own convert_hf_to_gguf.py on the folder."
    )


def _permuted(name: str, tensor: Any, config: Any) -> Any:
    """Rows of queries and keys in llama.cpp's order: the two halves of a head's rotary pairs side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    n = next((n for part, n in heads.items() if f".{part}." in name), None)
    if n is None:
        return tensor
    return tensor.reshape(n, 2, tensor.shape[0] // n // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)
