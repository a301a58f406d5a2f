"""What a run keeps of a language model that was taught to chat: what changed in it, and how it is put to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.backbones.base import Backbone
from headstart.backbones.causal_lm import CausalLm
from headstart.backbones.changes import Changes
from headstart.engine.voice import Voice
from headstart.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class Talker:
    """An adapted language model: the pretrained one by reference, and what was learnt."""

    changes: Changes | None  # none: as it was pretrained
    most_tokens: int  # of a conversation that it learnt from
    system: str | None = None  # what stands before a conversation without a system's words of its own
    chat_template: str = ""  # sha256 of the template that it learnt in

    def to_json(self) -> dict[str, Any]:
        """All but the tensors, as plain JSON values."""
        return {"most_tokens": self.most_tokens, "system": self.system, "chat_template": self.chat_template}

    @classmethod
    def restore(cls, saved: Mapping[str, Any], changes: Changes | None) -> Talker:
        """The inverse of `to_json`, with the tensors."""
        own = {name: saved[name] for name in ("most_tokens", "system", "chat_template")}
        return cls(**own, changes=changes)

    def network(self, backbone: Backbone) -> Voice:
        """Ready to talk. BackboneError where the backbone's template is another than the one that was learnt."""
        if not isinstance(backbone, CausalLm):
            raise BackboneError(f"{backbone.provenance.name} is not a language model, and cannot talk.")
        reads = backbone.of_conversations()
        if self.chat_template and reads.preprocessing["chat_template"] != self.chat_template:
            raise BackboneError(
                f"The chat template beside {backbone.provenance.name} is another than the one that this model learnt "
                "with. Bring back the original backbone, or fit again."
            )
        adapted = reads if self.changes is None else reads.adapted(self.changes)
        assert isinstance(adapted, CausalLm)
        return Voice(backbone=adapted, system=self.system)
