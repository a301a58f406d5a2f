"""One cell of the heart benchmark by other libraries, in whatever Python this is run with: prints JSON.

    python benchmarks/heart_peers.py CELL.npz

Same matrices, same base learners, no label of the target where the method needs none. Seconds are learning and
predicting, after the imports.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

Cell = Any  # the arrays of the .npz
Learn = Callable[[Cell], np.ndarray]  # -> scores (n,) of the target's rows
ROUNDS, DEPTH, STRENGTH = 20, 2, 0.1


def logistic() -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, max_iter=1000)


def ours() -> dict[str, Learn]:
    from headstart import registry
    from headstart.strategies.base import Part
    from headstart.tables.base import Domains

    task = registry.TASKS.get("classification").from_labels(["0", "1"])

    def by(name: str, labelled: bool, **settings: Any) -> Learn:
        def learn(cell: Cell) -> np.ndarray:
            way = registry.TABLES.get(name)(**settings)
            teach = cell["teach"] if labelled else cell["teach"][:0]
            source = Part(cell["Xs"], cell["ys"])
            domains = Domains(task=task, target=cell["X"], source=source, seed=int(cell["seed"]))
            learnt = way.learn(domains, way.begin(domains), Part(cell["X"][teach], cell["y"][teach]))
            logits = learnt.logits(cell["X"])
            return logits[:, 1] - logits[:, 0]

        return learn

    return {
        "CORAL": by("coral", False, strength=STRENGTH),
        "importance weighting": by("importance_weighting", False, strength=STRENGTH),
        "feature augmentation": by("feature_augmentation", True, strength=STRENGTH),
        "TrAdaBoost": by("tradaboost", True, rounds=ROUNDS, depth=DEPTH),
    }


def by_skada() -> dict[str, Learn]:
    import skada
    from skada.utils import source_target_merge

    def by(adapter: Callable[[], Any]) -> Learn:
        def learn(cell: Cell) -> np.ndarray:
            base = logistic().set_fit_request(sample_weight=True)
            model = skada.make_da_pipeline(adapter(), base)
            X, y, domain = source_target_merge(cell["Xs"], cell["X"], cell["ys"], cell["y"] * 0 - 1)
            model.fit(X, y, sample_domain=domain)
            return np.asarray(model.predict_proba(cell["X"], sample_domain=np.full(len(cell["X"]), -2)))[:, 1]

        return learn

    discriminator = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    return {
        "CORAL": by(lambda: skada.CORALAdapter(reg=0.1)),
        "importance weighting": by(lambda: skada.DiscriminatorReweightAdapter(discriminator)),
    }


def by_adapt() -> dict[str, Learn]:
    from adapt.feature_based import CORAL, FA
    from adapt.instance_based import IWC, TrAdaBoost

    def by(make: Callable[[Cell], Any], labelled: bool) -> Learn:
        def learn(cell: Cell) -> np.ndarray:
            model, teach = make(cell), cell["teach"]
            if labelled:
                model.fit(cell["Xs"], cell["ys"], Xt=cell["X"][teach], yt=cell["y"][teach])
            else:
                model.fit(cell["Xs"], cell["ys"], Xt=cell["X"])
            if isinstance(model, TrAdaBoost):  # its weighted vote, of which `predict` gives only the class
                later = slice(len(model.estimators_) // 2, None)
                pairs = zip(model.estimators_[later], model.estimator_weights_[later], strict=True)
                return np.asarray(sum(weight * one.predict_proba(cell["X"])[:, 1] for one, weight in pairs))
            X = model.transform(cell["X"], domain="tgt") if hasattr(model, "transform") else cell["X"]
            return np.asarray(model.estimator_.predict_proba(X))[:, 1]  # `predict` gives classes alone

        return learn

    quiet = {"verbose": 0}
    discriminator = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)
    tree = DecisionTreeClassifier(max_depth=DEPTH, random_state=0)
    return {
        "CORAL": by(lambda c: CORAL(estimator=logistic(), lambda_=0.1, **quiet), False),
        "importance weighting": by(lambda c: IWC(logistic(), classifier=discriminator, **quiet), False),
        "feature augmentation": by(lambda c: FA(logistic(), **quiet), True),
        "TrAdaBoost": by(lambda c: TrAdaBoost(tree, n_estimators=ROUNDS, **quiet), True),
    }


def main() -> None:
    cell = dict(np.load(sys.argv[1]))
    test = np.setdiff1d(np.arange(len(cell["y"])), cell["teach"])
    systems = {"torch": ("headstart", ours), "skada": ("skada", by_skada), "adapt": ("adapt", by_adapt)}
    found = []
    for needed, (library, ways) in systems.items():
        if importlib.util.find_spec(needed) is None:
            continue
        for method, learn in ways().items():
            one: dict[str, Any] = {"library": library, "method": method}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    start = time.perf_counter()
                    scores = learn(cell)
                one["seconds"] = round(time.perf_counter() - start, 4)
                one["auc"] = round(float(roc_auc_score(cell["y"][test], scores[test])), 4)
            except Exception as error:  # a peer that fails is told, and the others go on
                one["failed"] = f"{type(error).__name__}: {error}"[:200]
            found.append(one)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
