"""Pretrain a WaveNet on a panel, to be carried over to other series: `headstart pretrain SOURCE --task forecasting`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from headstart import __version__, places
from headstart.backbones import catalog
from headstart.backbones.base import Provenance
from headstart.backbones.quantile_head import Outlooks
from headstart.backbones.wavenet import Layout, WaveNet, files_of
from headstart.data.outlook import FEWEST_OBSERVED, Outlook, season_before, windows_at
from headstart.data.panel import Panel
from headstart.deploy import artifact
from headstart.engine.forecaster import Forecaster, OnStates
from headstart.engine.heads import train_head
from headstart.engine.histories import Histories, anchor_for, pieces_of, stretch_of
from headstart.engine.trials import Trials, histories_key
from headstart.errors import DataError
from headstart.evidence import words
from headstart.evidence.base import Score
from headstart.evidence.blocks import BlockScales, layout
from headstart.evidence.intervals import compare
from headstart.evidence.record import library_versions
from headstart.forecast_workshop import epochs_of, fresh_head, from_scratch
from headstart.progress import Progress
from headstart.registry import modality
from headstart.strategies.scratch import Scratch
from headstart.tasks.forecasting import LEVELS, Forecasting

FEWEST_STEPS, MOST_STEPS = 100, 400
STEPS_A_PIECE = 2
HELD = 0.1  # share of the steps that the loss is measured on, at least a horizon
MOST_HELD = 2_000  # windows that are measured


@dataclass(frozen=True, kw_only=True)
class PretrainedOnPanel:
    """What was learnt from a panel, and how it forecasts the last part, which it was kept from."""

    data: str
    ids: tuple[str, ...]
    as_: str
    horizon: int
    season: int
    frequency: str
    first: str  # the first step that was learnt from
    until: str  # the last one
    n_values: int
    n_parameters: int
    steps: int
    seed: int
    mase: Score  # on the last part
    naive: Score  # of the seasonal naive forecast there
    difference: Score  # paired
    n_held: int
    seconds: float
    created: str
    versions: dict[str, str]

    @property
    def verdict(self) -> str:
        """One sentence."""
        gain = Score(-self.difference.value, -self.difference.high, -self.difference.low)
        if gain.low > 0:
            head = "It forecasts what follows better than the seasonal naive forecast"
        elif gain.high < 0:
            head = "It forecasts what follows worse than the seasonal naive forecast"
        else:
            head = "It cannot be told from the seasonal naive forecast on what follows"
        return f"{head}: MASE {words.score(self.mase)}, gain {words.score(gain)}, {self.n_held:,} forecasts held out."

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "verdict": self.verdict}


def pretrain(
    panel: Panel,
    horizon: int,
    *,
    out: Path,
    steps: int | None = None,
    held: float = HELD,
    seed: int = 0,
    progress: Progress | None = None,
) -> PretrainedOnPanel:
    """Learn to forecast the panel `horizon` steps ahead, and write a backbone to the new folder `out`.

    `steps` of training: default by how much there is to learn from. The last tenth of the panel's is kept out, and
    measured on. DataError when there is too little to learn from.
    """
    progress = progress or Progress()
    artifact.check_writable(out)
    outlook = parted(panel, horizon, held)
    lesson, strategy = make_lesson(outlook, steps, seed)
    key = histories_key(strategy, lesson)
    trials = Trials(places.trials())
    with progress.step("pretraining"):
        n_values = int(np.isfinite(panel.values[:, : outlook.val_from]).sum())
        n_steps = strategy.epochs * -(-len(lesson.train) // strategy.batch_size)
        progress.say(f"  {len(panel)} series, {n_values:,} values: {n_steps} steps of {strategy.batch_size} pieces")
        trainee = trials.trainee(key)
        if trainee is None:
            started = replace(lesson, checkpoint=trials.checkpoint(key))
            trainee = train_head(strategy, started, lambda upper: OnStates(upper, lesson.outlooks))
            trials.put_trainee(key, trainee)
    assert trainee.changes is not None, "everything was trained"
    network = lesson.backbone.adapted(trainee.changes)
    assert isinstance(network, WaveNet), "as it was made"
    forecaster = Forecaster(outlooks=lesson.outlooks, head=trainee.head, changes=trainee.changes)
    with progress.step("evaluate"):
        scores = measure(outlook, forecaster, network, seed, progress)
    told = PretrainedOnPanel(
        data=panel.source,
        ids=panel.ids,
        as_=panel.as_,
        horizon=horizon,
        season=panel.season,
        frequency=panel.frequency,
        first=str(panel.times[0]),
        until=str(panel.times[outlook.val_from - 1]),
        n_values=n_values,
        n_parameters=lesson.backbone.provenance.n_parameters,
        steps=n_steps,
        seed=seed,
        **scores,
        seconds=round(trainee.seconds, 1),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )
    artifact.write_run(out, folder_files(network, trainee.head, lesson.outlooks, told))
    trials.forget()
    return told


def parted(panel: Panel, horizon: int, held: float = HELD) -> Outlook:
    """What teaches and what is held out; DataError where that leaves too little."""
    n = panel.n_steps
    val_from = n - max(horizon, round(held * n))
    if val_from < FEWEST_OBSERVED + 2 * horizon:
        raise DataError(
            f"{panel.source} has {n:,} steps, too few to learn forecasts of {horizon} steps from. "
            f"Give at least {FEWEST_OBSERVED + 4 * horizon:,}, or a shorter --horizon."
        )
    return Outlook(panel=panel, horizon=horizon, val_from=val_from, test_from=n).checked(("train", "val"))


def make_lesson(outlook: Outlook, steps: int | None, seed: int) -> tuple[Histories, Scratch]:
    """(what is learnt from, how)."""
    panel = outlook.panel
    torch.manual_seed(seed)
    network = WaveNet.blank(Layout.of_season(panel.season), _nowhere())
    network.provenance = replace(
        network.provenance, n_parameters=sum(one.numel() for one in network.network.parameters())
    )
    origins = np.arange(FEWEST_OBSERVED - 1, outlook.val_from - 1)  # the end of an outcome may be missing
    pieces = pieces_of(windows_at(panel.until(outlook.val_from), origins, outlook.horizon), network)[0]
    items = [stretch_of(panel, piece) for piece in pieces]
    outlooks = Outlooks(
        stage=network.n_stages - 1,
        width=network.network.layout.width,
        horizon=outlook.horizon,
        season=panel.season,
        by_step=True,
        anchor=anchor_for(panel, outlook.val_from, outlook.horizon),
    )
    lesson = Histories(
        backbone=network,
        modality=modality("series"),
        panel=panel,
        outlooks=outlooks,
        items=items,
        digests=[str(number) for number in range(len(items))],
        pieces=pieces,
        train=np.arange(len(items)),
        end=outlook.val_from,
        seed=seed,
    )
    lesson = replace(lesson, head=fresh_head(lesson))
    wanted = int(np.clip(STEPS_A_PIECE * len(items), FEWEST_STEPS, MOST_STEPS)) if steps is None else steps
    return lesson, Scratch(**from_scratch(panel.season), epochs=epochs_of(wanted, len(items)))


def measure(
    outlook: Outlook, forecaster: Forecaster, network: WaveNet, seed: int, progress: Progress
) -> dict[str, Any]:
    """MASE on what was held out, beside the seasonal naive forecast's."""
    windows = outlook.windows("val")
    if len(windows) > MOST_HELD:
        origins = np.unique(windows.origins)
        kept = origins[:: -(-len(windows) // MOST_HELD)]
        windows = windows.select(np.flatnonzero(np.isin(windows.origins, kept)))
    task = Forecasting(horizon=outlook.horizon, season=outlook.panel.season)
    y, metric = outlook.truth(windows), task.metrics()[0]
    systems = {
        "network": forecaster.forecasts(network, outlook.panel, windows, outlook.horizon, progress.bar),
        "naive": np.repeat(season_before(outlook.panel, windows, outlook.horizon)[..., None], len(LEVELS), -1),
    }
    scales = BlockScales(metrics=(metric,), seed=seed, layout=layout(windows.series, windows.origins, outlook.horizon))
    scores, differences = compare([metric], y, systems, "network", scales.resamples(len(y)), scales.n_groups)
    name = metric.name
    return {
        "mase": scores["network"][name],
        "naive": scores["naive"][name],
        "difference": differences["naive"][name],
        "n_held": len(y),
    }


def folder_files(network: WaveNet, head: Any, outlooks: Outlooks, told: PretrainedOnPanel) -> dict[str, bytes]:
    """The new folder."""
    made = files_of(network, head, outlooks)
    return {
        "config.json": artifact.to_bytes(made["config"]),
        "model.safetensors": save(made["tensors"], {"format": "pt"}),
        catalog.PANEL: artifact.to_bytes(told.to_json()),
        "README.md": card(told).encode(),
    }


def card(told: PretrainedOnPanel) -> str:
    """README.md."""
    return "\n".join(
        [
            "---",
            "library_name: headstart",
            "tags:",
            "- headstart",
            "- time-series-forecasting",
            "---",
            "",
            f"# WaveNet pretrained on {told.data}",
            "",
            told.verdict,
            "",
            f"- Series: {len(told.ids)}, {told.n_values:,} values as {told.as_}, {told.first} to {told.until}",
            f"- Horizon {told.horizon}, season {told.season}, {told.n_parameters:,} parameters, {told.steps} steps, "
            f"{words.seconds(told.seconds)}",
            "",
            "Use it as a backbone: `headstart fit TARGET.csv --horizon N --backbone THIS-FOLDER`.",
            "",
        ]
    )


def key_of(panel: Panel, horizon: int, seed: int) -> str:
    """sha256 (hex) of all that decides what is learnt."""
    decides = [list(panel.ids), panel.as_, panel.season, horizon, seed, __version__, torch.__version__]
    sha = hashlib.sha256(json.dumps(decides).encode())
    sha.update(np.ascontiguousarray(panel.values).tobytes())
    return sha.hexdigest()[:32]


def _nowhere() -> Provenance:
    return Provenance(name="wavenet", source="pretrained here", licence="the data's", sha256="", n_parameters=0)
