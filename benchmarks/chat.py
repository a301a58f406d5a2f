"""Chat: what a small language model learns from 500 conversations, what that takes, and the speed beside its peers.

    python -m benchmarks.chat [medquad chatterbot clinc steps reach]      writes results/chat.json

Each fit is `headstart fit` on files with a column of splits, in a process of its own with an empty feature cache.
`steps` and `reach` train beside transformers' Trainer with PEFT and TRL (`make peers`), on the same tokens in the same
batches. Nothing is begun before the machine is quiet; what others took of it meanwhile is kept beside the times.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import chat_data
from benchmarks.boxes import home
from benchmarks.fit import ROOT
from benchmarks.speed import machine

RESULTS = ROOT / "benchmarks" / "results" / "chat.json"
PEER = ROOT / ".peers" / "peers-chat" / "bin" / "python"
BATCH, N_STEPS, REPEATS = 8, 10, 3
EVERY = 10  # steps between looks at validation
QUIET, LOOK_S, WAIT_S = 0.25, 5.0, 1800.0  # cores that others may use; seconds of a look; seconds to wait at most
WITHIN = "frozen outputs"  # a step that is timed within another
SAME_IN_FLOAT32 = ("ours, float32", "Trainer, float32", "TRL, float32")  # the rest stands beside ours in bfloat16
TICKS = os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Seconds that the machine's cores have worked so far, all of them together."""
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / TICKS


def when_quiet() -> float:
    """Wait until others use little of the machine; cores that they use. Where they never do, nothing is measured."""
    start, used = time.perf_counter(), float("inf")
    while used > QUIET:
        if time.perf_counter() - start > WAIT_S:
            raise SystemExit(f"Others use {used:.2f} cores: what is measured beside them would not be true. Try later.")
        before = busy_s()
        time.sleep(LOOK_S)
        used = (busy_s() - before) / LOOK_S
    return used


def measured(command: list[str], environment: dict[str, str]) -> tuple[str, dict[str, float]]:
    """(what a process of its own writes, what it took)."""
    before_cores, load = when_quiet(), os.getloadavg()[0]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        busy, start = busy_s(), time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **environment}, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
        others = (busy_s() - busy - cpu) / wall
        for file in (out, err):
            file.seek(0)
        if status:
            raise RuntimeError(f"{command} failed: {err.read()[-2000:]}")
        took = {
            "wall_s": wall,
            "cpu_s": cpu,
            "peak_gb": used.ru_maxrss * 1024 / 1e9,
            "load_before": load,
            "others_cores_before": before_cores,
            "others_cores": max(0.0, others),
        }
        return out.read(), took


def fit(data: Path, name: str, scratch: Path, *more: str) -> dict[str, Any]:
    """One `headstart fit` with an empty feature cache."""
    command = [sys.executable, "-m", "headstart.cli", "fit", str(data), *more, "--out", str(scratch / f"run-{name}")]
    shown, took = measured([*command, "--json"], {"HEADSTART_HOME": str(home(scratch, name))})
    return told(json.loads(shown)) | took


def told(run: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run."""
    plan = json.loads((Path(run["run"]) / "plan.json").read_text())
    chat = run["chat"]
    return {
        "n": run["n"],
        "compute_s": sum(s for name, s in run["seconds"].items() if name != WITHIN),
        **{
            key: run[key]
            for key in ("seconds", "primary", "titles", "metrics", "baselines", "differences", "verdict", "backbone")
        },
        **{key: plan[key] for key in ("strategy", "cut", "n_stages", "settings", "reason")},
        "depth": [{"name": one["name"], "score": one["score"]} for one in plan["depth"]],
        "candidates": [
            {key: one[key] for key in ("title", "cost_passes", "seconds", "score", "outcome")} | one["settings"]
            for one in plan["candidates"]
        ],
        **{key: chat[key] for key in ("n_asked", "forgetting", "parroting", "lengths")},
        "samples": chat["samples"][:4],
    }


def medquad(scratch: Path) -> dict[str, Any]:
    """Consumers' questions of health, 400 to learn from, 100 to choose by; the test's diseases are never seen."""
    return fit(chat_data.medquad(scratch), "medquad", scratch, "--task", "chat", "--group", "focus")


def chatterbot(scratch: Path) -> dict[str, Any]:
    """300 conversations of chatterbot-corpus, as YAML."""
    return fit(chat_data.chatterbot(scratch), "chatterbot", scratch)


def clinc(scratch: Path) -> dict[str, Any]:
    """Requests to a bank and to a travel agency, with a reply made of the intent, as messages."""
    return fit(chat_data.clinc(scratch), "clinc", scratch)


@dataclass(frozen=True)
class Bench:
    """Trainings of ours and of peers in processes of their own, on the same tokens."""

    scratch: Path
    data: Path

    def ours(self, name: str, way: dict[str, Any], precision: str, most: int | None, every: int) -> dict[str, Any]:
        """Ours; its first run of a cut fills the cache, which the next ones read."""
        folder = self._asked(name, {"data": str(self.data), **way, "most": most, "every": every})
        own = self.scratch / "home-ours"
        cache = own if own.exists() else home(self.scratch, "ours")
        environment = {"HEADSTART_HOME": str(cache)}
        if precision == "float32":
            environment["HEADSTART_PRECISION"] = "float32"
        _, took = measured([sys.executable, "-m", "benchmarks.chat_ours", str(folder)], environment)
        return json.loads((folder / "said.json").read_text()) | {"process": took}

    def peer(self, name: str, tokens: str, asked: dict[str, Any]) -> dict[str, Any]:
        """A peer's, on the tokens that a training of ours called `tokens` has left."""
        weights = self.scratch / "home-ours" / "weights" / "smollm2-135m"
        folder = self._asked(name, {"weights": str(weights.resolve()), "batch_size": BATCH, **asked})
        shutil.copy(self.scratch / tokens / "tokens.json", folder)
        _, took = measured([str(PEER), str(ROOT / "benchmarks" / "chat_peer.py"), str(folder)], {})
        return json.loads((folder / "said.json").read_text()) | {"process": took}

    def _asked(self, name: str, asked: dict[str, Any]) -> Path:
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "asked.json").write_text(json.dumps(asked))
        return folder


def peers_for(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Who stands beside ours in `steps`: name -> what is asked of it."""
    half = {"settings": settings, "first_layer": settings["freeze"] - 1, "defaults": False, "every": 0}
    found = {}
    for precision in ("bfloat16", "float32"):
        for library in ("Trainer", "TRL"):
            found[f"{library}, {precision}"] = {**half, "library": library, "precision": precision}
    light = {**half, "library": "Trainer", "precision": "bfloat16", "weights_as": "bfloat16"}
    found["Trainer, bfloat16, frozen weights in it too"] = light
    everywhere = {**half, "first_layer": 0, "precision": "float32"}
    found["Trainer, all layers, float32"] = {**everywhere, "library": "Trainer"}
    found["TRL, its defaults, float32"] = {**everywhere, "library": "TRL", "defaults": True}
    return found


def lora(epochs: int, freeze: int | None = None) -> dict[str, Any]:
    """Our adapters above a cut: that of the upper half, if none is named."""
    from headstart.chat_workshop import ADAPTERS

    settings = {**ADAPTERS, "freeze": 16 if freeze is None else freeze, "epochs": epochs, "batch_size": BATCH}
    return {"strategy": "lora", "settings": settings}


def of_steps(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds a step of one system in several runs: the first step of each does not count."""
    wall = [b - a for run in runs for a, b in zip(run["at"][1:], run["at"][2:], strict=False)]
    cpu = [b - a for run in runs for a, b in zip(run["at_cpu"][1:], run["at_cpu"][2:], strict=False)]
    quartiles = statistics.quantiles(wall, n=4)
    return {
        "step_s": statistics.median(wall),
        "quartiles_s": [quartiles[0], quartiles[2]],
        "fastest_s": min(wall),
        "step_cpu_s": statistics.median(cpu),
        "a_run_s": [
            statistics.median([b - a for a, b in zip(run["at"][1:], run["at"][2:], strict=False)]) for run in runs
        ],
        "n": len(wall),
        "loss": runs[0]["loss"],
        "peak_gb": max(run["process"]["peak_gb"] for run in runs),
        "others_cores": max(run["process"]["others_cores"] for run in runs),
        **{key: runs[0][key] for key in ("n_trained", "learning_rate", "gradient_checkpointing") if key in runs[0]},
    }


def steps(scratch: Path) -> dict[str, Any]:
    """Seconds a step over the same batches, ours and the peers in turn, several times; kept after each round."""
    bench, way, n = Bench(scratch, chat_data.medquad(scratch)), lora(1), N_STEPS * BATCH
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(REPEATS):
        for precision in ("bfloat16", "float32"):
            own = bench.ours(f"ours-{precision}", way, precision, n, 0)
            runs.setdefault(f"ours, {precision}", []).append(own)
        for name, asked in peers_for(way["settings"]).items():
            runs.setdefault(name, []).append(bench.peer("peer", "ours-bfloat16", asked))
        keep("steps", beside_ours(runs) | {"way": way})
    return beside_ours(runs) | {"way": way}


def beside_ours(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What each system takes for a step, as a multiple of ours, and how far its loss is from ours."""
    systems = {name: of_steps(some) for name, some in runs.items()}
    for name, one in systems.items():
        own = systems["ours, float32" if name in SAME_IN_FLOAT32 else "ours, bfloat16"]
        one |= {"ratio": one["step_s"] / own["step_s"], "ratio_cpu": one["step_cpu_s"] / own["step_cpu_s"]}
        one["loss_apart"] = max(abs(a - b) for a, b in zip(one["loss"], own["loss"], strict=True))
        one["last_loss_apart"] = one["loss"][-1] - own["loss"][-1]
    return {
        "batch": BATCH,
        "steps": N_STEPS,
        "frozen": {name: runs[f"ours, {name}"][0]["frozen"] for name in ("bfloat16", "float32")},
        "systems": systems,
        "versions": runs["Trainer, float32"][0]["versions"],
    }


def reach(scratch: Path) -> dict[str, Any]:
    """Held-out perplexity against seconds: ours as `fit` chose it, and above half; the peers everywhere, in float32."""
    bench, chosen = Bench(scratch, chat_data.medquad(scratch)), json.loads(RESULTS.read_text())["medquad"]
    ours = {
        "as chosen": {"strategy": chosen["strategy"], "settings": chosen["settings"]},
        "upper half, one epoch": lora(1),
    }
    found: dict[str, Any] = {}
    for name, way in ours.items():
        run = bench.ours(f"ours-{name.split()[0]}", way, "bfloat16", None, EVERY)
        found[f"ours, {name}"] = reached(run) | way
    everywhere = {"settings": lora(1)["settings"], "first_layer": 0, "precision": "float32", "every": EVERY}
    for name, asked in {
        "Trainer, all layers, float32": {**everywhere, "library": "Trainer", "defaults": False},
        "TRL, its defaults, float32": {**everywhere, "library": "TRL", "defaults": True},
    }.items():
        found[name] = reached(bench.peer("peer", "ours-upper", asked))
        print(name, found[name]["curve"], flush=True)
    for name, one in found.items():
        one["s_to_ours"] = {
            own: seconds_to(one, found[own]["perplexity"]) for own in found if own.startswith("ours") and own != name
        }
    return found


def reached(run: dict[str, Any]) -> dict[str, Any]:
    """The curve of one training, the frozen pass counted, and where it ends."""
    frozen = run.get("frozen", {"s": 0.0})["s"]
    curve = [{**one, "s": one["s"] + frozen} for one in run["curve"]]
    return {
        "frozen_s": frozen,
        "s": run["at"][-1] + frozen,
        "cpu_s": run["at_cpu"][-1] + run.get("frozen", {"cpu_s": 0.0})["cpu_s"],
        "perplexity": run.get("perplexity", curve[-1]["perplexity"]),
        "curve": curve,
        "process": run["process"],
    }


def seconds_to(run: dict[str, Any], perplexity: float) -> float | None:
    """When a training first stood there, in a straight line between two looks; None where it never did."""
    before: dict[str, Any] | None = None
    for one in run["curve"]:
        if one["perplexity"] <= perplexity:
            if before is None:
                return float(one["s"])
            share = (before["perplexity"] - perplexity) / (before["perplexity"] - one["perplexity"])
            return float(before["s"] + share * (one["s"] - before["s"]))
        before = one
    return None


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "medquad": medquad,
    "steps": steps,
    "reach": reach,
    "chatterbot": chatterbot,
    "clinc": clinc,
}


def keep(name: str, found: dict[str, Any]) -> None:
    """Among the results."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"machine": machine.card(), name: found}
    RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


def main() -> None:
    """Measure what was named (default: all), and keep the figures."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as scratch:
            found = PARTS[name](Path(scratch))
        keep(name, found)
        print(name, json.dumps(found, indent=1)[:3000], flush=True)


if __name__ == "__main__":
    main()
