"""What `headstart fit` chooses by itself on real data, beside the classical model and the network from scratch.

python -m benchmarks.auto [NAME …]     fits, one run each; writes benchmarks/results/auto.json
python -m benchmarks.auto NAME=RUN     takes the figures of a run folder that is there already
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.fit import ROOT, TASKS

RESULTS = ROOT / "benchmarks" / "results" / "auto.json"
KEPT = ("backbone", "strategy", "cut", "n", "primary", "titles", "metrics", "baselines", "differences", "verdict")


def collect(run: Path) -> dict:
    """The figures of a run folder."""
    told, plan = (json.loads((run / name).read_text(encoding="utf-8")) for name in ("metrics.json", "plan.json"))
    kept = {key: told[key] for key in KEPT}
    best = max((one for one in plan["depth"]), key=lambda one: one["score"]["value"])
    chosen = {"reason": plan["reason"], "ships": plan["ships"], "scratch_epochs": plan["scratch"].get("epochs")}
    return {**kept, **chosen, "best_probe_val": [best["name"], best["score"]], "seconds": sum(told["seconds"].values())}


def main() -> None:
    """Fit, or collect, what was named (default: everything), and keep the figures."""
    for given in sys.argv[1:] or TASKS:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        name, _, run = given.partition("=")
        if run:
            results[name] = collect(Path(run))
        else:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "run"
                subprocess.run(
                    [sys.executable, "-m", "headstart.cli", *TASKS[name], "--out", str(out), "--quiet"], check=True
                )
                results[name] = collect(out)
        print(f"{name}: {results[name]['reason']}; {results[name]['verdict']}", flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
