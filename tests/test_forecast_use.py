"""The use of a run that forecasts: predict, evaluate, serve, the page, a bundle, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import headstart
from headstart.cli import app as cli
from headstart.data.layouts import PanelReading
from headstart.data.read_panel import read_panel
from headstart.deploy import bundle, hub, rolling
from headstart.deploy.ahead import continued, file_names, following
from headstart.deploy.export import export
from headstart.deploy.model import Model
from headstart.deploy.serve.app import create_app
from headstart.deploy.serve.series import WAITING, Desk
from headstart.deploy.serve.settings import Settings
from headstart.errors import DataError, HeadstartError, PlanError
from headstart.tasks.forecasting import LEVELS
from tests.test_series_backbones import save_tiny

pytest.importorskip("statsforecast")
H, T, NEW = 3, 100, 24
CALENDAR = pd.date_range("2024-01-01", periods=T + NEW, freq="D")


def table(n_steps: int, known: bool = False) -> pd.DataFrame:
    """Two series that walk at random, always the same; with a covariate for all steps there are."""
    rng = np.random.default_rng(0)
    walks = 50 + rng.normal(size=(2, T + NEW)).cumsum(axis=1)
    days = CALENDAR if known else CALENDAR[:n_steps]
    parts = []
    for name, walk in zip(("north", "south"), walks, strict=True):
        values = np.where(np.arange(len(days)) < n_steps, walk[: len(days)], np.nan)
        parts.append(pd.DataFrame({"day": days, "place": name, "sold": values}))
    found = pd.concat(parts)
    return found.assign(open=(found["day"].dt.dayofweek < 6).astype(float)) if known else found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fitted on the first T steps: a tiny network of random weights, as it is."""
    folder = tmp_path_factory.mktemp("forecasts")
    backbone = save_tiny("fracast", folder / "network")
    table(T).to_csv(folder / "old.csv", index=False)
    table(T + NEW).to_csv(folder / "new.csv", index=False)
    headstart.fit(
        folder / "old.csv",
        horizon=H,
        backbone=str(backbone),
        strategy="zero_shot",
        scratch=False,
        test_steps=20,
        out=folder / "run",
    )
    return folder / "run"


@pytest.fixture(scope="module")
def classical(run: Path) -> Path:
    """The same run as if it shipped the last value."""
    model = headstart.load(run)
    assert model.seer is not None
    seer = replace(model.seer, network=None, classical="last_value")
    return replace(model, seer=seer, run=None).save(run.with_name("classical"))


def ask(*words: Any) -> Any:
    """The command line, which must succeed."""
    result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_predict_goes_on_from_what_the_run_learnt_from(run: Path) -> None:
    told = json.loads(ask("predict", run, "--json").stdout)
    assert [(one["series"], one["time"]) for one in told["predictions"]] == [
        (name, str(day.date())) for name in ("north", "south") for day in CALENDAR[T : T + H]
    ]
    direct = headstart.load(run).forecast(run.with_name("old.csv"))
    np.testing.assert_allclose([one["sold"] for one in told["predictions"]], direct["sold"], rtol=1e-6)


def test_bands_hold_each_other_and_the_median(run: Path) -> None:
    found = headstart.load(run).forecast()
    columns = ["low 95 %", "low 80 %", "sold", "high 80 %", "high 95 %"]
    assert (np.diff(found[columns].to_numpy(), axis=1) >= 0).all()


def test_a_newer_file_is_gone_on_from(run: Path) -> None:
    found = headstart.load(run).forecast(run.with_name("new.csv"))
    assert found["time"].min() == CALENDAR[-1] + pd.Timedelta(days=1)


def test_a_longer_horizon_begins_with_the_fitted_one_and_warns(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    result = ask("predict", run, "--horizon", 2 * H + 1, "--out", out)
    assert "no test measured" in result.stderr
    longer = pd.read_parquet(out)
    shorter = headstart.load(run).forecast()
    assert len(longer) == 2 * (2 * H + 1)
    pd.testing.assert_frame_equal(longer.groupby("series").head(H).reset_index(drop=True), shorter)
    width = (longer["high 80 %"] - longer["low 80 %"]).to_numpy().reshape(2, -1)
    assert (width[:, H] >= width[:, H - 1]).all()  # what a block is unsure of adds to that before it
    assert "no test measured" not in ask("predict", run, "--horizon", 1).stderr


def test_the_last_value_goes_on_for_ever(classical: Path) -> None:
    found = headstart.load(classical).forecast(horizon=4 * H)
    last = table(T).groupby("place")["sold"].last()
    np.testing.assert_allclose(found["sold"], np.repeat(last.to_numpy(), 4 * H))


def test_a_picture_of_each_series_is_drawn(classical: Path, tmp_path: Path) -> None:
    ask("predict", classical, "--draw", tmp_path / "drawn", "--jsonl")
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["north.svg", "south.svg"]
    assert (tmp_path / "drawn" / "north.svg").read_text().count("<path") > 5
    assert file_names(["a/b", "a b", "..", "c"]) == ["a-b-1", "a-b-2", "series", "c"]


def test_known_times_come_before_those_of_the_frequency() -> None:
    panel = read_panel(table(T, known=True), PanelReading(known=("open",)))
    assert len(panel.times) == T + NEW
    np.testing.assert_array_equal(following(panel, NEW + 1)[:NEW], CALENDAR[T:].to_numpy())
    longer = continued(panel, np.zeros((2, H)))
    assert longer.n_steps == T + H
    np.testing.assert_array_equal(longer.times, panel.times)
    assert longer.known["open"].shape == (2, T + NEW)


def test_what_must_be_known_must_reach_as_far_as_the_horizon(run: Path) -> None:
    model = headstart.load(run)
    assert model.seer is not None
    assert model.seer.network is not None
    panel = read_panel(table(T, known=True), PanelReading(known=("open",)))
    outlooks: Any = object()  # a head that reads covariates
    network = replace(model.seer.network, outlooks=outlooks)
    needs = replace(model, seer=replace(model.seer, network=network, panel=panel.until(0)))
    with pytest.raises(DataError, match=rf"'open' must be known in advance.*known for {NEW} of the {NEW + 1} steps"):
        needs.ahead(panel, NEW + 1)
    with pytest.raises(DataError, match=r"lacks columns.*open"):
        needs.ahead(read_panel(table(T)), H)


@pytest.mark.parametrize("which", ["run", "classical"])
def test_evaluate_measures_only_what_is_new(run: Path, which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    told = json.loads(ask("evaluate", folder, run.with_name("new.csv"), "--json").stdout)
    assert told["n"] == 2 * (NEW - H + 1)
    assert {"mase", "wql", "smape", "coverage_80", "coverage_95"} <= told["metrics"].keys()
    result = CliRunner().invoke(cli, ["evaluate", str(folder), str(run.with_name("old.csv"))])
    assert isinstance(result.exception, DataError)
    assert "no step after those that the run was fitted on" in str(result.exception)


def test_evaluate_scores_the_last_value_as_by_hand(classical: Path, run: Path) -> None:
    found = headstart.load(classical).evaluate(run.with_name("new.csv"))
    wide = table(T + NEW).pivot_table(index="day", columns="place", values="sold").to_numpy()
    scales = np.abs(np.diff(wide[:T], axis=0)).mean(axis=0)
    errors = [
        np.abs(wide[origin + 1 : origin + 1 + H] - wide[origin]).mean(axis=0) / scales
        for origin in range(T - 1, T + NEW - H)
    ]
    if headstart.load(classical).task.season == 1:  # type: ignore[attr-defined]
        assert found.metrics["mase"].value == pytest.approx(np.mean(errors), rel=1e-6)
    assert any("last value: MASE" in note for note in found.notes)


def test_a_classical_forecaster_is_not_fitted_to_what_it_is_measured_on(
    classical: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    whole = rolling.windows_at

    class Spy(type(headstart.load(classical).seer)):  # type: ignore[misc]
        def said(self, model: Any, panel: Any, windows: Any, progress: Any, until: int | None = None) -> Any:
            asked.append(until)
            return super().said(model, panel, windows, progress, until)

    model = headstart.load(classical)
    model.seer = Spy(**vars(model.seer))
    model.evaluate(run.with_name("new.csv"))
    assert asked == [T]
    assert whole is rolling.windows_at


def test_what_is_new_without_dates_is_found_by_the_last_values() -> None:
    rng = np.random.default_rng(1)
    walk = rng.normal(size=120).cumsum()
    seen = read_panel({"a": walk[:80]})
    assert rolling.first_new(read_panel({"a": walk}), seen) == 80
    assert rolling.first_new(read_panel({"a": walk[30:]}), seen) == 50
    assert rolling.first_new(read_panel({"a": walk[10:60]}), seen) == 50  # an earlier part: nothing is new
    assert rolling.first_new(read_panel({"a": rng.normal(size=60)}), seen) < 20  # other data


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["RUN", "a.csv", "b.csv"], "one file"),
        (["RUN", "--all-boxes"], "boxes"),
        (["RUN", "nowhere.csv"], "not there"),
    ],
)
def test_what_cannot_be_predicted_is_said(run: Path, words: list[str], match: str) -> None:
    result = CliRunner().invoke(cli, ["predict", *(str(run) if word == "RUN" else word for word in words)])
    assert isinstance(result.exception, HeadstartError)
    assert match in str(result.exception)


def test_the_report_of_a_run_is_said_again(run: Path) -> None:
    said = ask("report", run).stdout
    assert "against" in said
    assert "80 %" in said
    assert "this model" in said
    assert max(map(len, said.split("Chosen:")[0].splitlines())) <= 100


def test_no_export_and_no_probabilities(run: Path, tmp_path: Path) -> None:
    model = headstart.load(run)
    with pytest.raises(PlanError, match="cannot be exported"):
        export(model, "onnx", tmp_path / "out")
    with pytest.raises(PlanError, match="quantiles"):
        model.predict_proba([1.0])


def test_a_bundle_forecasts_without_its_old_backbone(run: Path, classical: Path, tmp_path: Path) -> None:
    folder = bundle.bundle(headstart.load(run), tmp_path / "bundle")
    assert (folder / "backbone").is_dir()
    assert "--horizon" in (folder / "USE.md").read_text()
    pd.testing.assert_frame_equal(headstart.load(folder).forecast(), headstart.load(run).forecast())
    alone = bundle.bundle(headstart.load(classical), tmp_path / "alone")
    assert not (alone / "backbone").exists()
    assert "headstart[forecasting]" in (alone / "requirements.txt").read_text()


def test_a_push_shows_no_values_and_no_names(run: Path) -> None:
    public = hub.public_files(headstart.load(run), "org/sales")
    assert "history.parquet" not in public
    assert not any(b"north" in content for content in public.values())
    assert b"headstart predict org/sales SERIES.csv" in public["README.md"]


def test_the_card_says_how_to_forecast(run: Path) -> None:
    card = (run / "README.md").read_text()
    assert "time-series-forecasting" in card
    assert 'model.forecast("SERIES.csv")' in card
    assert "the 80 % band held" in card


@pytest.fixture(scope="module")
def client(run: Path, classical: Path) -> Any:
    models: dict[str, Model] = {"net": headstart.load(run), "last": headstart.load(classical)}
    with TestClient(create_app(models, Settings(items=4, steps=2_000, horizon=20))) as client:
        yield client


def test_the_server_forecasts_what_predict_does(client: TestClient, run: Path) -> None:
    panel = read_panel(table(T))
    body = {
        "series": dict(zip(panel.ids, panel.values.tolist(), strict=True)),
        "times": [str(day.date()) for day in CALENDAR[:T]],
    }
    told = client.post("/models/net/forecast", json=body).json()
    expected = headstart.load(run).forecast()
    assert told["forecasts"]["north"]["times"] == [str(day.date()) for day in CALENDAR[T : T + H]]
    median = [value for name in panel.ids for value in told["forecasts"][name]["median"]]
    np.testing.assert_allclose(median, expected["sold"], rtol=1e-6)
    assert list(told["forecasts"]["north"]["quantiles"]) == [str(level) for level in LEVELS]


def test_the_server_takes_a_file_and_asks_all_models(client: TestClient) -> None:
    csv = table(T).to_csv(index=False)
    told = client.post("/forecast?horizon=2", content=csv, headers={"content-type": "text/csv"}).json()
    last = table(T).groupby("place")["sold"].last()
    assert told["models"]["last"]["forecasts"]["south"]["median"] == pytest.approx([last["south"]] * 2)
    assert told["models"]["net"]["horizon"] == 2


WALK: list[float] = np.random.default_rng(2).normal(size=2_002).cumsum().tolist()


@pytest.mark.parametrize(
    ("body", "status", "match"),
    [
        ({"series": {}}, 422, "should"),
        ({"series": {"a": [1.0, "b"]}}, 422, ""),
        ({"series": {"a": [1.0] * 5}}, 422, "fewer than 16"),
        ({"series": {str(i): WALK[:40] for i in range(5)}}, 422, "5 series"),
        ({"series": {"a": WALK}}, 422, "2,002 steps"),
        ({"series": {"a": [1.0, 2.0] * 20}, "horizon": 21}, 422, "20 steps"),
        ({"series": {"a": [1.0, 2.0]}, "times": ["2024-01-01"]}, 422, "1 times"),
        ({"series": {"a": [1.0]}, "times": ["2024-01-01T00:00Z"]}, 422, "without a zone"),
        ({"series": {"a": [1.0, 2.0] * 10}, "times": [f"{year}-01-01" for year in range(1800, 1820)]}, 422, ""),
    ],
)
def test_the_server_refuses_too_much_and_what_is_none(
    client: TestClient, body: dict[str, Any], status: int, match: str
) -> None:
    answer = client.post("/models/net/forecast", json=body)
    assert answer.status_code == status, answer.text
    assert match in answer.json()["detail"]


def test_other_routes_send_one_on(client: TestClient) -> None:
    told = client.post("/models/net/predict", json={"items": ["a text"]})
    assert told.status_code == 422
    assert "/models/net/forecast" in told.json()["detail"]
    assert client.post("/models/no/forecast", json={"series": {"a": [1.0]}}).status_code == 404
    assert client.post("/forecast?horizon=0", json={"series": {"a": [1.0]}}).status_code == 422
    assert client.post("/forecast", content="x", headers={"content-type": "text/plain"}).status_code == 415
    assert {one["horizon"] for one in client.get("/models").json()["models"]} == {H}


def test_a_desk_lets_only_a_few_wait() -> None:
    from threading import Event

    from headstart.deploy.serve.batcher import BusyError

    desk, go = Desk(), Event()
    waiting = [desk.submit(go.wait) for _ in range(WAITING + 1)]
    with pytest.raises(BusyError):
        desk.submit(go.wait)
    go.set()
    assert all(one.result(timeout=60) for one in waiting)
    desk.close()
    with pytest.raises(BusyError):
        desk.submit(go.wait)


def test_the_page_draws_one_series_and_escapes_its_name(classical: Path) -> None:
    from headstart.deploy.forecast_page import as_file, picture

    model = headstart.load(classical)
    found = model.ahead({"<b>": np.arange(40.0) % 7, "b": np.arange(40.0) % 5}, 2 * H)
    html = picture(found, "<b>")
    assert "data:image/svg+xml" in html
    assert "<b>" not in html
    assert "Warning" in html
    assert len(pd.read_csv(as_file(found))) == 2 * 2 * H


@pytest.mark.usefixtures("gradio_loops")
@pytest.mark.filterwarnings(  # Gradio's own, as in test_app
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_the_page_of_a_run_that_forecasts_is_mounted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    from headstart.deploy import app as page

    monkeypatch.delenv("HEADSTART_TOKEN", raising=False)
    server = page.mount(page.server("127.0.0.1"), {"sales": headstart.load(run)})
    with TestClient(server, base_url="http://127.0.0.1") as client:
        assert "Steps ahead" in client.get("/").text
        assert "Diebold-Mariano" in client.get("/report/sales").text
