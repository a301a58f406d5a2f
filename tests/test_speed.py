"""The side-by-side benchmark: its table names what is there, and its figures are what the runs say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.speed import __main__ as speed
from benchmarks.speed.systems import OURS, REFERENCES, SYSTEMS, System
from benchmarks.speed.tasks import Case

ROOT = Path(speed.__file__).parent
ALL = [(task, name) for task, systems in SYSTEMS.items() for name in systems]


@pytest.fixture
def results() -> speed.Results:
    """Two systems and a floor, two runs each."""
    kept = speed.begin(Path("nowhere.json"), [])
    for name, seconds in ((REFERENCES[0], (2.0, 4.0)), ("a peer", (9.0, 9.0)), ("floor: b", (1.0, 2.0))):
        kept["sst2"]["systems"][name] = {"runs": [{"date": "2026-01-01", "seconds": one} for one in seconds]}
    speed.summarise(kept)
    return kept


@pytest.mark.parametrize(("task", "name"), ALL)
def test_every_system_is_written_and_its_environment_is_listed(task: str, name: str) -> None:
    system: System = SYSTEMS[task][name]
    assert (ROOT / f"{system.module.replace('.', '/')}.py").is_file()
    assert system.python in speed.PYTHONS
    assert system.python == OURS or (ROOT.parent / f"{system.python}.txt").is_file()


def test_kept_are_medians_their_ratio_to_ours_and_the_lowest_floor(results: speed.Results) -> None:
    systems = results["sst2"]["systems"]
    assert systems[REFERENCES[0]]["seconds"] == 3
    assert systems["a peer"]["times_ours"] == {REFERENCES[0]: 3}
    assert results["sst2"]["floor"] == "floor: b"


def test_what_is_named_runs_again_and_the_rest_is_kept(results: speed.Results, tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(json.dumps(results))
    assert set(speed.begin(tmp_path / "speed.json", [("sst2", "a peer")])["sst2"]["systems"]) == {
        REFERENCES[0],
        "floor: b",
    }


def test_figures_of_another_machine_are_not_mixed_in(results: speed.Results, tmp_path: Path) -> None:
    results["card"]["cpu"] = "another"
    (tmp_path / "speed.json").write_text(json.dumps(results))
    assert speed.begin(tmp_path / "speed.json", [])["sst2"]["systems"] == {}


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text('text,label\n"a, b",1\nc,0\n')
    rows = Case(data=tmp_path, weights=tmp_path, out=tmp_path).read("val")
    assert (rows.inputs, rows.labels) == (["a, b", "c"], [1, 0])
