"""Items without labels, as a pretrained network sees them: audited, each once, with features of its last stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headstart import registry
from headstart.backbones.base import Backbone
from headstart.data.audit import Finding, audit
from headstart.data.dataset import Dataset
from headstart.engine import freeze
from headstart.engine.fastest import fastest
from headstart.errors import DataError
from headstart.evidence.clusters import Exemplar
from headstart.modalities.base import Modality
from headstart.progress import Progress

FEWEST = 20  # items


@dataclass(frozen=True, kw_only=True)
class Items:
    """A data set as the network sees it."""

    dataset: Dataset  # audited: no item twice
    modality: Modality
    digests: list[str]  # sha256 of each item's content
    findings: tuple[Finding, ...]
    features: np.ndarray  # (N, D) of the last stage


def prepared(dataset: Dataset, progress: Progress) -> Items:
    """Audited without a look at labels or splits, features to come. DataError when too few items are left."""
    with progress.step("audit"):
        plain = replace(dataset.with_splits([""] * len(dataset)), task=None)
        audited = audit(plain, progress)
    for finding in audited.findings:
        progress.say(f"  {finding.severity}: {finding.text}")
    modality, n = registry.modality(dataset.modality), len(audited.dataset)
    if n < FEWEST:
        raise DataError(
            f"{n} distinct {modality.noun[n != 1]} can be used, but at least {FEWEST} are needed to tell groups from "
            "chance. Give more."
        )
    return Items(
        dataset=replace(audited.dataset, task=dataset.task),
        modality=modality,
        digests=audited.digests,
        findings=audited.findings,
        features=np.empty((n, 0)),
    )


def look(items: Items, network: Backbone, progress: Progress) -> Items:
    """With the features of the last stage, from the cache or from one frozen pass."""
    inputs = items.dataset.inputs
    runner = fastest(network, items.modality, inputs, progress)
    with progress.step("frozen pass"):
        frozen = freeze.features(runner, items.modality, inputs, items.digests, progress)
    return replace(items, features=frozen.stage(network.n_stages - 1, np.arange(len(inputs))))


def name_of(items: Items, row: int) -> str:
    """What stands for an item in a table: the text, or the whole path of a picture."""
    item = items.dataset.table[row]["input"]
    if isinstance(item, dict) and item.get("path"):
        return str(Path(item["path"]).absolute())
    return items.modality.name_in_full(item)


def exemplar(items: Items, row: int) -> Exemplar:
    """An item to look at."""
    item = items.dataset.table[int(row)]["input"]
    return Exemplar(name=items.modality.describe(item), preview=items.modality.preview(item))
