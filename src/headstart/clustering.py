"""Unsupervised transfer, items without labels: audit → freeze → count → group → describe → propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.data.audit import audit
from headstart.data.conversation import as_texts
from headstart.data.dataset import Dataset
from headstart.data.describe import describe
from headstart.data.threads import in_threads
from headstart.deploy import artifact
from headstart.deploy.labelling import to_label
from headstart.errors import PlanError
from headstart.evidence import groups as grouping
from headstart.evidence import outliers, stability
from headstart.evidence.agreement import agreement
from headstart.evidence.chart import chart
from headstart.evidence.clusters import Clusters, Group, Measured, Shaping
from headstart.evidence.groups import Grouping
from headstart.evidence.propose import propose
from headstart.evidence.record import library_versions
from headstart.evidence.space import Space, fit_space, shape_of
from headstart.evidence.stability import Count
from headstart.items import Items, exemplar, look, name_of, prepared
from headstart.problem import labelled, read
from headstart.progress import Progress
from headstart.report.clusters import render_clusters
from headstart.workshop import load_backbone

N_EXEMPLARS, N_KEYWORDS = 5, 6  # of a group
N_SHOWN = 12  # outliers, and pairs of near-duplicates


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """The items in their space, and in their groups."""

    items: Items
    space: Space
    places: np.ndarray  # (N, d) of unit length
    count: Count
    grouping: Grouping  # one group where there is no structure
    has_groups: bool
    shaping: Shaping | None


def cluster(
    data: Any,
    *,
    backbone: str | None = None,
    groups: int | None = None,
    source: Any = None,
    label_a_few: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Clusters:
    """Group `data` by what a pretrained backbone sees in them, without labels, and say how far to trust the groups.

    `data` is a Dataset, or anything that `read` takes. If a Dataset has labels, they are used for one thing only: a
    final measurement of how far the groups agree with them. `groups` is their number (default: found by stability
    under resampling); `source` a labelled data set of other classes, whose labels may shape the space (they do only
    where groups get clearly more stable); `label_a_few` how many items to propose for labelling. With `out` a folder
    is written there, complete or not at all. HeadstartError says what to do when something does not fit.
    """
    progress = progress or Progress()
    folder = None if out is None else Path(out)
    if folder is not None:
        artifact.check_writable(folder)
    with progress.step("read"):
        dataset = as_texts(data) if isinstance(data, Dataset) else read(data, label="")
    progress.say(describe(dataset))
    network = load_backbone(backbone, registry.modality(dataset.modality), progress)
    items = prepared(dataset, progress)
    check_numbers(items, groups, label_a_few)
    items = look(items, network, progress)
    labels = None if source is None else source_of(source, items, network, progress)
    grouped = group_items(items, labels, groups, seed, progress)
    found = tell(grouped, network, groups, label_a_few, seed, progress)
    if folder is not None:
        artifact.write_run(folder, files(found, items))
    return found


def check_numbers(items: Items, groups: int | None, label_a_few: int) -> None:
    """PlanError for a number of groups or of labels that these items cannot have."""
    n, noun = len(items.dataset), items.modality.noun[1]
    most = min(n, stability.MOST_ITEMS) // stability.LEAST_ASKED
    if groups is not None and not 2 <= groups <= most:
        raise PlanError(
            f"groups={groups}, but {n:,} {noun} can be put in 2 to {most:,} groups. "
            "Give such a number, or none: then it is found."
        )
    if not 0 <= label_a_few <= n:
        raise PlanError(f"label_a_few={label_a_few}, but there are {n:,} {noun}. Give a number from 1 to {n:,}.")


def source_of(source: Any, items: Items, network: Backbone, progress: Progress) -> tuple[Dataset, np.ndarray]:
    """(the source, the shape (D, D) that its labels give). HeadstartError when it is of another kind or unlabelled."""
    dataset = labelled(source, progress)
    if dataset.modality != items.dataset.modality:
        noun = registry.modality(dataset.modality).noun[1]
        raise PlanError(f"The source holds {noun}, but the data are {items.modality.noun[1]}. Give a like source.")
    if dataset.task != "classification":
        raise PlanError(f"The labels of {dataset.source} are not classes, and only classes can shape groups.")
    with progress.step("audit"):
        audited = audit(dataset, progress)
    raw = replace(items, dataset=audited.dataset, digests=audited.digests)
    shown = look(raw, network, progress)
    return audited.dataset, shape_of(shown.features, np.asarray(audited.dataset.column("label")))


def group_items(
    items: Items, labels: tuple[Dataset, np.ndarray] | None, groups: int | None, seed: int, progress: Progress
) -> Grouped:
    """In the plain space, or in that which source labels shape where groups are clearly more stable in it."""
    space, count = best_count(items, None, groups, seed, progress)
    shaping = None
    if labels is not None:
        dataset, shape = labels
        other, shaped = best_count(items, shape, groups, seed, progress)
        kept = shaped.found and shaped.best.excess.low > count.best.excess.value
        shaping = Shaping(
            source=dataset.name,
            n=len(dataset),
            n_classes=len(set(dataset.column("label"))),
            kept=kept,
            plain=count.best,
            shaped=shaped.best,
        )
        progress.say(f"  {shaping.said}")
        space, count = (other, shaped) if kept else (space, count)
    places = space.places(items.features)
    has_groups = count.found or groups is not None
    with progress.step("group"):
        found = grouping.group(places, count.k if has_groups else 1, seed)
    return Grouped(
        items=items,
        space=space,
        places=places,
        count=count,
        grouping=found,
        has_groups=has_groups,
        shaping=shaping,
    )


def best_count(
    items: Items, shape: np.ndarray | None, groups: int | None, seed: int, progress: Progress
) -> tuple[Space, Count]:
    """The space, and how many groups there are in it; a number that was asked for is measured alone."""
    space = fit_space(items.features, shape, seed)
    places = space.places(items.features)
    with progress.step("count the groups"):
        if groups is not None:
            return space, stability.just(places, space, groups, seed)
        with progress.bar(stability.n_steps(len(places)), "numbers") as advance:
            return space, stability.how_many(places, space, seed, advance)


def tell(
    grouped: Grouped, network: Backbone, asked_for: int | None, n_labels: int, seed: int, progress: Progress
) -> Clusters:
    """Everything that there is to say of the groups."""
    items, dataset = grouped.items, grouped.items.dataset
    table, threshold = describe_items(grouped, seed, progress)
    with progress.step("describe the groups"):
        groups = describe_groups(grouped, seed, progress)
    measured = measure(grouped, seed, progress)
    with progress.step("propose"):
        proposed = [int(row) for row in propose(grouped.places, n_labels, seed)]
    lonely = np.flatnonzero(table["outlier"])
    lonely = lonely[np.argsort(-table["isolation"].to_numpy()[lonely])][:N_SHOWN]
    copies = np.flatnonzero(table["first"] >= 0)[:N_SHOWN]
    return Clusters(
        data=dataset.name,
        source=dataset.source,
        modality=dataset.modality,
        n=len(dataset),
        count=grouped.count,
        asked_for=asked_for,
        groups=groups,
        table=table.drop(columns="first"),
        threshold=threshold,
        n_chance=len(dataset) * outliers.SHARE,
        outliers=tuple(exemplar(items, row) for row in lonely.tolist()),
        twins=tuple((exemplar(items, row), exemplar(items, table["first"].iloc[row])) for row in copies.tolist()),
        proposals=tuple(name_of(items, row) for row in proposed),
        proposed_rows=tuple(proposed),
        shaping=grouped.shaping,
        measured=measured,
        findings=items.findings,
        notes=dataset.notes,
        provenance=network.provenance,
        stage=network.stages[-1].name,
        seed=seed,
        seconds=dict(progress.seconds),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
    )


def describe_items(grouped: Grouped, seed: int, progress: Progress) -> tuple[Any, float]:
    """(a row an item, the isolation from which an item is an outlier)."""
    import pandas as pd

    items, places, found = grouped.items, grouped.places, grouped.grouping
    with progress.step("outliers"):
        alone, limit = outliers.isolation(places, seed), outliers.threshold(places, found, seed)
        first = outliers.near_duplicates(items.features)
    with progress.step("map"):
        x, y = chart(places, seed).T
    names = [name_of(items, row) for row in range(len(places))]
    in_groups = group_names(len(found.centres))
    table = pd.DataFrame(
        {
            items.modality.column_names[0]: names,
            "group": [in_groups[label] if grouped.has_groups else "" for label in found.labels],
            "distance": found.distances(places).round(4),
            "isolation": alone.round(4),
            "outlier": alone > limit,
            "near_duplicate_of": [names[row] if row >= 0 else "" for row in first],
            "x": x.round(4),
            "y": y.round(4),
            "first": first,
        }
    )
    return table, limit


def describe_groups(grouped: Grouped, seed: int, progress: Progress) -> tuple[Group, ...]:
    """Each group with its stability, keywords and exemplars; none where there is no structure."""
    if not grouped.has_groups:
        return ()
    items, found, places = grouped.items, grouped.grouping, grouped.places
    with progress.bar(stability.N_RESAMPLES, "resamples") as advance:
        stable = stability.jaccards(places, found, seed, advance)
    words: Sequence[tuple[str, ...]] = [()] * len(found.centres)
    if isinstance(items.modality.example(), str):
        words = grouping.keywords([str(item) for item in items.dataset.inputs], found.labels, N_KEYWORDS)
    described = []
    for label, name in enumerate(group_names(len(found.centres))):
        rows = np.flatnonzero(found.labels == label)
        chosen = grouping.exemplars(places, rows, found.centres[label], N_EXEMPLARS)
        described.append(
            Group(
                name=name,
                size=len(rows),
                stability=stable[label],
                keywords=words[label],
                exemplars=tuple(exemplar(items, int(row)) for row in chosen),
            )
        )
    return tuple(described)


def measure(grouped: Grouped, seed: int, progress: Progress) -> Measured | None:
    """Agreement with the labels, if the data have any, beside k-means on each of the classical features.

    Called once, after everything else: nothing is chosen by it.
    """
    items, dataset = grouped.items, grouped.items.dataset
    if dataset.task is None or not grouped.has_groups:
        return None
    if dataset.task != "classification":
        progress.say(f"  the labels in {dataset.label_name!r} are not single classes: groups are not held against them")
        return None
    labels = dataset.column("label")
    rows = np.array([row for row, label in enumerate(labels) if label])
    k = len(grouped.grouping.centres)
    with progress.step("measure"):
        found = {"these groups": grouped.grouping.labels[rows]}
        raw = in_threads(items.modality.classical_item, dataset.inputs)
        for features in items.modality.classical_features()[:2]:
            classical = grouping.k_means(features.fit_transform(raw), k, seed, n_starts=grouping.N_STARTS)
            found[f"k-means on {features.title}"] = classical.labels_[rows]
        y = np.array([labels[row] for row in rows])
        scores, differences = agreement(y, found, "these groups", seed)
    return Measured(
        label_name=dataset.label_name, n=len(rows), n_classes=len(set(y)), scores=scores, differences=differences
    )


def group_names(k: int) -> list[str]:
    """'group 01' … so that they sort as they are ordered."""
    return [f"group {number:0{len(str(k))}d}" for number in range(1, k + 1)]


def files(found: Clusters, items: Items) -> dict[str, bytes]:
    """What the folder holds; `headstart fit` takes groups.csv, and label_these.csv once labels are filled in."""
    told = {
        "clusters.json": artifact.to_bytes(found.to_json()),
        "groups.csv": found.table.to_csv(index=False).encode(errors="replace"),
        "report.html": render_clusters(found).encode(errors="replace"),
    }
    if found.proposals:
        rows = list(found.proposed_rows)
        stored = [items.dataset.table[row]["input"] for row in rows]
        hints = found.table["group"].iloc[rows].tolist()
        told |= to_label(items.modality.column_names[0], stored, found.proposals, hints)
    return told
