"""What `headstart fit` chooses by itself, beside what a user may have guessed: the last layer, or train everything.

    python -m benchmarks.auto [NAME …]     writes benchmarks/results/auto.json

The classical model and the network from scratch are the fit's own comparisons. Each fit is a process of its own; all
share a feature cache, so that the seconds are told without the frozen pass where the cache had it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fit import ROOT, TASKS
from headstart.demo import demo_data
from headstart.progress import Progress

RESULTS = ROOT / "benchmarks" / "results" / "auto.json"
KEPT = ("backbone", "strategy", "cut", "n", "primary", "titles", "metrics", "baselines", "differences", "verdict")
GUESSES = {
    "last-layer probe": ["--strategy", "probe", "--freeze", "{n_stages}", "--no-scratch"],
    "full fine-tuning": ["--strategy", "full", "--no-scratch"],
}


def arguments(name: str) -> list[str]:
    """Those of `headstart fit`; the demo's data are fitted by their path."""
    if TASKS[name][0] != "demo":
        return TASKS[name]
    path, label = demo_data(TASKS[name][1], Progress())
    return ["fit", str(path), *(["--label", label] if label else [])]


def fit(name: str, more: list[str], out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(metrics.json, plan.json) of one fit in a process of its own."""
    command = [sys.executable, "-m", "headstart.cli", *arguments(name), *more, "--out", str(out), "--quiet"]
    subprocess.run(command, check=True)
    told, plan = (json.loads((out / file).read_text(encoding="utf-8")) for file in ("metrics.json", "plan.json"))
    return told, plan


def measure(name: str, folder: Path) -> dict[str, Any]:
    """The automatic fit, and both guesses on the same split."""
    told, plan = fit(name, [], folder / "auto")
    kept = {key: told[key] for key in KEPT}
    best = max((one for one in plan["depth"]), key=lambda one: one["score"]["value"])
    chosen = {"reason": plan["reason"], "ships": plan["ships"], "scratch_epochs": plan["scratch"].get("epochs")}
    guesses = {}
    for guess, options in GUESSES.items():
        options = [one.format(n_stages=plan["n_stages"]) for one in options]
        beside, _ = fit(name, options, folder / guess.replace(" ", "-"))
        guesses[guess] = {"metrics": beside["metrics"], "seconds": beside["seconds"]}
    return {
        **kept,
        **chosen,
        "best_probe_val": [best["name"], best["score"]],
        "seconds": told["seconds"],
        "guesses": guesses,
    }


def main() -> None:
    """Measure what was named (default: everything), and keep the figures."""
    for name in sys.argv[1:] or TASKS:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, Path(folder))
        print(f"{name}: {results[name]['reason']}; {results[name]['verdict']}", flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
