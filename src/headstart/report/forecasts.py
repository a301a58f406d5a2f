"""Forecasts on test, as the template draws them: fans, all systems side by side, errors by step, series, dates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from headstart.backbones.base import Provenance
from headstart.evidence import words
from headstart.evidence.base import Evidence, Scores
from headstart.evidence.forecast_verdict import p_value
from headstart.evidence.forecasts import N_SERIES, Covered, ForecastEvidence, SeriesError, SystemForecasts
from headstart.evidence.weigh import MODEL
from headstart.report import fans
from headstart.tasks.forecasting import BANDS, Forecasting

LAST_VALUE = Forecasting.naive_title
OWN = "backbones"  # folder in the cache with networks that were pretrained on a source of the user's
WHICH = {"typical": "A typical forecast", "best": "The best one", "worst": "The worst one"}


class Cell(NamedTuple):
    """A number with what stands small beneath it."""

    value: str
    small: str = ""


class System(NamedTuple):
    """One row of the table of all systems."""

    name: str
    own: bool  # whether the run ships it
    metrics: list[Cell]
    bands: list[tuple[Cell, str]]  # coverage of each band, and how wide it is
    test: Cell


class Drawn(NamedTuple):
    """One fan and its caption."""

    title: str
    name: str
    plot: Markup


class Series(NamedTuple):
    """One series among the best or worst."""

    name: str
    model: str
    rival: str
    better: bool


def view(found: ForecastEvidence, evidence: Evidence) -> dict[str, Any]:
    """What the template needs to know."""
    adapted = found.systems[0].name
    names = ordered(found, evidence)
    by_name = {one.name: one for one in found.systems}
    return {
        "n_windows": found.n_windows,
        "spread": spread(found),
        "rival": found.rival,
        "adapted": "this model" if adapted == MODEL else adapted,
        "ships_rival": adapted != MODEL,
        "dates": dates(found),
        "metric_titles": [evidence.titles[name] for name in evidence.titles],
        "metric_title": evidence.titles[found.metric],
        "bands": list(BANDS),
        "systems": [system_row(by_name[name], evidence) for name in names],
        "fans": [Drawn(WHICH[one.which], one.name, fans.fan(one)) for one in found.fans],
        "key": fans.key(found.rival, adapted == MODEL),
        "steps": steps(found),
        "best": [_series(one) for one in found.best] if found.n_series > N_SERIES else [],
        "worst": [_series(one) for one in found.worst] if found.n_series > 1 else [],
        "n_series": found.n_series,
        "fallbacks": [
            f"{who}: {words.count(n)} series, {why}" for who, whys in found.fallbacks.items() for why, n in whys.items()
        ],
    }


def network_name(provenance: Provenance) -> str:
    """The backbone's name; of one that was pretrained for this run, that it was: its folder's name says nothing."""
    return "one pretrained on the run's own source" if Path(provenance.name).parent.name == OWN else provenance.name


def ordered(found: ForecastEvidence, evidence: Evidence) -> list[str]:
    """Names of the systems: the model, then the others, the best first."""
    value = {one.name: scores_of(evidence, one.name)[found.metric].value for one in found.systems}
    sign = 1 if evidence.better[found.metric] == "lower" else -1
    rest = sorted((name for name in value if name != MODEL), key=lambda name: sign * value[name])
    return [MODEL, *rest]


def scores_of(evidence: Evidence, name: str) -> Scores:
    """A system's metrics."""
    return evidence.metrics if name == MODEL else evidence.baselines[name]


def spread(found: ForecastEvidence) -> str:
    """'2 series at 159 origins, about 15 independent blocks of origins'."""
    series = f"{words.count(found.n_series)} series" if found.n_series > 1 else "one series"
    origins = f"{words.count(found.n_origins)} origin{'s' * (found.n_origins != 1)}"
    return f"{series} at {origins}; about {words.count(found.n_units)} independent {found.unit}"


def dates(found: ForecastEvidence) -> str:
    """One sentence on where in time the parts begin."""
    at = {name: fans.day(text) for name, text in found.splits.items()}
    if not {"learnt from", "chosen on", "tested on", "until"} <= at.keys():
        return ""
    return (
        f"Learnt from {at['learnt from']} on, chosen on what came from {at['chosen on']} on, tested from "
        f"{at['tested on']} until {at['until']}."
    )


def system_row(one: SystemForecasts, evidence: Evidence) -> System:
    """One system, whatever it is."""
    scores = scores_of(evidence, one.name)
    test = one.test
    statistic = (
        "" if test is None or not math.isfinite(test.statistic) else words.number(test.statistic, 2, signed=True)
    )
    return System(
        name="this model" if one.name == MODEL else one.name,
        own=one.name == MODEL,
        metrics=[_cell(scores, name) for name in evidence.titles],
        bands=[_band(one.bands[name]) for name in BANDS],
        test=Cell("–") if test is None else Cell(statistic or "–", p_value(test.p)),
    )


def steps(found: ForecastEvidence) -> Markup | str:
    """Error by step ahead of the model, of its rival and of the last value; "" for a single step."""
    adapted = found.systems[0].name
    rival = MODEL if adapted != MODEL else found.rival
    titles = {MODEL: "this model", rival: found.rival} if adapted == MODEL else {adapted: "network", MODEL: found.rival}
    shown = {titles.get(name, name): found.steps[name] for name in (adapted, rival, LAST_VALUE) if name in found.steps}
    return fans.by_step(shown) if len(found.steps[adapted]) > 1 else ""


def _cell(scores: Scores, name: str) -> Cell:
    if name not in scores:
        return Cell("–")
    return Cell(words.value(scores[name]), words.interval(scores[name]))


def _band(one: Covered) -> tuple[Cell, str]:
    if one.share is None:
        return Cell("–"), ""
    low, high = (words.share(end) for end in (one.share.low, one.share.high))
    width = "" if one.width is None else f"{words.number(one.width, 2)} × as wide"
    return Cell(words.share(one.share.value), f"{low} to {high}" if math.isfinite(one.share.low) else ""), width


def _series(one: SeriesError) -> Series:
    digits = words.decimals(one.model, one.rival)
    return Series(one.name, words.number(one.model, digits), words.number(one.rival, digits), one.model < one.rival)
