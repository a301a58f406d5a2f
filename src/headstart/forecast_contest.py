"""What every system forecasts: the adapted network, the same from scratch, the classical ones; and which one ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headstart import adapt, places
from headstart.adapt import Chosen
from headstart.data.audit_splits import FEW_GROUPS
from headstart.data.outlook import Outlook, Windows
from headstart.evidence.bands import Bands, Seen
from headstart.evidence.forecast_verdict import Contest
from headstart.evidence.weigh import MODEL, SCRATCH
from headstart.forecast_workshop import ForecastWorkshop
from headstart.forecasters import run
from headstart.head_workshop import SolvedHead
from headstart.panels import scales_of
from headstart.tasks.base import Metric
from headstart.tasks.forecasting import outcomes
from headstart.wishes import Wishes

BACKBONES = "backbones"  # folder in the cache: networks that were pretrained on a source of the user's


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """What every system says of the windows of one split, (N, H, Q) each."""

    windows: Windows
    y: np.ndarray  # (N, H + 2)
    network: np.ndarray
    classical: dict[str, np.ndarray]  # by title
    scratch: np.ndarray | None

    @property
    def systems(self) -> dict[str, np.ndarray]:
        """All by name, the network's under ""."""
        own = {"": self.network, **self.classical}
        return own if self.scratch is None else own | {SCRATCH: self.scratch}

    def with_systems(self, systems: dict[str, np.ndarray]) -> Forecasts:
        """The same windows with other forecasts of the same systems."""
        rest = {name: one for name, one in systems.items() if name not in ("", SCRATCH)}
        return replace(self, network=systems[""], classical=rest, scratch=systems.get(SCRATCH))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search found, and what stands beside it."""

    shop: ForecastWorkshop
    chosen: Chosen
    scratch: SolvedHead | None
    val: Forecasts
    test: Forecasts  # bands corrected
    bands: dict[str, Bands]  # by system
    best: str  # title of the classical forecaster that is best on validation
    ships_classical: bool
    fallbacks: dict[str, dict[str, int]]

    @property
    def shipped(self) -> str:
        """The system that the run ships."""
        return self.best if self.ships_classical else ""


def beside(shop: ForecastWorkshop, chosen: Chosen, scratch: SolvedHead | None, wishes: Wishes) -> Found:
    """The classical forecasters, and which system ships; then what all say of the test: asked once."""
    outlook, progress = shop.posed.outlook, shop.progress
    names = run.names_for(outlook.panel.season, returns=shop.posed.task.returns)
    val_windows, test_windows = shop.posed.val, outlook.windows("test")
    with progress.step("classical forecasters"), progress.bar(2 * len(names) * len(outlook.panel), "fits") as tick:
        in_val = classical(outlook, val_windows, outlook.val_from, names, tick)
        in_test = classical(outlook, test_windows, outlook.test_from, names, tick)

    def all_of(windows: Windows, network: np.ndarray, rivals: run.Classical) -> Forecasts:
        proper = {title: shop.posed.task.proper(one) for title, one in rivals.forecasts.items()}
        own = None if scratch is None else shop.scores_of(scratch.trained, windows)
        return Forecasts(windows=windows, y=outlook.truth(windows), network=network, classical=proper, scratch=own)

    val = all_of(val_windows, chosen.val_scores, in_val)
    values = {title: shop.judge.score(one).value for title, one in val.classical.items()}
    best = max(values, key=lambda title: shop.judge.gain(values[title]))
    for title, value in values.items():
        progress.say(f"  {title}: {shop.metric.title} {value:.3f} on validation{', the best' * (title == best)}")
    if wishes.overruled and shop.judge.gain_over(val.classical[best], val.network)[0] > 0:
        progress.say(f"  {best} is better on validation, but the network ships, since a way to learn was named")
    ships = (
        wishes.plan.ships == "classical" if wishes.plan is not None else classical_is_better(shop, val, best, wishes)
    )
    raw = all_of(test_windows, shop.scores_of(chosen.solved.trained, test_windows), in_test)
    bands = {name: Bands.fit(seen(val, one)) for name, one in val.systems.items()}
    at_test = raw.windows.series, raw.windows.origins
    corrected = {name: bands[name].corrected(one, *at_test, seen(raw, one)) for name, one in raw.systems.items()}
    return Found(
        shop=shop,
        chosen=chosen,
        scratch=scratch,
        val=val,
        test=raw.with_systems(corrected),
        bands=bands,
        best=best,
        ships_classical=bool(ships),
        fallbacks=in_test.fallbacks,
    )


def classical_is_better(shop: ForecastWorkshop, val: Forecasts, best: str, wishes: Wishes) -> bool:
    """Whether the run ships the classical forecaster: it is better on validation, and nothing else was asked for.

    So few blocks of origins, or series, as no interval is trusted of must show it beyond what they differ by chance.
    """
    gain, error = shop.judge.gain_over(val.classical[best], val.network)
    few = shop.n_units is not None and shop.n_units < FEW_GROUPS
    return not wishes.overruled and gain > (1.96 * error if few else 0)


def classical(outlook: Outlook, windows: Windows, until: int, names: Sequence[str], tick: Any) -> run.Classical:
    """What the classical forecasters say of windows, fitted to what came before step `until`."""
    asked = run.Windows(
        values=outlook.panel.values,
        series=windows.series,
        origins=windows.origins,
        horizon=outlook.horizon,
        season=outlook.panel.season,
        until=until,
    )
    return run.run_all(asked, names, tick)


def seen(split: Forecasts, forecasts: np.ndarray) -> Seen:
    """One system's forecasts of a split, and what came of them."""
    return Seen(
        forecasts=forecasts,
        outcomes=outcomes(split.y),
        series=split.windows.series,
        origins=split.windows.origins,
    )


def contest_of(found: Found, metrics: tuple[Metric, ...], asked_for: str | None) -> Contest:
    """All systems on the test; the one that ships is the model."""
    shop, test = found.shop, found.test
    adapted = title_of(found) if found.ships_classical else MODEL
    systems = dict(test.classical)
    if found.ships_classical:
        systems = {MODEL: systems.pop(found.best), adapted: test.network, **systems}
    else:
        systems = {MODEL: test.network, **systems}
    systems |= {SCRATCH: test.scratch} if test.scratch is not None else {}
    return Contest(
        task=shop.posed.task,
        scales=scales_of(shop.posed.outlook, test.windows, metrics, asked_for, shop.seed),
        y=test.y,
        systems=systems,
        rival=found.best,
        adapted=adapted,
        scratch_epochs=None if found.scratch is None else found.scratch.strategy.settings()["epochs"],
    )


def title_of(found: Found) -> str:
    """The adapted network, for people, where it is not what ships."""
    shop = found.shop
    names = [stage.name for stage in shop.backbone.stages]
    return f"{short_name(shop)}, {adapt.title_of(found.chosen.solved.strategy, names)}"


def short_name(shop: ForecastWorkshop) -> str:
    """The backbone's name; of a network that was pretrained on a source, that it was."""
    name = str(shop.backbone.provenance.name)
    return "the pretrained network" if f"{places.home() / BACKBONES}" in name else name
