"""Whether fine-tuning a language model paid, in a sentence or two that claim no more than the intervals say."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.data.audit_splits import FEW_GROUPS
from headstart.evidence import words
from headstart.evidence.base import Score, Scores
from headstart.evidence.forgetting import Forgetting
from headstart.evidence.parroting import Parroting
from headstart.evidence.retrieval import MINILM, TFIDF
from headstart.evidence.weigh import MODEL, Claim
from headstart.tasks.base import Metric
from headstart.tasks.chat import Chat

UNTOUCHED, COMMONEST = "as it was pretrained", Chat.naive_title
PERPLEXITY, F1 = "perplexity", "token_f1"
OPENINGS = {
    True: "Fine-tuning paid",
    False: "Fine-tuning did not pay here",
    None: "It cannot be told whether fine-tuning paid",
}


@dataclass(frozen=True)
class Compared:
    """The fine-tuned model beside the untouched one and the better search; gains are paired, more is better."""

    perplexity: Score
    gain: Score  # in perplexity, over the untouched model
    f1: Score | None = None  # of the answers; None where none was asked for
    rival: str = ""  # the search with the highest F1
    over_rival: Score | None = None  # F1 minus the rival's

    @classmethod
    def of(cls, scores: dict[str, Scores], differences: dict[str, Scores]) -> Compared:
        """Of what `weigh_systems` found. The better of two searches is known afterwards only, to its own advantage."""
        rivals = [name for name in (TFIDF, MINILM) if F1 in differences.get(name, {})]
        rival = max(rivals, key=lambda name: scores[name][F1].value, default="")
        return cls(
            perplexity=scores[MODEL][PERPLEXITY],
            gain=turned(differences[UNTOUCHED][PERPLEXITY]),
            f1=scores[MODEL].get(F1),
            rival=rival,
            over_rival=differences[rival][F1] if rival else None,
        )


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What else the verdict must know."""

    n: int  # conversations of test
    n_groups: int | None = None
    parroting: Parroting | None = None
    forgetting: Forgetting | None = None

    @property
    def few(self) -> bool:
        """Whether there are too few groups for an interval to be trusted."""
        return self.n_groups is not None and self.n_groups < FEW_GROUPS


def chat_claim(beside: Beside) -> Claim:
    """What `weigh_systems` calls; it speaks of perplexity and F1, whichever metric is the primary one."""

    def claim(primary: Metric, scores: dict[str, Scores], differences: dict[str, Scores]) -> tuple[str, bool | None]:
        return chat_verdict(Compared.of(scores, differences), beside)

    return claim


def chat_verdict(found: Compared, beside: Beside) -> tuple[str, bool | None]:
    """(sentences, paid).

    True only if perplexity fell beyond the interval, the answers are not parroted, and no search among the training
    answers is better in F1 beyond the interval; False if perplexity rose or a search is better; else None.
    """
    paid = _paid(found, beside)
    few = ""
    if beside.few:
        few = f", on {beside.n_groups} group{'s' * (beside.n_groups != 1)} only, too few for an interval to be trusted"
    said = f"perplexity of {words.count(beside.n)} held-out conversations {_perplexity(found)}{few}{_answers(found)}"
    return " ".join(filter(None, (f"{OPENINGS[paid]}: {said}.", _parrots(beside), _forgot(beside)))), paid


def _paid(found: Compared, beside: Beside) -> bool | None:
    if beside.few:
        return None
    if found.gain.high < 0 or (found.over_rival is not None and found.over_rival.high < 0):
        return False
    parrots = beside.parroting is not None and beside.parroting.parrots
    return True if found.gain.low > 0 and found.over_rival is not None and not parrots else None


def _perplexity(found: Compared) -> str:
    gain = found.gain
    if gain.low > 0:
        return f"{words.value(found.perplexity)}, less than untouched by {words.score(gain)}"
    if gain.low == gain.high == 0:
        return f"{words.value(found.perplexity)}, by the untouched model itself, as nothing learnt was better on val"
    if gain.high < 0:
        return f"{words.value(found.perplexity)}, more than untouched by {words.score(turned(gain))}"
    return f"{words.value(found.perplexity)}, no clear difference to untouched, {words.score(gain)}"


def _answers(found: Compared) -> str:
    if found.f1 is None:
        return "; no answers were asked for"
    own, over = f"; token F1 of its answers {words.value(found.f1)}", found.over_rival
    if over is None:
        return own
    if over.low > 0:
        return f"{own}, better than {_the(found.rival)} by {words.score(over)}"
    if over.high < 0:
        own = own if found.gain.low <= 0 else own.replace("; ", "; but ", 1)
        return f"{own}, worse than {_the(found.rival)} by {words.score(turned(over))}"
    return f"{own}, no clear difference to {_the(found.rival)}, {words.score(over)}"


def _the(rival: str) -> str:
    """'the nearest question's answer by TF-IDF'."""
    return "the " + rival.replace("question", "question's answer")


def _parrots(beside: Beside) -> str:
    found = beside.parroting
    if found is None or not found.parrots:
        return ""
    own, true = words.share(found.own.grams.value), words.share(found.true.grams.value)
    return f"It parrots: {own} of its eight-word sequences stand in training answers, against {true} of the true ones'."


def _forgot(beside: Beside) -> str:
    found = beside.forgetting
    if found is None or not found.forgot:
        return ""
    return f"It forgot: perplexity of general text rose by {rise(found.ratio)}."


def rise(ratio: Score) -> str:
    """'12 % (8 to 16 %)', of how many times more."""
    change = Score(*(100 * (part - 1) for part in (ratio.value, ratio.low, ratio.high)))
    digits = 1 if max(abs(change.low), abs(change.high)) < 10 else 0
    value, low, high = (words.number(part, digits) for part in (change.value, change.low, change.high))
    return f"{value}\u00a0% ({low} to {high}\u00a0%)"


def turned(score: Score) -> Score:
    """By how much less, of by how much more."""
    return Score(-score.value, -score.high, -score.low)
