"""Run the systems by turns, each in a process of its own, and keep medians: see `benchmarks.speed`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import benchmarks.speed
from benchmarks.fit import ROOT
from benchmarks.speed.machine import card
from benchmarks.speed.systems import AUTOGLUON, NEWEST, OURS, PEERS, REFERENCES, SYSTEMS
from benchmarks.speed.tasks import prepare
from headstart import places

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
REPEATS, LIMIT_S = 3, 3600
PYTHONS = {OURS: sys.executable} | {
    name: str(ROOT / ".peers" / name / "bin" / "python") for name in (PEERS, NEWEST, AUTOGLUON)
}
Results = dict[str, Any]  # "card", and for each task its "n", its "floor" and its "systems" by name


def measure(task: str, name: str, data: Path) -> dict[str, Any]:
    """One run with an empty cache; RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "weights").symlink_to(places.weights())
        apart = {**os.environ, "HEADSTART_HOME": home, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
        command = [PYTHONS[SYSTEMS[task][name].python], "-m", "benchmarks.speed.run", task, name, str(data)]
        try:
            done = subprocess.run(command, cwd=ROOT, env=apart, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{task}: {name} took more than {LIMIT_S} s") from error
    if done.returncode:
        raise RuntimeError(f"{task}: {name} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def begin(out: Path, again: list[tuple[str, str]]) -> Results:
    """What is kept from before on this very machine, less what is to run again: (task, system)."""
    kept = json.loads(out.read_text()) if out.exists() else {}
    if kept.get("card") != card():
        kept = {"card": card()}
    for task in SYSTEMS:
        kept.setdefault(task, {"systems": {}})
    for task, name in again:
        kept[task]["systems"].pop(name, None)
    return kept


def summarise(results: Results) -> None:
    """Medians of the runs, seconds over ours, and which floor is the lowest."""
    for task in SYSTEMS:
        systems = results[task]["systems"]
        for system in systems.values():
            numbers = [key for key, value in system["runs"][0].items() if isinstance(value, (int, float))]
            system |= {key: statistics.median(run[key] for run in system["runs"]) for key in numbers}
        ours = {name: systems[name]["seconds"] for name in REFERENCES if name in systems}
        for system in systems.values():
            system["times_ours"] = {name: system["seconds"] / seconds for name, seconds in ours.items()}
        floors = [name for name in systems if name.startswith("floor")]
        if floors:
            results[task]["floor"] = min(floors, key=lambda name: systems[name]["seconds"])


def chosen(tasks: list[str], names: list[str]) -> list[tuple[str, str]]:
    """(task, system) of all that was asked for and can run; says which environment is lacking."""
    found = [(task, name) for task in tasks for name in SYSTEMS[task] if not names or name in names]
    lacking = {SYSTEMS[task][name].python for task, name in found} - {
        name for name, python in PYTHONS.items() if Path(python).exists()
    }
    for name in sorted(lacking):
        print(f"left out for lack of {PYTHONS[name]} (make peers): what needs {name}", flush=True)
    return [(task, name) for task, name in found if SYSTEMS[task][name].python not in lacking]


def main() -> None:
    """Run what was named (default: what is not measured yet) by turns; every run is kept at once."""
    parser = argparse.ArgumentParser(
        description=benchmarks.speed.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="names of systems; default: all")
    parser.add_argument("--task", choices=list(SYSTEMS), action="append", help="only of this task; default: of all")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures are kept")
    parser.add_argument("--list", action="store_true", help="say what there is, and do nothing")
    given = parser.parse_args()
    unknown = set(given.systems) - {name for systems in SYSTEMS.values() for name in systems}
    if unknown:
        parser.error(f"no system is called {', '.join(map(repr, sorted(unknown)))}; --list says what there is")
    wanted = chosen(given.task or list(SYSTEMS), given.systems)
    if given.list:
        print("\n".join(f"{task:8} {name}" for task, name in wanted))
        return
    results = begin(given.out, wanted if given.systems else [])
    with tempfile.TemporaryDirectory() as scratch:
        folders = {task: Path(scratch) / task for task in dict.fromkeys(task for task, _ in wanted)}
        for task, folder in folders.items():
            folder.mkdir()
            if task != "machine":
                results[task]["n"] = prepare(task, folder)
        failed = 0
        for turn in range(given.repeats):
            for task, name in wanted:
                if len(results[task]["systems"].get(name, {"runs": []})["runs"]) > turn:
                    continue
                try:
                    found = {"date": date.today().isoformat(), **measure(task, name, folders[task])}
                except RuntimeError as error:  # the others go on
                    print(error, flush=True)
                    failed += 1
                    continue
                print(f"{task:8} {name:50} {json.dumps(found)}", flush=True)
                results[task]["systems"].setdefault(name, {"runs": []})["runs"].append(found)
                summarise(results)
                given.out.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(f"{failed} runs failed" if failed else 0)


if __name__ == "__main__":
    main()
