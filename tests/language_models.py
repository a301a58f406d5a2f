"""Tiny random language models of several families, whose tokens are ASCII characters (tests/talkers.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.talkers import CONTEXT, save_character_tokenizer

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": CONTEXT}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {**GROUPED, "tie_word_embeddings": True}),
    "mistral": (transformers.MistralConfig, {**GROUPED, "sliding_window": 16}),
    "qwen2": (transformers.Qwen2Config, GROUPED),
    "qwen3": (transformers.Qwen3Config, GROUPED),
    "gemma": (transformers.GemmaConfig, GROUPED),
    "gemma2": (transformers.Gemma2Config, {**GROUPED, "sliding_window": 16, "query_pre_attn_scalar": 8}),
    "gemma3_text": (transformers.Gemma3TextConfig, {**GROUPED, "sliding_window": 16, "query_pre_attn_scalar": 8}),
    "phi": (transformers.PhiConfig, {**SIZES, "max_position_embeddings": CONTEXT}),
    "phi3": (transformers.Phi3Config, {**SIZES, "max_position_embeddings": CONTEXT}),
    "smollm3": (transformers.SmolLM3Config, {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}),
    "gpt2": (
        transformers.GPT2Config,
        {
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": CONTEXT,
            **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
        },
    ),
}


def save_language_model(folder: Path, kind: str, seed: int = 0) -> Path:
    """A random network of three layers, its tokenizer and its chat template."""
    torch.manual_seed(seed)
    vocabulary = save_character_tokenizer(folder)
    of, settings = CONFIGS[kind]
    start, end = vocabulary["<|im_start|>"], vocabulary["<|im_end|>"]
    config = of(vocab_size=len(vocabulary), bos_token_id=start, eos_token_id=end, pad_token_id=end, **settings)
    network = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder
