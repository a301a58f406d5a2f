"""What a transductive fit found: the gap, the ways across it, the choice that saw no target label, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headstart.evidence import words
from headstart.evidence.base import Score

SOURCE_ONLY = "source only"


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way from the source to the target, and what was known of it without a target label."""

    title: str  # for people: "CORAL on layer 5"
    strategy: str  # the plug-in: "coral", "dann"; "probe" for source only
    settings: dict[str, Any]
    cut: int  # index of the first trained stage
    source_score: Score  # of the run's metric on the source's validation examples
    gains: dict[str, Score]  # label-free scorer -> gain over source only, paired; empty for source only itself
    votes: tuple[str, ...]  # scorers that find it better than source only
    estimate: Score  # accuracy on the target as estimated, not measured
    measured: Score | None  # of the run's metric on the labelled target, looked at after the choice
    cost_passes: float
    seconds: float
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """All that is known of the way from a source to a target. JSON through `to_json` / `from_json`."""

    source: str
    target: str
    n_target: int
    n_labelled: int  # target examples whose labels measured, at the end; 0 where none were given
    metric_title: str  # of `source_score` and `measured`
    gap: Score  # proxy A-distance of the raw features, 0 (alike) to 2 (apart)
    gap_after: Score | None  # of what the chosen head reads; None where source only was chosen
    scorers: dict[str, str]  # label-free scorer -> title for people
    ways: tuple[Way, ...]  # source only first
    trusted: bool  # enough scorers agree that the chosen way is better than source only
    asked_for: bool  # the user named the way
    reason: str  # one sentence

    @property
    def chosen(self) -> Way:
        """The way that ships."""
        return next(way for way in self.ways if way.chosen)

    @property
    def source_only(self) -> Way:
        """The way that changes nothing."""
        return self.ways[0]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Adaptation:
        """The inverse of `to_json`."""
        own = dict(saved)
        for name in ("gap", "gap_after"):
            own[name] = _score(own[name])
        own["ways"] = tuple(_way(way) for way in own["ways"])
        return cls(**own)


def _score(saved: Mapping[str, float] | None) -> Score | None:
    return None if saved is None else Score(**saved)


def _way(saved: Mapping[str, Any]) -> Way:
    own = dict(saved)
    for name in ("source_score", "estimate", "measured"):
        own[name] = _score(own[name])
    gains = {name: Score(**gain) for name, gain in own["gains"].items()}
    return Way(**{**own, "gains": gains, "votes": tuple(own["votes"])})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The shipped model on the labelled target."""

    title: str  # of the metric
    score: Score
    gain: Score | None  # over source only, paired, turned so that more is better; None where source only ships
    n: int


def verdict(found: Adaptation, measured: Measured | None) -> tuple[str, bool | None]:
    """(what may be claimed, in a few sentences; whether adapting paid, None where that cannot be told)."""
    chosen = found.chosen
    if measured is None:
        unmeasured = (
            f"Nothing was measured in the target {found.target!r}, which has no labels here; the accuracy there is "
            f"estimated, which may be far off, as {words.score(chosen.estimate)}."
        )
        return f"{_choice(found)} {unmeasured}", None
    said = f"{measured.title} {words.score(measured.score)} on {measured.n:,} labelled target examples"
    if measured.gain is None:
        return f"{_choice(found)} Source only has {said}.", None
    gain = measured.gain
    if gain.low > 0:
        return f"Adapting paid: {chosen.title} has {said}, better than source only by {words.score(gain)}.", True
    if gain.high < 0:
        loss = Score(-gain.value, -gain.high, -gain.low)
        advice = f" Take source only: --strategy {found.source_only.strategy}."
        return (
            f"Adapting did not pay: {chosen.title} has {said}, worse than source only by {words.score(loss)}.{advice}",
            False,
        )
    return (
        f"It cannot be told whether adapting paid: {chosen.title} has {said}; the difference to source only is "
        f"{words.score(gain)}, which includes zero.",
        None,
    )


def _choice(found: Adaptation) -> str:
    """What was chosen and whether that is to be trusted, in a sentence."""
    title = found.chosen.title
    if found.asked_for:
        doubt = "" if found.trusted else ", though the label-free scores do not agree that it is better"
        return f"{title[:1].upper()}{title[1:]} was asked for{doubt}."
    if found.chosen is found.source_only:
        return "Adapting is not trusted here: the label-free scores do not agree on a better way than source only."
    return f"{title[:1].upper()}{title[1:]} was chosen without target labels, against source only."
