"""The one call that adapts a model: find out which kind of transfer the data ask for, and do it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart import chat, detection, forecasting, hosted_chat, inductive, traditional, transcription, transductive
from headstart.data.columns import ROWS
from headstart.data.layouts import PanelReading
from headstart.data.panel import Panel
from headstart.deploy import artifact
from headstart.deploy.model import Model
from headstart.domains import read_target
from headstart.errors import PlanError
from headstart.evidence.plan import Plan
from headstart.hosted.wishes import HostedWishes, is_hosted
from headstart.panels import Asked
from headstart.problem import labelled, pair
from headstart.progress import Progress
from headstart.wishes import Wishes

HEADS_OF_THEIR_OWN: dict[str, Any] = {
    "detection": detection,
    "transcription": transcription,
    "chat": chat,
}  # task: its flow


def fit(
    data: Any,
    *,
    to: Any = None,
    target_labels: str | None = None,
    source: Any = None,
    horizon: int | None = None,
    test_steps: int | None = None,
    reading: PanelReading | None = None,
    backbone: str | Sequence[str] | None = None,
    strategy: str | None = None,
    freeze: int | None = None,
    budget: str | float | None = None,
    plan: str | Path | Plan | None = None,
    learning_rate: float | str | None = None,
    class_weight: str | None = None,
    scratch: bool = True,
    metric: str | None = None,
    hosted: HostedWishes | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Model:
    """Adapt a pretrained backbone to `data`, and measure what the transfer was worth.

    `data` is a Dataset, or anything that `read` takes. Everything that is not said is measured on validation:
    `backbone` is a catalog name, a hub id or a folder, or several to choose from (default: the modality's own);
    `strategy` "probe", "partial", "full" or "lora" ("auto": measured, but the classical model never ships); `freeze`
    how many stages, counted from the input, are frozen; `budget` how long the search may take ("2m", or seconds;
    default: a few frozen passes); `plan` the plan of an earlier run (a Plan, its file or the run's folder), which is
    done again exactly; `learning_rate` that of the last stage, or "find"; `class_weight` "balanced" or "none" (default:
    balanced where the metric counts classes alike); `scratch` whether the same network is trained from random weights
    for comparison; `metric` the one that models are chosen by and that the verdict speaks of. With `out` a run folder
    is written there: complete or not at all.
    `to` names an unlabelled target, of the same task in another domain: the source `data` teach, the target is adapted
    to, and labels in its column `target_labels` ("auto": those that are found) measure at the end and do nothing else.
    `strategy` may then name an alignment too ("coral", "dann" …); the default is chosen without target labels.

    A plain table is learnt row by row, and `source` is another table with the same label to carry over from: a Dataset,
    or anything that `read` takes. The target may then have few labels, or none; `strategy` names one way of
    `headstart.tables` (default: several, weighed by cross-validation on the target's labels).

    Conversations teach a language model to answer. With `backbone` "openai:MODEL" they are sent to OpenAI's fine-tuning
    API, as `hosted` says, and cost money there.

    With `horizon`, `data` are series (a Panel, or anything that `read_panel` takes, as `reading` says), and so many
    steps ahead are forecast; `source` is then a panel to pretrain on first, and `test_steps` how many of the latest
    steps are the test.
    HeadstartError says what to do when something does not fit.
    """
    progress = progress or Progress()
    folder = None if out is None else Path(out)
    if folder is not None:
        artifact.check_writable(folder)
    wishes = Wishes(
        strategy=strategy,
        freeze=freeze,
        budget=budget,
        learning_rate=learning_rate,
        class_weight=class_weight,
        scratch=scratch,
        plan=plan if isinstance(plan, Plan) or plan is None else Plan.read(plan),
        hosted=hosted or HostedWishes(),
    )
    if horizon is not None or isinstance(data, Panel):
        asked = Asked(horizon=_steps(horizon), source=source, test_steps=test_steps, reading=reading or PanelReading())
        if to is not None:
            raise PlanError("--to adapts to an unlabelled target. Series are carried over with --source PANEL.")
        return forecasting.fit(
            data, wishes, asked, backbone=backbone, metric=metric, seed=seed, out=folder, progress=progress
        )
    if target_labels is not None and to is None:
        raise PlanError("--target-labels names labels of a target, but there is none. Name it with --to.")
    if source is not None and to is not None:
        raise PlanError("--to adapts to an unlabelled target, --source learns a table with another's help: give one.")
    if source is not None:
        data, source = pair(data, source, progress)
    dataset = data if source is not None else labelled(data, progress)
    own = HEADS_OF_THEIR_OWN.get(str(dataset.task))
    if is_hosted(backbone):
        own = hosted_chat
    if own is not None and to is not None:
        raise PlanError(
            f"--to carries over one label of several, and the data pose {dataset.task}. Learn them with "
            "`headstart fit DATA`, and look at the other domain with `headstart predict`."
        )
    if own is not None:
        return own.fit(dataset, wishes, backbone=backbone, metric=metric, seed=seed, out=folder, progress=progress)
    if dataset.modality == ROWS and to is not None:
        raise PlanError(
            "--to adapts texts and pictures. For plain tables make the unlabelled one the data and give the labelled "
            "one with --source: headstart fit TARGET.csv --source SOURCE.csv --label COL."
        )
    if dataset.modality == ROWS:
        return traditional.fit(
            dataset, source, wishes, backbone=backbone, metric=metric, seed=seed, out=folder, progress=progress
        )
    if to is not None:
        with progress.step("read"):
            target = read_target(to, dataset, target_labels)
        return transductive.fit(
            dataset, target, wishes, backbone=backbone, metric=metric, seed=seed, out=folder, progress=progress
        )
    return inductive.fit(dataset, wishes, backbone=backbone, metric=metric, seed=seed, out=folder, progress=progress)


def _steps(horizon: int | None) -> int:
    """The horizon; PlanError where there is none."""
    if horizon is None:
        raise PlanError("Series are to be forecast, but how far ahead is not said. Give --horizon N (horizon=N).")
    return horizon
