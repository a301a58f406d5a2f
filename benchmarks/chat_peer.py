"""transformers' Trainer with PEFT, or TRL's SFTTrainer, as benchmarks.chat asks for it, run by a Python that has them.

    python benchmarks/chat_peer.py FOLDER    reads asked.json and tokens.json there; writes said.json

They get the same tokens in the same batches. Unless their defaults are asked for, AdamW, its rates, the longest
gradient and the adapters' first weights are those of our training too, and what takes time without need is off
(gradient checkpointing). The time of loading, of making the trainer and of measuring on validation does not count.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

AT_ONCE = 16  # conversations of validation
EPSILON, WARM_UP, LONGEST_GRADIENT = 1e-6, 0.1, 10.0  # of our training
HIDDEN = -100  # a label that is not learnt
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def rate(step: int, n_steps: int) -> float:
    """Of our training: up in a straight line, then down along a cosine."""
    rise = max(1, round(WARM_UP * n_steps))
    if step < rise:
        return (step + 1) / rise
    return max(1e-3, 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, n_steps - rise))))


def padded(rows: list[dict[str, Any]], pad: int = 0) -> dict[str, Any]:
    """A batch (N, T)."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=HIDDEN),
    }


def labelled(one: dict[str, list[int]]) -> dict[str, list[int]]:
    """A conversation as transformers learns it."""
    learnt = set(one["learnt"])
    labels = [token if i in learnt else HIDDEN for i, token in enumerate(one["ids"])]
    return {"input_ids": one["ids"], "labels": labels}


def adapters(asked: dict[str, Any], n_layers: int) -> Any:
    """PEFT's settings: ours above a cut, or on every layer; or PEFT's own."""
    from peft import LoraConfig

    if asked["defaults"]:
        return LoraConfig(task_type="CAUSAL_LM")
    first = asked["first_layer"]
    layers = list(range(first, n_layers)) if first else None
    ours = asked["settings"]
    return LoraConfig(
        r=ours["rank"],
        lora_alpha=ours["alpha"],
        target_modules=list(MATRICES),
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )


def perplexity(model: Any, held_out: list[dict[str, Any]], half: bool) -> float:
    """Of the answers of validation; logits are made of their tokens alone."""
    import torch

    network = model.get_base_model()
    order, nats, tokens = sorted(held_out, key=lambda row: len(row["input_ids"])), 0.0, 0
    model.eval()
    for start in range(0, len(order), AT_ONCE):
        batch = padded(order[start : start + AT_ONCE])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            states = network.model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            truth = batch["labels"][:, 1:]
            some = truth != HIDDEN
            logits = network.lm_head(states[:, :-1][some]).float()
        nats += float(torch.nn.functional.cross_entropy(logits, truth[some], reduction="sum"))
        tokens += int(some.sum())
    model.train()
    return math.exp(nats / tokens)


def watching(told: dict[str, Any], every: int, measure: Any) -> Any:
    """A callback that takes the time; what is measured meanwhile does not count."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        paused = paused_cpu = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            told["start"], told["start_cpu"] = time.perf_counter(), time.process_time()
            self.mark()

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.mark()
            if every and state.global_step % every == 0:
                wall, cpu = time.perf_counter(), time.process_time()
                at = {"step": state.global_step, "s": told["at"][-1], "perplexity": measure(rest["model"])}
                told["curve"].append(at)
                print(at, flush=True)
                self.paused += time.perf_counter() - wall
                self.paused_cpu += time.process_time() - cpu

        def mark(self) -> None:
            told["at"].append(time.perf_counter() - told["start"] - self.paused)
            told["at_cpu"].append(time.process_time() - told["start_cpu"] - self.paused_cpu)

    return Watching()


def trainer(asked: dict[str, Any], model: Any, rows: list[dict[str, Any]], folder: Path, callback: Any) -> Any:
    """The library's, ready to train."""
    import torch
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import AutoTokenizer, Trainer, TrainingArguments

    own = asked["defaults"]
    shared: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": asked["batch_size"],
        "num_train_epochs": 1,
        "use_cpu": True,
        "bf16": asked["precision"] == "bfloat16",
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "train_sampling_strategy": "sequential",
    }
    if not own:
        shared |= {"max_grad_norm": LONGEST_GRADIENT, "gradient_checkpointing": False}
    settings, lora = {}, adapters(asked, model.config.num_hidden_layers)
    if own:
        settings["peft_config"] = lora
    else:
        torch.manual_seed(0)
        model = get_peft_model(model, lora)
        learnt = [one for one in model.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(learnt, lr=asked["settings"]["learning_rate"], eps=EPSILON, weight_decay=0.0)
        n_steps = -(-len(rows) // asked["batch_size"])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, n_steps))
        settings["optimizers"] = (optimiser, schedule)
    if asked["library"] == "Trainer":
        return Trainer(
            model,
            TrainingArguments(**shared, remove_unused_columns=False),
            train_dataset=Dataset.from_list(rows),
            data_collator=padded,
            callbacks=[callback],
            **settings,
        )
    from trl import SFTConfig, SFTTrainer

    masked = [
        {"input_ids": row["input_ids"], "completion_mask": [int(one != HIDDEN) for one in row["labels"]]}
        for row in rows
    ]
    return SFTTrainer(
        model=model,
        args=SFTConfig(**shared, completion_only_loss=True),
        train_dataset=Dataset.from_list(masked),
        processing_class=AutoTokenizer.from_pretrained(asked["weights"]),
        callbacks=[callback],
        **settings,
    )


def main(folder: Path) -> None:
    """One training."""
    from importlib.metadata import version

    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    asked, tokens = (json.loads((folder / name).read_text()) for name in ("asked.json", "tokens.json"))
    rows = [labelled(one) for batch in tokens["batches"] for one in batch]
    held_out, half = [labelled(one) for one in tokens["val"]], asked["precision"] == "bfloat16"
    kind = getattr(torch, asked.get("weights_as", "float32"))
    model = transformers.AutoModelForCausalLM.from_pretrained(asked["weights"], dtype=kind)
    told: dict[str, Any] = {"curve": [], "at": [], "at_cpu": []}
    callback = watching(told, asked["every"], lambda network: perplexity(network, held_out, half))
    own = trainer(asked, model, rows, folder, callback)
    own.train()
    told["loss"] = [one["loss"] for one in own.state.log_history if "loss" in one]
    told["n_trained"] = sum(one.numel() for one in own.model.parameters() if one.requires_grad)
    told["learning_rate"] = own.args.learning_rate if asked["defaults"] else asked["settings"]["learning_rate"]
    told["gradient_checkpointing"] = bool(own.args.gradient_checkpointing)
    told["versions"] = {name: version(name) for name in ("torch", "transformers", "peft", "trl", "accelerate")}
    told["load"] = os.getloadavg()[0]
    (folder / "said.json").write_text(json.dumps(told))


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, so that none of its modules is taken for a library's
    main(Path(sys.argv[1]))
