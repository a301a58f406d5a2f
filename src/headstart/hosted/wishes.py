"""What the user said of a hosted fine-tuning: consent, price, and how long it learns."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.errors import PlanError

STRATEGY = "hosted"  # what a plan calls it
PREFIX = "openai:"  # how a hosted backbone is named: "openai:gpt-4.1-mini"


@dataclass(frozen=True, kw_only=True)
class HostedWishes:
    """What the user said of a hosted fine-tuning."""

    yes: bool = False  # what is sent and what it costs is agreed to beforehand; else it is asked in the terminal
    price: str | None = None  # "TRAINING" or "TRAINING,INPUT,OUTPUT", dollars a million tokens; None: a dated table
    n_epochs: int | None = None  # None: as many as OpenAI's own rule gives for so many conversations

    def __post_init__(self) -> None:
        if self.n_epochs is not None and not 1 <= self.n_epochs <= 50:
            raise PlanError(f"{self.n_epochs} epochs cannot be asked for. Give a number from 1 to 50.")


def is_hosted(backbone: object) -> bool:
    """Whether this backbone is run by others."""
    names = backbone if isinstance(backbone, list | tuple) else [backbone]
    return any(isinstance(name, str) and name.startswith(PREFIX) for name in names)


def model_of(backbone: object) -> str:
    """The name that the API knows: "gpt-4.1-mini" of "openai:gpt-4.1-mini". PlanError for several, or for none."""
    names = list(backbone) if isinstance(backbone, list | tuple) else [backbone]
    if len(names) > 1:
        raise PlanError(
            f"A hosted model is fine-tuned alone, since each one costs money. Give one --backbone {PREFIX}…."
        )
    name = str(names[0]).removeprefix(PREFIX).strip()
    if not name:
        raise PlanError(f"{PREFIX} must be followed by the model's name, such as {PREFIX}gpt-4.1-mini.")
    return name
