"""Unsupervised transfer: go on pretraining a backbone on a domain without labels, and measure what that added."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from headstart import __version__, places, registry
from headstart.backbones import catalog
from headstart.backbones.base import Backbone, Located
from headstart.backbones.fetch import SOURCE_FILE
from headstart.data.audit import audit
from headstart.data.conversation import as_texts
from headstart.data.dataset import Dataset
from headstart.data.describe import describe
from headstart.data.windows import windows
from headstart.deploy import artifact
from headstart.downstream import Trial, measure
from headstart.engine import freeze as freezing
from headstart.engine.corpus import Corpus, Steps
from headstart.engine.fastest import fastest
from headstart.engine.features import Activations
from headstart.engine.pretraining import Outcome, go_on, seconds_a_step
from headstart.engine.train import precision
from headstart.errors import DataError, PlanError, RunError
from headstart.evidence.continued import Continued, held_out
from headstart.evidence.record import library_versions
from headstart.losses.base import Loss
from headstart.modalities.base import Modality
from headstart.problem import Problem, pose, read
from headstart.progress import Progress
from headstart.report import pretraining as page
from headstart.wishes import seconds_of
from headstart.workshop import load_backbone

DEFAULT = {"text": "mlm", "image": "vicreg"}  # measured (docs/log.md)
FEWEST = 20  # distinct items: fewer teach nothing
HELD, MOST_HELD = 0.1, 400  # share of the items that the loss is measured on
WINDOW_TOKENS = 128  # longer texts are learnt in pieces


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Distinct items of a domain, and what is known of them."""

    name: str
    modality: Modality
    items: list[Any]  # stored
    n_kept_out: int  # items of a test split, which are not among them

    def parted(self, seed: int) -> tuple[list[Any], list[Any]]:
        """(items to learn from, items to measure the loss on)."""
        order = np.random.default_rng(seed).permutation(len(self.items))
        n_held = min(MOST_HELD, max(2, round(HELD * len(order))))
        learn, held = np.sort(order[n_held:]), np.sort(order[:n_held])
        return [self.items[row] for row in learn], [self.items[row] for row in held]


def pretrain(
    data: Any,
    *,
    out: str | Path,
    backbone: str | None = None,
    loss: str | Loss | None = None,
    freeze: int | None = None,
    epochs: int | None = None,
    budget: str | float | None = None,
    measure_on: Any = None,
    labels: Sequence[int] = (50, 200),
    draws: int = 5,
    most_test: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Continued:
    """Go on pretraining a backbone on the items of `data` alone, and write what comes out to the new folder `out`.

    That folder is a backbone: `fit(…, backbone=out)` takes it. `loss` is "mlm" or "simcse" for texts, "vicreg" for
    pictures, or such a Loss with settings of its own; `freeze` how many stages stay as they are; `epochs` passes over
    the data, of which `budget` ("5m") takes as many as fit. Labels do not teach. Where `data` has some, or
    `measure_on` is a labelled data set, probes with `labels` labels in so many `draws` say what going on was worth, on
    at most `most_test` test examples; the test is kept out of the pretraining. HeadstartError says what to do when
    something does not fit.
    """
    progress, folder = progress or Progress(), Path(out)
    artifact.check_writable(folder)
    trial = Trial(labels=tuple(labels), draws=draws, most_test=most_test, seed=seed)
    seconds_of(budget)
    dataset = _given(data, progress)
    modality = registry.modality(dataset.modality)
    network = load_backbone(backbone, modality, progress)
    located = catalog.locate(backbone or modality.default_backbone, progress)
    way = choose_loss(loss, network, freeze, epochs)
    problem, why_not = measurable(dataset, measure_on, seed, progress)
    domain = gather(dataset, problem, progress)
    corpus = make_corpus(domain, network, located, way, seed, progress)
    with progress.step("pretraining"):
        outcome = train(way, corpus, budget, progress)
    weights, after = continued(corpus, outcome, folder)
    worth = None
    if problem is not None:
        with progress.step("downstream"):
            worth = measure(problem, network, after, trial, progress)
    told = tell(domain, way, corpus, outcome, after)
    told = replace(told, downstream=worth, not_measured=why_not)
    artifact.write_run(folder, files_of(told, weights, located))
    forget(corpus)
    return told


def choose_loss(given: str | Loss | None, network: Backbone, freeze: int | None, epochs: int | None) -> Loss:
    """The loss that was asked for, or the modality's own. PlanError when it does not fit the backbone."""
    if given is None and network.modality not in DEFAULT:
        raise PlanError(f"No loss without labels is known for {network.modality} backbones.")
    said: dict[str, Any] = {"freeze": freeze, "epochs": epochs}
    said = {name: value for name, value in said.items() if value is not None}
    loss = given if isinstance(given, Loss) else registry.LOSSES.get(given or DEFAULT[network.modality])()
    loss = replace(loss, **said)
    loss.check(network)
    return loss


def measurable(dataset: Dataset, measure_on: Any, seed: int, progress: Progress) -> tuple[Problem | None, str]:
    """The labelled problem to measure on, or why there is none; what the user named himself must do."""
    if measure_on is not None:
        asked = _given(measure_on, progress)
        if asked.task is None or asked.modality != dataset.modality:
            noun = registry.modality(dataset.modality).noun[1]
            raise DataError(
                f"{asked.source} cannot be measured on: it must hold {noun} with labels. Name the column of the labels "
                "with --label (in Python: headstart.read(data, label=…))."
            )
        return pose(asked, seed, progress), ""
    if dataset.task is None:
        return None, "the data have no labels, and none were given with --measure-on"
    try:
        return pose(dataset, seed, progress), ""
    except DataError as error:
        if dataset.overruled.get("label"):
            raise
        return None, f"the labels found in {dataset.label_name!r} do not do for it ({error})"


def gather(dataset: Dataset, problem: Problem | None, progress: Progress) -> Domain:
    """The distinct items that can be read and stand in no test split. DataError when they are too few."""
    with progress.step("audit"):
        audited = audit(replace(dataset, task=None), progress)
    tested = {problem.digests[row] for row in problem.rows["test"]} if problem else set()
    found: dict[str, Any] = {}
    splits = audited.dataset.column("split")
    for digest, item, split in zip(audited.digests, audited.dataset.inputs, splits, strict=True):
        if split == "test":
            tested.add(digest)
        found.setdefault(digest, item)
    items = [item for digest, item in found.items() if digest not in tested]
    modality = registry.modality(dataset.modality)
    n_out = len(found) - len(items)
    if len(items) < FEWEST:
        raise DataError(
            f"{dataset.source} holds {len(items)} distinct {modality.noun[1]}"
            f"{f' besides the {n_out:,} of its test split' if n_out else ''}, too few to go on pretraining with: "
            f"at least {FEWEST} are needed, and thousands are usual."
        )
    if n_out:
        progress.say(f"  kept out, as they are the test: {n_out:,} {modality.noun[1]}")
    return Domain(name=dataset.name, modality=modality, items=items, n_kept_out=n_out)


def make_corpus(
    domain: Domain, network: Backbone, located: Located, loss: Loss, seed: int, progress: Progress
) -> Corpus:
    """What is learnt from and measured on: long texts in pieces, what is frozen run once."""
    learn, held = domain.parted(seed)
    if domain.modality.noun[0] == "text":
        learn, held = (
            [p for own in windows(part, network.lengths, WINDOW_TOKENS) for p in own] for part in (learn, held)
        )
    items = [*learn, *held]
    digests = [domain.modality.examine(item).digest for item in items]
    cut = loss.cut(network.n_stages)
    views: tuple[Activations, ...] = ()
    if cut and loss.caches:
        with progress.step("frozen pass"):
            views = cached_views(network, domain.modality, items, digests, loss, progress)
    key = _key(network, loss, seed, digests, bool(views))
    places.trials().mkdir(parents=True, exist_ok=True)
    return Corpus(
        backbone=network,
        located=located,
        modality=domain.modality,
        items=items,
        learn=np.arange(len(learn)),
        held=np.arange(len(learn), len(items)),
        seed=seed,
        views=views,
        checkpoint=places.trials() / f"pretrain-{key}.ckpt",
    )


def cached_views(
    network: Backbone, modality: Modality, items: list[Any], digests: list[str], loss: Loss, progress: Progress
) -> tuple[Activations, ...]:
    """Activations at the cut of the plain items, or of a few random views of them; none where the disk is too small."""
    runner = fastest(network, modality, items, progress)
    cut, n = loss.cut(network.n_stages), loss.n_cached
    if not freezing.fits_on_disk(runner, modality, items * n, cut):
        progress.say(f"  the disk has no room for the activations at stage {cut}: its stages run each time")
        return ()
    numbers = range(1, n + 1) if loss.augments else range(1)
    return tuple(
        freezing.activations(runner, modality, items, digests, cut, progress, view=number) for number in numbers
    )


def train(loss: Loss, corpus: Corpus, budget: str | float | None, progress: Progress) -> Outcome:
    """All epochs, or as many steps as the budget has time for; that is measured once, and kept for a run to go on."""
    n_steps = loss.epochs * Steps(loss, corpus, 1).an_epoch
    seconds = seconds_of(budget)
    if seconds is not None:
        assert corpus.checkpoint is not None
        kept = corpus.checkpoint.with_suffix(f".{seconds:g}.json")
        if not kept.is_file():
            kept.write_text(json.dumps(seconds_a_step(loss, corpus)))
        n_steps = max(1, min(n_steps, int(seconds / json.loads(kept.read_text()))))
    whole = Steps(loss, corpus, n_steps).n_steps
    progress.say(f"  {loss.title}: {whole:,} steps of {min(loss.batch_size, len(corpus.learn))}")
    with progress.bar(whole, "steps") as advance:
        outcome = go_on(loss, corpus, n_steps, advance)
    if not (np.isfinite(outcome.losses).all() and np.isfinite(outcome.after.mean)):
        raise RunError("The loss is no number any more: training broke down. Try fewer epochs, or freeze more stages.")
    return outcome


def continued(corpus: Corpus, outcome: Outcome, folder: Path) -> tuple[bytes, Backbone]:
    """The content of the new weight file, and the backbone as it will be loaded from `folder`."""
    after = corpus.backbone.adapted(outcome.changes)
    weights = save(after.weights(corpus.located), {"format": "pt"})
    after = copy.copy(after)
    after.changes = None  # it is no run's adapted network but a backbone of its own
    after.provenance = replace(
        corpus.backbone.provenance, name=str(folder.resolve()), sha256=hashlib.sha256(weights).hexdigest()
    )
    return weights, after


def tell(domain: Domain, loss: Loss, corpus: Corpus, outcome: Outcome, after: Backbone) -> Continued:
    """Everything but what it was worth downstream."""
    learn, held = domain.parted(corpus.seed)
    located, network = corpus.located, corpus.backbone
    before, now = ((one.sums, one.counts) for one in (outcome.before, outcome.after))
    return Continued(
        what=f"{loss.title} on {len(learn):,} {domain.modality.noun[1]} of {domain.name}",
        family=located.family,
        variant=network.variant,
        parent=asdict(network.provenance),
        sha256=after.provenance.sha256,
        modality=network.modality,
        data=domain.name,
        n=len(learn),
        n_pieces=len(corpus.learn),
        n_held=len(held),
        n_kept_out=domain.n_kept_out,
        loss=registry.plugin_name(loss),
        settings=loss.settings(),
        cut=loss.cut(network.n_stages),
        stage_names=tuple(stage.name for stage in network.stages),
        seed=corpus.seed,
        n_steps=outcome.n_steps,
        epochs=round(outcome.n_steps / Steps(loss, corpus, 1).an_epoch, 2),
        held_out=held_out(loss.title, loss.unit, before, now, corpus.seed),
        seconds=round(outcome.seconds, 1),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )


def files_of(told: Continued, weights: bytes, located: Located) -> dict[str, bytes]:
    """The new folder: the parent's settings and vocabulary, the new weights, where they come from, card and report."""
    taken = {path.name: path.read_bytes() for path in catalog.files_of(located) if path.suffix != ".safetensors"}
    taken.pop("model.safetensors.index.json", None)
    taken.pop(SOURCE_FILE, None)
    return taken | {
        "model.safetensors": weights,
        catalog.CONTINUED: artifact.to_bytes(told.to_json()),
        "README.md": page.card(told).encode(),
        "report.html": page.render(told).encode(),
    }


def forget(corpus: Corpus) -> None:
    """Remove what was kept to go on from."""
    assert corpus.checkpoint is not None
    for path in corpus.checkpoint.parent.glob(f"{corpus.checkpoint.stem}.*"):
        path.unlink(missing_ok=True)


def _given(data: Any, progress: Progress) -> Dataset:
    with progress.step("read"):
        dataset = as_texts(data if isinstance(data, Dataset) else read(data))
    progress.say(describe(dataset))
    return dataset


def _key(network: Backbone, loss: Loss, seed: int, digests: list[str], cached: bool) -> str:
    """sha256 (hex) of all that decides what training gives."""
    decides = {
        "backbone": network.fingerprint,
        "loss": [registry.plugin_name(loss), loss.settings()],
        "seed": seed,
        "versions": [__version__, torch.__version__],
        "precision": str(precision(network)),
        "cached": cached,
        "items": digests,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]
