"""What a hosted fine-tuning costs, estimated before anything is sent: tokens × epochs × price.

Tokens are counted as in OpenAI's cookbook (Data preparation and analysis for chat model fine-tuning): what stands in a
turn and its role, three more for each turn and three for the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headstart.data.conversation import Conversation
from headstart.errors import PlanError

A_TURN, A_CONVERSATION = 3, 3  # tokens that stand around a turn and around a conversation
BYTES_A_TOKEN = 4  # of UTF-8, where there is no tokenizer: about right for English prose
DATED = "October 2025"
AIM, FEW, MANY, MOST = 3, 100, 25_000, 25  # epochs aimed at, and between how many examples they show, in the cookbook


@dataclass(frozen=True)
class Price:
    """Dollars a million tokens."""

    training: float
    input: float  # of the tuned model, which costs no less than the untouched one
    output: float
    told: str  # where it comes from, for people


def _listed(training: float, input: float, output: float) -> Price:
    return Price(training, input, output, f"the list of {DATED}, which may be out of date: see openai.com/api/pricing")


PRICES = {  # openai.com/api/pricing in DATED
    "gpt-4.1": _listed(25.0, 3.0, 12.0),
    "gpt-4.1-mini": _listed(5.0, 0.8, 3.2),
    "gpt-4.1-nano": _listed(1.5, 0.2, 0.8),
}


def family(model: str) -> str:
    """ "gpt-4.1-mini" of "gpt-4.1-mini-2025-04-14" and of "ft:gpt-4.1-mini-2025-04-14:org::id"."""
    bare = model.split(":")[1] if model.startswith("ft:") and model.count(":") else model
    return re.sub(r"-\d{4}-\d{2}-\d{2}$", "", bare)


def price_of(model: str, given: str | None) -> Price | None:
    """The price that the user gave, else the listed one; None for a model without. PlanError for nonsense."""
    if given is None:
        return PRICES.get(family(model))
    try:
        numbers = [float(one) for one in given.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(0 <= one < 1e6 for one in numbers):
        raise PlanError(
            f"The price {given!r} is not understood. Give dollars a million tokens: of training, as '5', or of "
            "training, input and output of the tuned model, as '5,0.8,3.2'."
        )
    training, asked, answered = numbers if len(numbers) == 3 else (numbers[0], 0.0, 0.0)
    return Price(training, asked, answered, "the price given" + ("" if len(numbers) == 3 else ", of training alone"))


Count = Callable[[str], int]


@dataclass(frozen=True)
class Counter:
    """How tokens are counted."""

    count: Count  # tokens of a text
    told: str  # how, for people

    def conversation(self, conversation: Conversation) -> int:
        """Tokens of a whole one, roles and what stands around them included."""
        each = (A_TURN + self.count(turn.role) + self.count(turn.text) for turn in conversation.turns)
        return sum(each) + A_CONVERSATION


def counter_of(model: str) -> Counter:
    """The model's own tokenizer where `tiktoken` is installed and has it, else a rule of thumb."""
    try:
        import tiktoken

        try:
            encoding = tiktoken.encoding_for_model(family(model))
        except KeyError:
            encoding = tiktoken.get_encoding("o200k_base")
        return Counter(lambda text: len(encoding.encode(text, disallowed_special=())), f"by tiktoken, {encoding.name}")
    except (ImportError, OSError):  # it fetches its vocabulary, which is not always to be had
        return Counter(by_length, f"by rule of thumb, {BYTES_A_TOKEN} bytes a token")


def by_length(text: str) -> int:
    """Tokens by rule of thumb, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)


def epochs_for(n: int) -> int:
    """How many epochs OpenAI's rule gives for so many conversations: three, more for few of them, fewer for many."""
    if n * AIM < FEW:
        return min(MOST, FEW // n)
    return max(1, MANY // n) if n * AIM > MANY else AIM


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is paid for, in tokens; in dollars where a price is known."""

    n_trained: int  # in all epochs
    n_asked: int  # of the test's prompts, to both models
    n_answered: int  # at most, of both
    counted: str  # how, for people
    price: Price | None

    @property
    def dollars(self) -> float | None:
        """All of it; None without a price."""
        if self.price is None:
            return None
        paid = self.n_trained * self.price.training
        return (paid + self.n_asked * self.price.input + self.n_answered * self.price.output) / 1e6

    def lines(self) -> list[str]:
        """For people."""
        tokens = (
            f"about {self.n_trained:,} tokens of training, {self.n_asked:,} of the test's prompts and at most "
            f"{self.n_answered:,} of answers to them, of the tuned and the untouched model together ({self.counted})"
        )
        if self.price is None:
            return [tokens, "the price of this model is not known here: look it up, and give it with --price"]
        return [tokens, f"about ${self.dollars:,.2f} at {self.price.told}"]


def estimate(
    counter: Counter, price: Price | None, n_trained: int, prompts: Sequence[Conversation], most_answer: int
) -> Estimate:
    """Of a training of `n_trained` tokens over all epochs, and two models asked these prompts."""
    return Estimate(
        n_trained=n_trained,
        n_asked=2 * sum(counter.conversation(one) for one in prompts),
        n_answered=2 * len(prompts) * most_answer,
        counted=counter.told,
        price=price,
    )
