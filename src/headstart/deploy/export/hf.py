"""A folder in the hub's layout that `transformers.pipeline` loads: weights, preprocessing, id2label and a model card.

Where transformers has a class that puts a linear layer on the pooled last stage (ConvNeXt, ResNet, Swin, MobileNetV2),
that class is used; a ready-made detector stays of its own class. The text classes of transformers read the first token,
and ours is the mean over tokens: for them the folder carries forty lines of its own, `modeling_headstart.py`, and is
loaded with `trust_remote_code=True`.
"""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstart.backbones.detectors import Detectors
from headstart.backbones.queries import Pass
from headstart.backbones.tokens import quietly
from headstart.backbones.transformers import FAMILIES, Transformers
from headstart.deploy import artifact
from headstart.deploy.export import candidates
from headstart.deploy.export.whole import calibrated_head
from headstart.deploy.model import Model
from headstart.errors import PlanError, listed

CODE = "modeling_headstart"
PROBLEMS = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "identity": "regression",
}
PROCESSORS = dict.fromkeys(("rt_detr_v2", "d_fine"), "RTDetrImageProcessor")  # as their files on the hub say
APPLY = {"softmax": "softmax", "sigmoid": "sigmoid", "identity": "none"}  # the pipelines' own words


def write(model: Model, folder: Path, opened: Sequence[Any], int8: bool) -> Any:
    """Write the folder; gives what its pipeline answers: opened items -> scores (N, K)."""
    if model.detector is not None:
        return _write_detector(model, folder)
    backbone = model.backbone
    if not isinstance(backbone, Transformers):
        raise PlanError(
            f"{model.origin.name} is no network that transformers knows, so it cannot be a Hugging Face folder. "
            "Use --format onnx or torch, or `headstart bundle`."
        )
    is_text = backbone.modality == "text"
    (_write_text if is_text else _write_pictures)(model, backbone, folder)
    return lambda items: answer(model, folder, items)


def _write_detector(model: Model, folder: Path) -> Any:
    """A ready-made detector with the user's classes; gives what the folder finds: opened pictures -> boxes of each.

    transformers shows the network's own scores. What calibrates them and tells which are sure enough lies beside it.
    """
    network, backbone = candidates.network_of(model), model.backbone
    if not isinstance(backbone, Detectors):
        raise PlanError(
            "This detector's head is Headstart's own, for which transformers has no class. Use --format onnx or torch, "
            "or `headstart bundle`."
        )
    names = dict(enumerate(model.task.score_names))
    own: Any = network.upper.network
    own.config.id2label, own.config.label2id = names, {name: k for k, name in names.items()}
    with quietly():
        own.save_pretrained(folder)
    pixels, (height, width) = backbone.pixels, backbone.pixels.shape
    kind = own.config.model_type
    processor = {  # the class that reads it is that of the network's family, where transformers knows one
        **({"image_processor_type": PROCESSORS[kind]} if kind in PROCESSORS else {}),
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), True),
        "do_pad": False,
        "size": {"height": height, "width": width},
        "resample": pixels.resample,
        "image_mean": list(pixels.mean),
        "image_std": list(pixels.std),
    }
    (folder / "preprocessor_config.json").write_bytes(artifact.to_bytes(processor))
    candidates.write_suppression(model, folder)
    return lambda pictures: _boxes(network, folder, pictures)


@torch.inference_mode()
def _boxes(network: Any, folder: Path, pictures: Sequence[Any]) -> list[list[dict[str, Any]]]:
    """Boxes in each opened picture, by the folder's own network, preprocessing and suppression."""
    import transformers

    with quietly():
        written: Any = transformers.AutoModelForObjectDetection.from_pretrained(folder)
        process: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    boxes_of, found = runpy.run_path(str(folder / candidates.SUPPRESSION))["boxes_of"], []
    for one in pictures:
        inputs = {"pixel_values": process(one, return_tensors="pt")["pixel_values"]}
        boxes, scores = network.candidates(Pass(inputs, None, written(**inputs)))
        found.append(boxes_of(boxes[0].numpy(), scores[0].numpy(), *one.size))
    return found


def answer(model: Model, folder: Path, items: Sequence[Any]) -> np.ndarray:
    """Scores (N, K) as `transformers.pipeline` gives them, from the folder alone."""
    import transformers

    is_text = model.backbone.modality == "text"
    what: Any = "text-classification" if is_text else "image-classification"
    with quietly():
        pipeline = transformers.pipeline(what, model=str(folder), trust_remote_code=is_text, device="cpu")
    how: dict[str, Any] = {"top_k": None, "function_to_apply": APPLY[model.linear_task.final]}
    if is_text:
        how["truncation"] = True
    names = list(pipeline.model.config.id2label.values())
    answers = [{one["label"]: one["score"] for one in pipeline(item, **how)} for item in items]
    return np.array([[one[name] for name in names] for one in answers], dtype=np.float32)


def _labels(model: Model) -> dict[str, Any]:
    """What a config says of the answers."""
    names = model.task.score_names or ("value",)
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: k for k, name in enumerate(names)},
        "num_labels": len(names),
        "problem_type": PROBLEMS[model.linear_task.final],
    }


def _write_text(model: Model, backbone: Transformers, folder: Path) -> None:
    """The encoder and the head by their own names, with the code that joins them."""
    from safetensors.torch import save_file

    network: Any = backbone.network
    weight, bias = calibrated_head(model)
    tensors = {f"backbone.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    tensors |= {"classifier.weight": weight.contiguous(), "classifier.bias": bias}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it private
    config = {
        "model_type": "headstart",
        "architectures": ["HeadstartForSequenceClassification"],
        "auto_map": {
            "AutoConfig": f"{CODE}.HeadstartConfig",
            "AutoModelForSequenceClassification": f"{CODE}.HeadstartForSequenceClassification",
        },
        "backbone": network.config.to_dict(),
        "stages": sorted(model.stages),
        "width": weight.shape[1],
        **{name: value for name, value in _labels(model).items() if name != "num_labels"},
    }
    (folder / "config.json").write_bytes(artifact.to_bytes(config))
    (folder / f"{CODE}.py").write_text((Path(__file__).parent / f"{CODE}.py.txt").read_text())
    tokenizer: Any = backbone.reader.tokenizer  # type: ignore[union-attr]
    longest = tokenizer.model_max_length
    tokenizer.model_max_length = backbone.reader.max_tokens  # type: ignore[union-attr]
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length = longest


def _write_pictures(model: Model, backbone: Transformers, folder: Path) -> None:
    """transformers' own class of the family, with our preprocessing: the whole picture squashed to a square."""
    import transformers

    network: Any = backbone.network
    family = FAMILIES[network.config.model_type]
    if not family.classifier or list(model.stages) != [backbone.n_stages - 1]:
        fits = [name for name, one in FAMILIES.items() if one.classifier]
        raise PlanError(
            f"transformers has no class for this model: it must read the last stage alone, of one of {listed(fits)}. "
            "Use --format onnx or torch."
        )
    config = type(network.config)(**network.config.to_dict() | _labels(model))
    whole: Any = transformers.AutoModelForImageClassification.from_config(config)
    whole.base_model.load_state_dict(network.state_dict())
    classifier: Any = whole.get_submodule(family.classifier)
    with torch.no_grad():
        for parameter, value in zip((classifier.weight, classifier.bias), calibrated_head(model), strict=True):
            parameter.copy_(value)
    whole.save_pretrained(folder)
    pixels = backbone.preprocessing
    transformers.ViTImageProcessor(
        size={"height": pixels["side"], "width": pixels["side"]},
        resample=pixels["resample"],
        image_mean=pixels["mean"],
        image_std=pixels["std"],
    ).save_pretrained(folder)
