"""Groups without labels: the parts against planted answers, and `headstart.cluster` the whole way through."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import headstart
from headstart import registry
from headstart.clustering import group_items
from headstart.errors import DataError, HeadstartError, PlanError, RunError
from headstart.evidence import outliers, stability
from headstart.evidence.agreement import agreement, indices
from headstart.evidence.chart import beside, chart
from headstart.evidence.groups import Grouping, class_tf_idf, exemplars, group, keywords
from headstart.evidence.propose import cover, propose
from headstart.evidence.space import fit_space, shape_of, unit
from headstart.evidence.stability import Count, how_many
from headstart.items import Items
from headstart.progress import Progress
from tests.conftest import call, draw
from tests.test_backbones import WORDS, save_tiny


@pytest.fixture(autouse=True)
def _few_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for groups that are planted clearly; the figures of docs and benchmarks stand on more."""
    monkeypatch.setattr(stability, "N_SECOND", 10)
    monkeypatch.setattr(stability, "N_CLOUDS_OF_FEW", 12)
    monkeypatch.setattr(stability, "N_RESAMPLES", 10)


def planted(k: int, n: int = 200, dims: int = 12, apart: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(features (n, dims), group of each) of k Gaussian clouds of one spread."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(dims, dims)))[0][:k] * apart * math.sqrt(dims)
    y = np.arange(n) % k
    return (centres[y] + rng.normal(size=(n, dims))).astype(np.float32), y


def counted(features: np.ndarray, seed: int = 0) -> Count:
    space = fit_space(features)
    return how_many(space.places(features), space, seed)


# how many


@pytest.mark.parametrize("k", [2, 3, 7])
def test_planted_groups_are_found_with_their_number(k: int) -> None:
    features, y = planted(k)
    found = counted(features)
    assert (found.k, found.found) == (k, True)
    assert found.low <= k <= found.high
    places = fit_space(features).places(features)
    assert adjusted_rand_score(y, group(places, k, 0).labels) > 0.95


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["uniform", "Gaussian", "long"])
def test_noise_has_no_groups(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((80, 10)) if kind == "uniform" else rng.normal(size=(80, 10))
    if kind == "long":
        noise = noise * np.geomspace(1, 0.05, 10)
    assert not counted(noise.astype(np.float32)).found


def test_a_cloud_is_its_own_chance() -> None:
    """What is drawn as the null has, held against the null, no excess: the test keeps its risk of 5 %."""
    rng = np.random.default_rng(0)
    told = [stability.beyond_chance(*np.split(0.4 + 0.1 * rng.normal(size=12), 2)) for _ in range(2000)]
    assert np.mean(told) < 0.05
    assert stability.beyond_chance(np.full(6, 0.9), 0.4 + 0.05 * rng.normal(size=6))


def test_the_best_number_and_its_spread_are_those_of_the_halves() -> None:
    excess = np.array([[0.1] * 40, [0.5] * 38 + [0.0] * 2, [0.0] * 38 + [0.6] * 2])
    assert stability.spread_of_best(excess, [2, 5, 9]) == (5, 9)
    assert stability.spread_of_best(excess[:, :38], [2, 5, 9]) == (5, 5)


def test_the_rounds_look_where_they_should() -> None:
    first = stability.first_round(6000)
    assert (first[0], first[-1]) == (2, stability.MOST_GROUPS)
    assert all(b / a <= 1.5 + 1e-9 for a, b in pairwise(first))
    means = {k: -abs(math.log(k / 150)) for k in first}
    second = stability.second_round(first, means)
    assert second == sorted(set(second))
    assert any(abs(k - 150) <= 8 for k in second)
    assert stability.first_round(20) == [2]


def test_agreement_of_equal_halves_is_one_and_of_noise_none() -> None:
    places, _ = planted(4, apart=5)
    assert stability.agreement(unit(places), 4, 0) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=(400, 30))
    assert abs(stability.agreement(noise, 6, 0)) < 0.1


def test_jaccard_against_sets() -> None:
    labels, again = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 0, 2])
    by_hand = [
        max(
            len(set(np.flatnonzero(labels == a)) & set(np.flatnonzero(again == b)))
            / len(set(np.flatnonzero(labels == a)) | set(np.flatnonzero(again == b)))
            for b in range(3)
        )
        for a in range(3)
    ]
    np.testing.assert_allclose(stability.best_jaccard(labels, again, 3), by_hand)
    assert np.isnan(stability.best_jaccard(labels, again, 4)[3])


def test_clear_groups_are_stable_and_cut_ones_dissolve() -> None:
    features, _ = planted(3)
    places = fit_space(features).places(features)
    assert all(one.value > 0.95 for one in stability.jaccards(places, group(places, 3, 0), 0))
    assert min(one.value for one in stability.jaccards(places, group(places, 9, 0), 0)) < 0.75


# groups


def test_groups_come_largest_first_and_the_same_again() -> None:
    features, _ = planted(3)
    places = fit_space(features[20:]).places(features[20:])
    one, other = group(places, 3, 5), group(places, 3, 5)
    assert (one.labels == other.labels).all()
    assert (np.diff(one.sizes) <= 0).all()
    np.testing.assert_allclose(one.centres[1], places[one.labels == 1].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(one.distances(places)[7], np.linalg.norm(places[7] - one.centres[one.labels[7]]))


def test_class_tf_idf_against_the_formula() -> None:
    counts = np.array([[4.0, 0.0, 2.0], [0.0, 3.0, 3.0]])
    mean = (6 + 6) / 2
    expected = [
        [4 * math.log(1 + mean / 4), 0, 2 * math.log(1 + mean / 5)],
        [0, 3 * math.log(1 + mean / 3), 3 * math.log(1 + mean / 5)],
    ]
    np.testing.assert_allclose(class_tf_idf(counts), expected)


def test_keywords_are_the_words_of_one_group() -> None:
    texts = ["the cat sat", "a cat purred loudly", "the rocket flew", "a rocket flew loudly"]
    found = keywords(texts, np.array([0, 0, 1, 1]), 2)
    assert [words[0] for words in found] == ["cat", "flew"]
    assert keywords(["?!", "12 34"], np.array([0, 1]), 3) == [(), ()]


def test_exemplars_begin_in_the_middle_and_differ() -> None:
    places = np.array([[0, 0], [0.1, 0], [0, 1], [0, -1], [9, 9], [-9, 9], [9, -9], [-9, -9]], dtype=np.float32)
    rows = np.arange(8)
    assert exemplars(places, rows, np.zeros(2), 3).tolist() == [0, 2, 3]
    assert exemplars(places, rows[:2], np.zeros(2), 5).tolist() == [0, 1]


# odd and doubled


def one_group(places: np.ndarray) -> Grouping:
    return Grouping(np.zeros(len(places), dtype=np.int64), places.mean(axis=0, keepdims=True))


def test_isolation_against_brute_force() -> None:
    places = np.random.default_rng(0).normal(size=(1100, 5)).astype(np.float32)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    tenth = np.sort(apart, axis=1)[:, outliers.K]
    np.testing.assert_allclose(outliers.isolation(places, 0), tenth / np.median(tenth), rtol=1e-3)


def test_the_false_alarm_rate_of_outliers_is_as_stated() -> None:
    """Over Gaussian data, as many lie beyond the threshold as its share says."""
    rates = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        places = (rng.normal(size=(1500, 6)) * np.geomspace(2, 0.3, 6)).astype(np.float32)
        limit = outliers.threshold(places, one_group(places), seed, share=0.02)
        rates.append(np.mean(outliers.isolation(places, seed) > limit))
    assert 0.013 < np.mean(rates) < 0.028


def test_an_outlier_is_found() -> None:
    features, _ = planted(3, apart=4)
    features[5] = -features[:3].sum(axis=0)
    places = fit_space(features).places(features)
    found = outliers.isolation(places, 0)
    assert found.argmax() == 5
    assert found[5] > outliers.threshold(places, group(places, 3, 0), 0)


def test_near_duplicates_name_the_first_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1500, 40)).astype(np.float32)
    features[1300] = features[3] + 0.01 * rng.normal(size=40)
    features[1400] = 2 * features[3]  # length says nothing
    found = outliers.near_duplicates(features)
    assert {int(row): int(found[row]) for row in np.flatnonzero(found >= 0)} == {1300: 3, 1400: 3}


def test_what_is_like_a_copy_only_is_no_copy() -> None:
    turns = np.deg2rad([0, 15, 30, 180, 195, 90, 270])
    rows = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    features = np.concatenate([rows, -rows])  # of mean 0, so that angles stay
    first = outliers.near_duplicates(features, alike=0.95)
    assert first[1] == 0
    assert first[2] == -1  # 30 degrees from the first, and the one between is a copy itself


# space, map


def test_places_are_of_unit_length_and_a_cloud_has_the_spread_of_the_data() -> None:
    features, _ = planted(4, n=2000)
    space = fit_space(features)
    places, cloud = space.places(features), space.cloud(2000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(cloud.var(axis=0), places.var(axis=0), atol=0.05)


def hidden_groups() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(source, its labels, target, its groups): the widest direction varies within classes, and hides the groups."""
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(400, 6)) * [3, 0.3, 0.3, 0.3, 0.3, 0] + [0, 0, 0, 0, 0, 30] for _ in range(2))
    y, truth = np.arange(400) % 4, np.arange(400) % 2
    source[:, 2] += 1.5 * (y % 2)
    source[:, 3] += 1.5 * (y // 2)
    target[:, 4] += 2.0 * truth
    return source, y, target, truth


def test_source_labels_shrink_what_varies_within_classes() -> None:
    source, y, target, truth = hidden_groups()
    shape = shape_of(source, y)
    assert shape[0, 0] < shape[4, 4]
    plain, shaped = (group(fit_space(target, given).places(target), 2, 0).labels for given in (None, shape))
    assert adjusted_rand_score(truth, plain) < 0.1
    assert adjusted_rand_score(truth, shaped) > 0.9


def test_the_map_keeps_planted_groups_apart() -> None:
    features, y = planted(3, n=150, apart=3)
    found = chart(unit(features), 0)
    assert np.abs(found).max() == pytest.approx(1)
    assert adjusted_rand_score(y, group(found, 3, 0).labels) > 0.9
    assert (found == chart(unit(features), 0)).all()


def test_an_item_lands_beside_its_like() -> None:
    known = np.eye(8, dtype=np.float32)
    positions = np.arange(16, dtype=np.float32).reshape(8, 2)
    np.testing.assert_allclose(beside(known[[2, 6]], known, positions), positions[[2, 6]], atol=1e-3)


# against labels


def test_indices_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, labels = rng.integers(4, size=200), rng.integers(6, size=200)
    labels[:80] = y[:80]
    weights = rng.integers(3, size=(2, 200))
    found = indices(y, labels, np.concatenate([np.ones((1, 200)), weights]))
    for row, weight in enumerate([np.ones(200, dtype=int), *weights]):
        a, b = np.repeat(y, weight), np.repeat(labels, weight)
        assert found["ari"][row] == pytest.approx(adjusted_rand_score(a, b))
        assert found["nmi"][row] == pytest.approx(normalized_mutual_info_score(a, b))


def test_intervals_of_agreement_hold_the_truth() -> None:
    """Labels that are kept with probability 0.8: the index of a large sample lies in most intervals of small ones."""

    def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        y = rng.integers(3, size=n)
        return y, np.where(rng.random(n) < 0.8, y, rng.integers(3, size=n))

    truth = adjusted_rand_score(*sample(200_000, 99))
    held = 0
    for seed in range(40):
        y, labels = sample(200, seed)
        scores, differences = agreement(y, {"own": labels, "other": y}, "own", seed)
        held += scores["own"]["ari"].low <= truth <= scores["own"]["ari"].high
        assert scores["other"]["ari"].value == scores["other"]["ari"].low == 1
        assert differences["other"]["ari"].high < 0
    assert held >= 34


# what to label


def test_proposals_cover_planted_groups_and_every_prefix_does_its_best() -> None:
    features, y = planted(5, apart=3)
    places = fit_space(features).places(features)
    chosen = propose(places, 12, 0)
    assert len(set(chosen)) == 12
    assert set(y[chosen[:5]]) == set(range(5))
    assert (propose(places, 6, 0) == chosen[:6]).all()


def test_the_greedy_choice_is_that_of_brute_force() -> None:
    places = unit(np.random.default_rng(0).normal(size=(90, 4)))
    likeness, chosen = np.maximum(places @ places.T, 0), list[int]()
    for _ in range(8):
        rest = [row for row in range(90) if row not in chosen]
        chosen.append(max(rest, key=lambda row: likeness[[*chosen, row]].max(axis=0).sum()))
    assert cover(places, 8).tolist() == chosen
    assert sorted(cover(places, 90)) == list(range(90))


# the whole way


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny"))


def texts(n: int = 60) -> list[str]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(" ".join(rng.choice(WORDS, rng.integers(4, 9))) for _ in range(n)))


def test_the_folder_is_whole_and_fit_takes_it(tiny: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"text": texts(), "label": ["a", "b"] * (len(texts()) // 2)})
    table.to_csv(tmp_path / "data.csv", index=False)
    out = tmp_path / "groups"
    arguments = ("--groups", 2, "--backbone", tiny, "--label-a-few", 30, "--label", "label", "--out", out, "--quiet")
    assert call("cluster", tmp_path / "data.csv", *arguments) == 0
    assert {path.name for path in out.iterdir()} == {"clusters.json", "groups.csv", "report.html", "label_these.csv"}
    told = json.loads((out / "clusters.json").read_text())
    rows = pd.read_csv(out / "groups.csv", keep_default_na=False)
    assert sum(group["size"] for group in told["groups"]) == len(rows) == told["n"] == len(table)
    assert set(rows["group"]) == {"group 1", "group 2"}
    assert told["measured"]["scores"]["these groups"].keys() == {"ari", "nmi"}
    assert [one.split()[0] for one in told["measured"]["scores"]][1:] == ["k-means", "k-means"]

    again = headstart.read(out / "groups.csv", label="group")
    assert (again.task, again.input_name, len(again)) == ("classification", "text", len(table))
    assert set(again.column("label")) == {"group 1", "group 2"}

    few = pd.read_csv(out / "label_these.csv", keep_default_na=False)
    assert few.columns.tolist() == ["text", "label", "group"]
    assert few["text"].tolist() == told["proposals"]
    few.loc[:23, "label"] = ["odd", "even"] * 12
    few.to_csv(out / "label_these.csv", index=False)
    model = headstart.fit(str(out / "label_these.csv"), backbone=tiny, strategy="probe", scratch=False)
    assert model.task.score_names == ("even", "odd") or list(model.task.score_names) == ["even", "odd"]
    assert "6 texts with no value for 'label'" in model.files["metrics.json"].decode()


def test_labels_do_not_change_the_groups(tiny: str) -> None:
    given = texts()
    plain = headstart.cluster(headstart.read(given), backbone=tiny, groups=3)
    labelled = headstart.cluster(headstart.read(given, ["x", "y", "z"] * 20), backbone=tiny, groups=3)
    assert (plain.table == labelled.table).all(axis=None)
    assert plain.measured is None
    assert labelled.measured is not None


def test_a_random_network_sees_no_groups_and_says_so(
    tiny: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("\n".join(["text", *texts()]))
    assert call("cluster", tmp_path / "data.csv", "--backbone", tiny, "--out", tmp_path / "out", "--quiet") == 0
    assert "No groups found" in capsys.readouterr().out
    assert "No groups found" in (tmp_path / "out" / "report.html").read_text()
    assert set(pd.read_csv(tmp_path / "out" / "groups.csv", keep_default_na=False)["group"]) == {""}


def test_a_source_is_told_of_and_kept_out_where_it_does_not_help(tiny: str) -> None:
    source = headstart.read(texts(90)[60:], ["p", "q", "r"] * 10)
    found = headstart.cluster(headstart.read(texts()), backbone=tiny, groups=2, source=source)
    assert found.shaping is not None
    assert (found.shaping.n, found.shaping.n_classes, found.shaping.kept) == (30, 3, False)
    assert "plain space was kept" in found.shaping.said


def test_a_source_is_taken_where_groups_get_clearly_more_stable(tiny: str) -> None:
    source, y, target, truth = hidden_groups()
    dataset = headstart.read([f"these are the words of text {i}" for i in range(len(target))])
    items = Items(
        dataset=dataset,
        modality=registry.modality("text"),
        digests=[""] * len(target),
        findings=(),
        features=target,
    )
    labels = headstart.read([f"and those of text {i}" for i in range(len(y))], [f"class {label}" for label in y])
    grouped = group_items(items, (labels, shape_of(source, y)), 2, 0, Progress())
    assert grouped.shaping is not None
    assert grouped.shaping.kept
    assert "shaped the space" in grouped.shaping.said
    assert adjusted_rand_score(truth, grouped.grouping.labels) > 0.9


def test_pictures_in_memory_are_put_beside_the_list(pictures: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = [draw(rng, striped=i % 2 == 0) for i in range(40)]
    found = headstart.cluster(headstart.read(given), label_a_few=4, groups=2, out=tmp_path / "out")
    few = pd.read_csv(tmp_path / "out" / "label_these.csv")
    assert all((tmp_path / "out" / name).is_file() for name in few["image"])
    assert few["image"].tolist() == [f"item-{i:04d}.png" for i in range(1, 5)]
    assert "<img" in (tmp_path / "out" / "report.html").read_text()
    striped = np.arange(40) % 2 == 0
    assert abs(adjusted_rand_score(striped, found.table["group"])) > 0.5


@pytest.mark.parametrize(
    ("data", "said", "error", "message"),
    [
        (["a cat", "a dog", "a lamp"], {}, DataError, "at least 20"),
        (["the very same words"] * 50, {}, DataError, "1 distinct text"),
        (None, {"groups": 1}, PlanError, "groups=1"),
        (None, {"groups": 61}, PlanError, "2 to 15"),
        (None, {"label_a_few": 61}, PlanError, "label_a_few=61"),
        (None, {"label_a_few": -1}, PlanError, "label_a_few=-1"),
        (None, {"backbone": "no-such-network"}, HeadstartError, "no-such-network"),
        (None, {"source": texts()}, DataError, "has no labels"),
        (None, {"source": "pictures"}, PlanError, "The source holds images"),
    ],
)
def test_bad_input_is_one_sentence(
    data: Any, said: dict[str, Any], error: type[HeadstartError], message: str, tiny: str, pictures: Path
) -> None:
    said = {"backbone": tiny, **said}
    if said.get("source") == "pictures":
        said["source"] = pictures
    with pytest.raises(error, match=message):
        headstart.cluster(headstart.read(texts() if data is None else data), **said)


def test_mixed_types_are_refused() -> None:
    with pytest.raises(DataError, match="no modality takes that"):
        headstart.cluster(["a text", 3.5, np.zeros((8, 8), dtype=np.uint8)] * 10)


def test_features_that_are_all_alike_cannot_be_grouped() -> None:
    with pytest.raises(DataError, match="sees no difference"):
        fit_space(np.ones((30, 4), dtype=np.float32))


def test_nothing_is_overwritten(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="nothing was overwritten"):
        headstart.cluster(headstart.read(texts()), backbone=tiny, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
