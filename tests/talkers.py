"""A run that chats, made without a fit: a tiny random Llama in the hub's layout, whose tokens are ASCII characters."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from headstart import registry
from headstart.backbones import catalog
from headstart.backbones.changes import DOWN, UP, Changes
from headstart.data.conversation import ASSISTANT, USER, Conversation, Turn
from headstart.deploy import artifact, examples
from headstart.deploy.card import model_card
from headstart.deploy.examples import Examples
from headstart.deploy.model import Model
from headstart.engine.talker import Talker
from headstart.progress import Progress
from headstart.tasks.chat import Chat
from tests import samples

SPECIAL = ("<unk>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 256
LETTERS = {" ": "Ġ", "\n": "Ċ"}  # as byte-level tokens are written


def save_tiny_llama(folder: Path, seed: int = 0) -> Path:
    """A random Llama with two layers and grouped queries, its tokenizer and its chat template."""
    torch.manual_seed(seed)
    vocabulary = save_character_tokenizer(folder)
    network = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=vocabulary["<|im_start|>"],
            eos_token_id=vocabulary["<|im_end|>"],
            pad_token_id=vocabulary["<|im_end|>"],
        )
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder


def save_character_tokenizer(folder: Path) -> dict[str, int]:
    """One token a printable ASCII character, a few pairs, and the marks of a chat; gives the vocabulary."""
    characters = [LETTERS.get(chr(code), chr(code)) for code in (10, *range(32, 127))]
    pairs = [("t", "h"), ("th", "e"), ("a", "n")]
    tokens = [*SPECIAL, *characters, *("".join(pair) for pair in pairs)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[2]
    )
    fast.chat_template = TEMPLATE
    fast.model_max_length = CONTEXT
    fast.save_pretrained(folder)
    return vocabulary


def talks(n: int) -> list[Conversation]:
    """n conversations of one or two questions with their answers."""
    found = []
    for i in range(n):
        turns = [Turn(USER, f"what is the number {i}?"), Turn(ASSISTANT, f"the number {i} is {i * i}")]
        more = [Turn(USER, "and then?"), Turn(ASSISTANT, "the end")]
        found.append(Conversation((*turns, *more) if i % 2 else tuple(turns)))
    return found


def save_run(folder: Path, *, low_rank: bool = True, system: str | None = None) -> Path:
    """The run of a tiny Llama with random changes in its upper layer, in folder/"run"; the backbone lies beside it."""
    backbone = catalog.load(str(save_tiny_llama(folder / "llama")), Progress())
    record, kept = samples.record("texts"), talks(8)
    model = Model(
        task=Chat(),
        modality=registry.modality("text"),
        talker=Talker(changes=changes(backbone.network, low_rank), most_tokens=CONTEXT, system=system),
        plan=samples.plan(way="float32", strategy="lora" if low_rank else "partial", cut=2, n_stages=3),
        provenance=backbone.provenance,
        fingerprint=backbone.fingerprint,
        evidence=record.evidence,
        seen=frozenset(registry.modality("text").examine(one.to_text()).digest for one in kept[:4]),
        files={
            "metrics.json": artifact.to_bytes(record.to_json()),
            "README.md": model_card(record).encode(),
            "report.html": b"<p>report</p>",
            examples.FILE: some_examples(kept).to_bytes(),
        },
    )
    return model.save(folder / "run")


def some_examples(kept: list[Conversation]) -> Examples:
    """The first half from train, the rest from val."""
    import numpy as np

    half = len(kept) // 2
    return Examples(
        splits=["train"] * half + ["val"] * (len(kept) - half),
        items=[one.to_text() for one in kept],
        labels=[[one.turns[i].text for i in one.answers] for one in kept],
        embeddings=np.empty((len(kept), 0), dtype=np.float32),
    )


def changes(network: torch.nn.Module, low_rank: bool) -> Changes:
    """Random ones of the second layer's matrices."""
    generator, found = torch.Generator().manual_seed(1), {}
    for name, tensor in network.state_dict().items():
        if not name.startswith("model.layers.1."):
            continue
        if not low_rank:
            found[name] = tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        elif tensor.ndim == 2:
            found[name + DOWN] = 0.3 * torch.randn(2, tensor.shape[1], generator=generator)
            found[name + UP] = 0.3 * torch.randn(tensor.shape[0], 2, generator=generator)
    return Changes(found)
