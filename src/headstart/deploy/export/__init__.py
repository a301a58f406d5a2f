"""Export a model for other runtimes, checked on the run's own validation examples before it is left on the disk."""

from __future__ import annotations

import importlib
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import __version__, registry
from headstart.backbones.fetch import sha256_of
from headstart.deploy import artifact
from headstart.deploy.export import box_parity, chat_parity, chatbot, parity
from headstart.deploy.export.box_parity import BoxParity
from headstart.deploy.export.chat_parity import ChatParity
from headstart.deploy.export.parity import Parity
from headstart.deploy.export.whole import exact
from headstart.deploy.model import Model
from headstart.errors import HeadstartError, PlanError, RunError, did_you_mean, listed
from headstart.progress import Progress

FORMATS = {  # name: (module here, what it is)
    "onnx": "a file for ONNX Runtime, with a script that needs only onnxruntime and numpy",
    "torch": "a program for torch.export.load",
    "hf": "a folder for transformers.pipeline",
}
CARD = "export.json"
AnyParity = Parity | BoxParity | ChatParity


@dataclass(frozen=True, kw_only=True)
class Export:
    """An export that was checked and is on the disk."""

    folder: Path
    parity: AnyParity


def export(
    model: Model,
    kind: str,
    out: str | Path,
    *,
    int8: bool = False,
    data: Any = None,
    progress: Progress | None = None,
) -> Export:
    """Write `model` as "onnx", "torch" or "hf" (chatbots "hf", "peft" or "gguf") into the new folder `out`.

    Checked, or not at all. Every export runs on the run's validation examples (or on labelled `data`): labels must be
    the model's own, probabilities within 1e-3 of its float32 ones; boxes must be the same ones, as `box_parity.check`
    has it. With `int8` (ONNX only) what it loses is measured instead.
    HeadstartError says what is wrong; then nothing is left.
    """
    progress = progress or Progress()
    out = Path(out)
    if model.seer is not None:
        raise PlanError(
            "A run that forecasts cannot be exported to other runtimes: its bands follow what came, and that is no "
            "part of a network. Use `headstart bundle` to take it elsewhere, or `headstart serve`."
        )
    if model.talker is not None:
        chatbot.check_kind(model, kind, int8)
    elif kind not in FORMATS:
        raise PlanError(f"{kind!r} is not a format: {listed(FORMATS)}.{did_you_mean(kind, FORMATS)}")
    if int8 and kind != "onnx":
        raise PlanError(f"8-bit weights are for --format onnx, not {kind}.")
    if registry.plugin_name(model.modality) == "audio":
        raise PlanError(
            "Models of sounds are not exported so far. `headstart bundle` puts the run and its backbone into one "
            "folder that needs no network, and `headstart serve` answers other programs over HTTP."
        )
    if model.detector is not None and model.detector.classical is not None:
        raise PlanError(
            "This run ships the classical detector, which needs no network and is not exported. Use `headstart bundle` "
            "or predict, or fit again with --strategy auto to ship the network all the same."
        )
    if int8 and model.detector is not None:
        raise PlanError("8-bit weights are for labels and numbers, not for boxes. Export without --int8.")
    plain = exact(model)
    artifact.check_writable(out)
    with progress.step("validation examples"):
        asked: Any = chat_parity.sample(plain, data) if model.talker else parity.sample(model, plain, data)
    making = out.absolute().parent / f".{out.name}.{uuid.uuid4().hex[:8]}"
    making.mkdir(parents=True)
    try:
        with progress.step("export"):
            if model.talker is not None:
                found: AnyParity = _tried(kind, plain, lambda: chatbot.write(plain, kind, making, asked))
            else:
                runner = _write(kind, plain, making, asked.opened, int8)
        if model.talker is None:
            with progress.step("check"):
                found = _checked(plain, asked, runner(asked.opened), int8)
        (making / CARD).write_bytes(artifact.to_bytes(_card(model, kind, found, making)))
        (making / "README.md").write_text(_readme(model, kind, found), encoding="utf-8")
        making.rename(out)
    except OSError as error:
        raise RunError(f"The export could not be written to {out}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Export(folder=out, parity=found)


def _checked(plain: Model, asked: parity.Sample, said: Any, int8: bool) -> Parity | BoxParity:
    """What comparing the export's answers with the model's finds; RunError where they are not the same."""
    if plain.detector is not None:
        return box_parity.check(plain, asked, said)
    return (parity.check_int8 if int8 else parity.check)(plain, asked, said)


def _write(kind: str, plain: Model, folder: Path, opened: list[Any], int8: bool) -> parity.Runner:
    """The files of one format; RunError where a library's exporter gives up."""
    write = importlib.import_module(f"{__name__}.{kind}").write
    return _tried(kind, plain, lambda: write(plain, folder, opened, int8))


def _tried(kind: str, plain: Model, write: Callable[[], Any]) -> Any:
    """What comes of it; RunError where a library's exporter gives up."""
    try:
        return write()
    except HeadstartError:
        raise
    except Exception as error:  # exporters raise nearly anything
        first = next(iter(str(error).splitlines()), "")
        raise RunError(
            f"{plain.origin.name} could not be exported as {kind}: {type(error).__name__}: {first} "
            f"Try another --format ({listed(chatbot.FORMATS if plain.talker else FORMATS)}), or `headstart bundle`."
        ) from error


def _card(model: Model, kind: str, found: AnyParity, folder: Path) -> dict[str, Any]:
    """What the export is, for programs."""
    return {
        "format": kind,
        "headstart": __version__,
        "run": model.run.name if model.run else None,
        "modality": model.backbone.modality,
        "score_names": list(model.task.score_names),
        "scores": "boxes" if model.detector else "text" if model.talker else model.linear_task.final,
        "backbone": vars(model.origin),
        "preprocessing": model.backbone.preprocessing,
        "parity": found.to_json(),
        "sha256": {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }


def _readme(model: Model, kind: str, found: AnyParity) -> str:
    """What the export is and how to use it, for people."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("headstart.deploy.export", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    preprocessing = model.backbone.preprocessing
    height, width = preprocessing.get("canvas") or [preprocessing.get("side")] * 2
    return environment.get_template("readme_chat.md.j2" if model.talker else "readme.md.j2").render(
        model=model,
        kind=kind,
        what=chatbot.FORMATS[kind] if model.talker else FORMATS[kind],
        parity=found,
        preprocessing=preprocessing,
        height=height,
        width=width,
        one_at_a_time=model.detector is not None and model.detector.levels is None,
        front=_front_matter(model) if kind == "hf" else "",
    )


def _front_matter(model: Model) -> str:
    """The metadata of the run's model card, for a folder that transformers loads."""
    _, found, _ = f"{model.files.get('README.md', b'').decode()}---\n---\n".split("---\n", 2)
    return f"---\n{found.replace('library_name: headstart', 'library_name: transformers')}---\n\n" if found else ""
