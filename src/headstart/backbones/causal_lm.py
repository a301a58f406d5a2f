"""Language models that write: decoders of the GPT and Llama families (Radford et al. 2019; arXiv:2302.13971).

Each layer is a stage. The final norm belongs to the last one, and the projection to the vocabulary is the network's own
head: it is shared with the embedding in most of them, and stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, float32, nn

from headstart.backbones.base import Backbone, Located, Provenance, Stage, tensor_of
from headstart.backbones.dialogue import Dialogue
from headstart.backbones.families import CAUSAL
from headstart.backbones.tokens import Tokens, positions_of, quietly, tokens_of
from headstart.backbones.transformers import (
    TEXT_BUDGET,
    Family,
    config_sha256,
    mean_over_tokens,
    read_json,
    stages_of,
)
from headstart.errors import BackboneError, MissingExtraError, PlanError, did_you_mean, listed

_LLAMA = Family(
    modality="text", first=("model.embed_tokens",), shared=("lm_head",), layers="model.layers", last=("model.norm",)
)
_PHI = Family(
    modality="text",
    first=("model.embed_tokens",),
    shared=("lm_head",),
    layers="model.layers",
    last=("model.final_layernorm",),
)
_GPT2 = Family(
    modality="text",
    first=("transformer.wte", "transformer.wpe", "transformer.drop"),
    shared=("lm_head",),
    layers="transformer.h",
    last=("transformer.ln_f",),
)
OTHERS = {"gpt2": _GPT2, "phi": _PHI}  # config.json's model_type: its stages
LANGUAGE_MODELS = {kind: OTHERS.get(kind, _LLAMA) for kind in CAUSAL}


class CausalLm(Backbone):
    """A decoder with its tokenizer. It reads plain texts, or conversations (`of_conversations`)."""

    modality = "text"
    compiles = False

    def __init__(
        self, network: nn.Module, stages: Sequence[Stage], provenance: Provenance, reader: Tokens | Dialogue
    ) -> None:
        super().__init__(network, stages, provenance, reader.to_json() | {"config": config_sha256(network)})
        self.reader = reader

    @classmethod
    def load(cls, located: Located) -> CausalLm:
        """Build the network of a folder in the hub's layout, in float32."""
        try:
            import transformers
        except ImportError:
            raise MissingExtraError("transformers", "chat") from None
        config = read_json(located, "config.json")
        kind = str(config.get("model_type"))
        if kind not in LANGUAGE_MODELS:
            raise BackboneError(
                f"{located.name} is of the type {kind!r}; Headstart knows the stages of these language models: "
                f"{listed(sorted(LANGUAGE_MODELS), 20)}.{did_you_mean(kind, LANGUAGE_MODELS)}"
            )
        models: Any = transformers.AutoModelForCausalLM
        with quietly():
            try:
                network, report = models.from_pretrained(
                    located.folder, use_safetensors=True, local_files_only=True, dtype=float32, output_loading_info=True
                )
                reader = tokens_of(located, config)
            except (ImportError, OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
                raise BackboneError(f"{located.name} cannot be loaded from {located.folder}: {error}") from error
        if missing := sorted(report["missing_keys"]):
            raise BackboneError(
                f"The weights in {located.folder} lack {len(missing)} of the network's tensors: {listed(missing, 3)}. "
                "Fetch them again, or give the folder of a complete model."
            )
        network.config.use_cache = False  # positions that begin anew tell packed texts apart only without one
        return cls(network, stages_of(LANGUAGE_MODELS[kind], network, located), Provenance.of(located, network), reader)

    def of_conversations(self, most_tokens: int | None = None) -> CausalLm:
        """The same network, to which a stored conversation is an item; up to so many tokens of it are seen."""
        most = self.context if most_tokens is None else min(most_tokens, self.context)
        reader = self.reader if isinstance(self.reader, Dialogue) else Dialogue.of(self.reader, most)
        other = CausalLm(self.network, self.stages, self.provenance, reader)
        other.way, other.changes = self.way, self.changes
        return other

    @property
    def dialogue(self) -> Dialogue:
        """How conversations are read. PlanError where plain texts are."""
        if not isinstance(self.reader, Dialogue):
            raise PlanError(f"{self.provenance.name} reads plain texts here, not conversations.")
        return self.reader

    @property
    def context(self) -> int:
        """How many tokens the network can see at once."""
        return positions_of(self.config.to_dict())

    @property
    def config(self) -> Any:
        """transformers' own settings of the network."""
        network: Any = self.network
        return network.config

    def reinitialised(self) -> nn.Module:
        """A network of the same settings, initialised as its authors do."""
        network: Any = self.network
        return type(network)(copy.deepcopy(network.config))

    @property
    def batch_budget(self) -> int:
        """Tokens, padding counted."""
        return TEXT_BUDGET

    def lengths(self, items: Sequence[Any]) -> list[int]:
        """Tokens of each item after truncation."""
        return self.reader.lengths(items)

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (N, T), padded to the longest."""
        return self.reader.tensors(items)

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, T, D) to (N, D); padding does not count."""
        return mean_over_tokens(tensor_of(output).float(), inputs)


def unembed(network: Any, states: Tensor) -> Tensor:
    """Logits (M, V) of the last stage's output (M, D), as the network itself makes them."""
    logits = network.get_output_embeddings()(states)
    cap = getattr(network.config, "final_logit_softcapping", None)
    return logits if not cap else cap * torch.tanh(logits / cap)
