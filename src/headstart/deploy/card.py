"""The model card: a run's README.md in the format of the Hugging Face hub (Mitchell et al. 2019, arXiv:1810.03993)."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from headstart.evidence import words
from headstart.evidence.base import Evidence
from headstart.evidence.record import Record
from headstart.evidence.weigh import MODEL
from headstart.report.chat import copying_said, forgetting_said
from headstart.report.forecasts import network_name
from headstart.tasks.base import LinearTask

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

HUB = "hub:"  # how a `Provenance.source` begins when it is a hub id
FEW_TEST_EXAMPLES = 10  # below it, a class is named among the limits
HUB_LICENCES = frozenset(  # https://huggingface.co/docs/hub/repositories-licenses: the usual ones of networks
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
    | {"cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense", "openrail"}
)


def model_card(record: Record) -> str:
    """Markdown with YAML front matter that the hub understands."""
    front = _front_matter(record).to_yaml(line_break="\n")
    body = _environment().get_template("card.md.j2").render(_view(record))
    return f"---\n{front.strip()}\n---\n\n{body.strip()}\n"


def plain(text: object) -> str:
    """Text on one line that Markdown and HTML leave as it is, in a table too."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_\[\]|#])", r"\\\1", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: object) -> str:
    """Text as inline code: fenced by more backticks than it holds."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if fence != "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


@cache
def _environment() -> Environment:
    environment = Environment(  # Markdown, not HTML: names go through `plain` or `code`
        loader=PackageLoader("headstart.deploy", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": plain,
        "code": code,
        "count": words.count,
        "score": words.score,
        "seconds": words.seconds,
    }
    return environment


def _front_matter(record: Record) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    data, evidence = record.data, record.evidence
    pipeline = _pipeline_tag(data.modality, data.task)
    measured_on, split = _measured_on(record)
    results = [
        EvalResult(
            task_type=pipeline or data.task,
            dataset_type=_slug(measured_on),
            dataset_name=measured_on,
            dataset_split=split,
            metric_type=name,
            metric_name=evidence.titles[name],
            metric_value=round(score.value, 6),
        )
        for name, score in evidence.metrics.items()
        if math.isfinite(score.value)
    ]
    origin = record.provenance
    licence, licence_name = (None, None) if origin is None else _licence(origin.licence)
    return ModelCardData(
        license=licence,
        license_name=licence_name,
        base_model=origin.source.removeprefix(HUB) if origin and origin.source.startswith(HUB) else None,
        library_name="headstart",
        pipeline_tag=pipeline,
        tags=["headstart", "transfer-learning", record.plan.strategy, data.modality],
        model_name=f"{_slug(data.name)}-{_slug(origin.name if origin else 'rows')}",
        eval_results=results or None,
    )


def _pipeline_tag(modality: str, task: str) -> str | None:
    """The hub's name for this pair; None where it has none."""
    if task in ("classification", "multilabel") and modality in ("text", "image", "audio", "tabular"):
        return f"{modality}-classification"
    named = {("tabular", "regression"): "tabular-regression", ("image", "detection"): "object-detection"}
    named[("series", "forecasting")] = "time-series-forecasting"
    named[("audio", "transcription")] = "automatic-speech-recognition"
    named[("text", "chat")] = "text-generation"
    return named.get((modality, task))


def _licence(licence: str) -> tuple[str | None, str | None]:
    """The backbone's licence as the hub names it, and its own name where the hub has none; nothing when not known."""
    name = licence.lower()
    if name in HUB_LICENCES:
        return name, None
    return (None, None) if name == "unknown" else ("other", _slug(licence))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "data"


def _view(record: Record) -> dict[str, Any]:
    tested = _tested(record)
    few = [f"{name} ({n})" for name, n in tested.items() if n < FEW_TEST_EXAMPLES]
    return {
        "record": record,
        "by": made_by(record),
        "held": held(record),
        "chat": chat_said(record),
        "title": record.data.name
        + (
            f", adapted from {record.provenance.name}"
            if record.provenance and record.plan.strategy != "zero_shot"
            else ""
        ),
        "names": record.task.score_names,
        "baselines": list(record.evidence.baselines),
        "rows": _rows(record.evidence),
        "findings": sorted(record.findings, key=lambda finding: finding.severity != "warning"),
        "few": few,
        "calibrated": isinstance(record.task, LinearTask) and record.task.calibrated,
        "total_seconds": sum(record.seconds.values()),
    }


def made_by(record: Record) -> str:
    """What forecasts, in one phrase without markup; "" for any other run."""
    if record.forecasts is None or record.provenance is None:
        return ""
    network = network_name(record.provenance)
    if record.plan.ships == "classical":
        return f"{record.plan.classical}, a classical forecaster; {network} was tried beside it and is not in it"
    how = "as it was pretrained" if record.plan.strategy == "zero_shot" else f"adapted, {record.plan.strategy}"
    return f"{network} ({how})"


def held(record: Record) -> list[tuple[str, str]]:
    """(band, share of the outcomes within it) of what ships."""
    if record.forecasts is None:
        return []
    (own,) = [one for one in record.forecasts.systems if one.name == MODEL]
    return [(band, words.score(one.share) if one.share else "–") for band, one in own.bands.items()]


def chat_said(record: Record) -> list[str]:
    """What was copied and what was forgotten, a sentence each; [] for any other run."""
    if record.chat is None:
        return []
    copied, forgotten = record.chat.parroting, record.chat.forgetting
    return [*([copying_said(copied)] if copied else []), *([forgetting_said(forgotten)] if forgotten else [])]


def _tested(record: Record) -> dict[str, int]:
    """Class name -> how many examples, or objects, everything was measured on; {} for numbers, or for nothing."""
    if record.boxes is not None:
        return {one.name: one.n_objects for one in record.boxes.classes}
    names, y = record.task.score_names, record.test.y
    if not names or not len(y):
        return {}
    counts = y.sum(axis=0) if y.ndim == 2 else np.bincount(y, minlength=len(names))
    return {name: int(n) for name, n in zip(names, counts, strict=True)}


def _measured_on(record: Record) -> tuple[str, str]:
    """(data, split) that the scores speak of, as the hub shows them."""
    if record.adaptation is not None and record.adaptation.n_labelled:
        return record.adaptation.target, "target"
    return record.data.name, "test" if record.data.n.get("test") else "cross-validation"


def _rows(evidence: Evidence) -> list[dict[str, Any]]:
    """A metric a row: the model's score, then each baseline's with what the difference says; the primary one first."""
    rows = []
    for name in sorted(evidence.metrics, key=lambda name: name != evidence.primary):
        cells = []
        for baseline, scores in evidence.baselines.items():
            difference = evidence.differences.get(baseline, {}).get(name)
            said = words.comparison(difference, evidence.better[name]).text if difference else ""
            cells.append("; ".join(filter(None, (words.score(scores[name]) if name in scores else "", said))) or "–")
        own = words.score(evidence.metrics[name])
        rows.append({"title": evidence.titles[name], "better": evidence.better[name], "own": own, "cells": cells})
    return rows
