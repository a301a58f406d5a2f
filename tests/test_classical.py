"""A classical model is arrays: after a trip through safetensors it says the very same of new items."""

import numpy as np
import pytest
from PIL import Image as Pillow
from safetensors.numpy import load, save

from headstart import registry
from headstart.errors import RegistryError
from headstart.evidence.baselines import Classical, _fit_one, fit_classical
from headstart.modalities import spectra
from headstart.strategies.base import Part

RNG = np.random.default_rng(0)
WORDS = [f"word{i}" for i in range(60)] + ["!", "?", "café", "日本", "İstanbul", "a\x1cb", "half \ud800", "a\u2028b"]


def texts(n):
    return [" ".join(RNG.choice(WORDS, 10)) for _ in range(n)]


def images(n):
    return [Pillow.fromarray(pixels) for pixels in RNG.integers(0, 256, (n, 64, 64), dtype=np.uint8)]


def sounds(n):
    """Half a second of a tone in noise, as the features take it."""
    time = np.arange(8000) / 16_000
    waves = (np.sin(2 * np.pi * RNG.uniform(200, 3000) * time) * 0.3 + 0.05 * RNG.normal(size=8000) for _ in range(n))
    return [spectra.summed_up(wave.astype(np.float32)) for wave in waves]


ITEMS = {"audio": sounds, "image": images, "text": texts}  # a new modality adds its line here
KINDS = [(name, f.title) for name in registry.MODALITIES.names() for f in registry.modality(name).classical_features()]
LABELS = {
    "classification": (["a", "b", "c"], lambda n: RNG.integers(0, 3, n)),
    "regression": ([1.0, 2.0, 4.0], lambda n: RNG.normal(size=n).astype(np.float32)),
}


def parts(name, task_name):
    labels, draw = LABELS[task_name]
    task = registry.TASKS.get(task_name).from_labels(labels)
    return task, *(Part(ITEMS[name](n), draw(n)) for n in (60, 30))


def reread(arrays):
    return load(save(arrays))


def dense(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


@pytest.mark.parametrize(("name", "title"), KINDS)
def test_features_read_back_are_the_same(name, title):
    fitted, restored = (registry.modality(name).classical(title) for _ in range(2))
    fitted.fit_transform(ITEMS[name](50))
    restored.restore(reread(fitted.state()))
    new = ITEMS[name](20)
    found, expected = restored.transform(new), fitted.transform(new)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(dense(found), dense(expected))
    assert save(restored.state()) == save(fitted.state())


@pytest.mark.parametrize("task_name", LABELS)
@pytest.mark.parametrize(("name", "title"), KINDS)
def test_a_model_read_back_says_the_same(name, title, task_name):
    modality = registry.modality(name)
    task, train, val = parts(name, task_name)
    fitted = _fit_one(modality.classical(title), task, train, val, seed=0)
    restored = Classical.restore(
        modality, title, fitted.title, reread(fitted.state()), fitted.temperature, fitted.val_loss
    )
    new = ITEMS[name](20)
    np.testing.assert_array_equal(restored.scores(task, new), fitted.scores(task, new))
    assert restored.features.title == title
    assert (restored.title, restored.temperature, restored.val_loss) == (
        f"{title} + {task.solver_title}", fitted.temperature, fitted.val_loss,
    )  # fmt: skip


@pytest.mark.parametrize("name", ITEMS)
def test_the_best_on_validation_is_taken(name):
    task, train, val = parts(name, "classification")
    modality = registry.modality(name)
    each = [_fit_one(features, task, train, val, seed=0) for features in modality.classical_features()]
    best = fit_classical(modality, task, train, val, seed=0)
    assert best.val_loss == min(model.val_loss for model in each)
    assert best.title in [model.title for model in each]


def test_terms_side_by_side_are_scikit_learns_feature_union():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    shared = {"sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", max_features=30_000, **shared)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), max_features=20_000, **shared)
    union, items = FeatureUnion([("words", words), ("pieces", pieces)]), texts(40)
    features = registry.modality("text").classical("TF-IDF of words and pieces of words")
    np.testing.assert_array_equal(dense(features.fit_transform(items)), dense(union.fit_transform(items)))
    new = texts(10)
    np.testing.assert_array_equal(dense(features.transform(new)), dense(union.transform(new)))


def test_an_unknown_title_names_the_nearest():
    with pytest.raises(RegistryError, match=r"'HOGG' is not one .* of images: HOG, small pixels\. Did you mean 'HOG'"):
        registry.modality("image").classical("HOGG")
