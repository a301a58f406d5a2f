"""Whether fine-tuning a hosted model paid: by its answers, since the API does not say how likely given ones are."""

from __future__ import annotations

from headstart.evidence import words
from headstart.evidence.base import Score, Scores
from headstart.evidence.chat_verdict import UNTOUCHED
from headstart.evidence.parroting import Parroting
from headstart.evidence.retrieval import MINILM, TFIDF
from headstart.evidence.verdict import Measured, gain_of, verdict
from headstart.evidence.weigh import MODEL, Claim
from headstart.tasks.base import Metric

ADVICE = "Give more conversations, or leave the model as it is."
RIVALS = {
    UNTOUCHED: "the untouched model",
    TFIDF: "the nearest question's answer by TF-IDF",
    MINILM: "the nearest question's answer by MiniLM",
}


def hosted_claim(n: int, n_groups: int | None, parroting: Parroting | None) -> Claim:
    """It has paid where it beats the untouched model and every search among the training answers, and does not parrot.

    The one that it beats least is spoken of. `n` conversations were asked, of `n_groups` groups.
    """

    def claim(primary: Metric, scores: dict[str, Scores], differences: dict[str, Scores]) -> tuple[str, bool | None]:
        def gain(rival: str) -> Score:
            return gain_of(primary, differences[rival][primary.name])

        rival = min((name for name in RIVALS if name in differences), key=lambda name: gain(name).low)
        difference = differences[rival][primary.name]
        measured = Measured(primary, scores[MODEL][primary.name], difference, RIVALS[rival], advice=ADVICE)
        sentence, paid = verdict(measured, n, n_groups)
        if parroting is None or not parroting.parrots:
            return sentence, paid
        own, true = words.share(parroting.own.grams.value), words.share(parroting.true.grams.value)
        parrots = f"{own} of its eight-word sequences stand in training answers, against {true} of the true ones'."
        if not paid:
            return f"{sentence} It parrots: {parrots}", paid
        return f"It cannot be told whether transfer paid, since it parrots: {parrots} Else: {sentence}", None

    return claim
