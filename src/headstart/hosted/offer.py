"""What the owner of the data sees before anything is sent: what leaves, what is personal in it, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.data import personal
from headstart.data.conversation import Conversation
from headstart.hosted.cost import Estimate
from headstart.hosted.job import Order
from headstart.hosted.service import address


@dataclass(frozen=True, kw_only=True)
class Talks:
    """The conversations of each split."""

    train: Sequence[Conversation]
    val: Sequence[Conversation]
    test: Sequence[Conversation]

    @property
    def prompts(self) -> list[Conversation]:
        """What both models are asked in the test: never the answer, or what comes after it."""
        return [one.before(one.asked) for one in self.test]


def offer(order: Order, talks: Talks, estimate: Estimate) -> list[str]:
    """Lines for people."""
    sending = order.sending
    validation = f" and {sending.n_val:,} of validation" if sending.n_val else ""
    return [
        f"{order.model} is to be fine-tuned at {address()}, and this leaves the machine:",
        f"- {sending.n_train:,} conversations of train{validation}, as files that stay at the service; the tuned "
        f"model's name ends in {order.suffix!r}",
        f"- {len(talks.test):,} prompts of the test, without the answers to them, asked of the tuned and of the "
        "untouched model",
        f"- {personal_data([*talks.train, *talks.val, *talks.prompts])}",
        *(f"- {note}" for note in sending.notes),
        f"It learns for {order.n_epochs} epoch{'s' * (order.n_epochs != 1)}, and this is to be paid for:",
        *(f"- {line}" for line in estimate.lines()),
    ]


def personal_data(conversations: Sequence[Conversation]) -> str:
    """How much of it the patterns find in what is sent."""
    found = Counter(span.kind for one in conversations for turn in one.turns for span in personal.find(turn.text))
    if not found:
        return "no personal data that a pattern finds (which is no proof that there is none)"
    counts = ", ".join(f"{n:,} {personal.NOUNS[kind][n != 1]}" for kind, n in found.most_common())
    return f"personal data: {counts}; --redact masks them"
