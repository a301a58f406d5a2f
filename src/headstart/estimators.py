"""scikit-learn estimators over `headstart.fit`: they work in pipelines, `clone`, `cross_val_score` and grid search.

Features are cached by content, so that the folds of a cross-validation run the backbone once over each example.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from headstart import registry
from headstart.backbones import catalog
from headstart.data.read import Reading, read
from headstart.engine.features import Features
from headstart.engine.freeze import features as run_frozen
from headstart.progress import Progress
