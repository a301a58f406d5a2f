"""The features that classical models stand on, kept as arrays: TF-IDF (Spärck Jones 1972), and standardised columns.

scikit-learn computes them, before and after saving alike, so that a model read back gives the same numbers to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstart.modalities.base import ClassicalFeatures


class TfIdf(ClassicalFeatures):
    """TF-IDF of one or more kinds of terms, side by side: a sparse float32 matrix (N, D)."""

    def __init__(self, title: str, vectorizers: Mapping[str, Any]) -> None:
        self.title = title
        self.vectorizers = dict(vectorizers)  # name of the kind of terms -> scikit-learn's TfidfVectorizer

    def fit_transform(self, items: Sequence[str]) -> Any:
        """Learn terms and their idf from texts; gives the rows of these texts."""
        return _side_by_side([vectorizer.fit_transform(items) for vectorizer in self.vectorizers.values()])

    def transform(self, items: Sequence[str]) -> Any:
        """Rows of texts, under the terms that were learnt."""
        return _side_by_side([vectorizer.transform(items) for vectorizer in self.vectorizers.values()])

    def state(self) -> dict[str, np.ndarray]:
        """For each kind of terms its `terms` in the order of the columns, a line each, and their `idf`."""
        found = {}
        for name, vectorizer in self.vectorizers.items():
            found[f"{name}.terms"] = _as_bytes(vectorizer.get_feature_names_out())
            found[f"{name}.idf"] = vectorizer.idf_
        return found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the terms and their idf from `state`."""
        for name, vectorizer in self.vectorizers.items():
            vectorizer.set_params(vocabulary=_as_lines(state[f"{name}.terms"]))
            vectorizer.idf_ = state[f"{name}.idf"]


class Standardised(ClassicalFeatures):
    """What `read` sees in the items, a dense float32 matrix (N, D), each column with mean 0 and variance 1."""

    def __init__(self, title: str, read: Callable[[Sequence[Any]], np.ndarray]) -> None:
        from sklearn.preprocessing import StandardScaler

        self.title = title
        self.read = read
        self.scaler = StandardScaler()

    def fit_transform(self, items: Sequence[Any]) -> np.ndarray:
        """Learn mean and scale of each column; gives the rows of these items."""
        return self.scaler.fit_transform(self.read(items))

    def transform(self, items: Sequence[Any]) -> np.ndarray:
        """Rows of items, under the mean and the scale that were learnt."""
        return self.scaler.transform(self.read(items))

    def state(self) -> dict[str, np.ndarray]:
        """`mean` and `scale` (D,), float64."""
        return {"mean": self.scaler.mean_, "scale": self.scaler.scale_}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take mean and scale from `state`."""
        self.scaler.mean_, self.scaler.scale_ = state["mean"], state["scale"]
        self.scaler.n_features_in_ = len(state["mean"])


def _side_by_side(parts: list[Any]) -> Any:
    from scipy import sparse

    return parts[0] if len(parts) == 1 else sparse.hstack(parts).tocsr()


def _as_bytes(terms: Sequence[str]) -> np.ndarray:
    """A term a line, UTF-8, as uint8; no term holds a line break, for texts are cut at white space."""
    # a text may hold half a surrogate pair, which strict UTF-8 refuses
    return np.frombuffer("\n".join(terms).encode("utf-8", errors="surrogatepass"), dtype=np.uint8)


def _as_lines(data: np.ndarray) -> list[str]:
    # not splitlines, which also cuts at characters that a term may hold
    return data.tobytes().decode("utf-8", errors="surrogatepass").split("\n")
