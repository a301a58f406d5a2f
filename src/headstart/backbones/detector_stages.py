"""Where the stages of ready-made detectors are, which maps each stage reads, and which layers are the head.

The families are DETR (arXiv:2005.12872), Conditional DETR (arXiv:2108.06152), Deformable DETR (arXiv:2010.04159),
RT-DETR (arXiv:2304.08069), RT-DETRv2 (arXiv:2407.17140), D-FINE (arXiv:2410.13842) and YOLOS (arXiv:2106.00666).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.backbones.base import Stage

TRUNK = "model.backbone.model"  # of all but YOLOS: a convolutional network with a stem and blocks


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stage and what it goes on from. A path ending in "?" is left out where a network has no such module."""

    name: str
    modules: tuple[str, ...]
    reads: tuple[str, ...]  # names of the stages whose whole outputs it reads
    shared: tuple[str, ...] = ()
    again: bool = False  # whether it runs even when frozen, since what it gives depends on the head

    def stage(self, paths: Sequence[str]) -> Stage:
        """Of a network with modules at these paths."""
        return Stage(name=self.name, modules=_there(self.modules, paths), shared=_there(self.shared, paths))


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture."""

    parts: Callable[[Any], list[Part]]  # of a network
    classes: tuple[str, ...]  # layers with a row for each class, or lists of such layers
    boxes: tuple[str, ...]  # the other layers of the head, whose weights are kept
    copies: tuple[str, ...] = ()  # second names of layers of the head
    softmax: bool = False  # whether classes exclude each other and "no object" is one of them; else each has a sigmoid

    def head(self, paths: Sequence[str]) -> tuple[str, ...]:
        """Paths of the layers that are no stage."""
        return _there((*self.classes, *self.boxes), paths)


def read_above(parts: Sequence[Part], cut: int) -> tuple[int, ...]:
    """The stages below the cut whose whole outputs are read by what runs above it."""
    below = {part.name: index for index, part in enumerate(parts[:cut]) if not part.again}
    running = [part for index, part in enumerate(parts) if part.again or index >= cut]
    wanted = {name for part in running for name in part.reads}
    wanted.add(parts[-1].name)  # the head reads it
    return tuple(sorted(index for name, index in below.items() if name in wanted))


def _there(declared: Sequence[str], paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path.removesuffix("?") for path in declared if not path.endswith("?") or path[:-1] in paths)


def _trunk(network: Any) -> list[Part]:
    parts = [Part(name="stem", modules=(f"{TRUNK}.embedder",), reads=())]
    for i in range(len(network.get_submodule(f"{TRUNK}.encoder.stages"))):
        parts.append(Part(name=_blocks(i), modules=(f"{TRUNK}.encoder.stages.{i}",), reads=(parts[-1].name,)))
    return parts


def _blocks(index: int) -> str:
    return f"blocks {index + 1}"


def _levels(network: Any) -> tuple[str, ...]:
    """Names of the trunk's stages that the rest of the network reads; it calls block i "stage{i}"."""
    names = network.get_submodule(TRUNK).out_features
    return tuple("stem" if name == "stem" else _blocks(int(name.removeprefix("stage")) - 1) for name in names)


def _with_layers(parts: list[Part], *, first: Part, name: str, layers: str, n_layers: int, also: Part) -> list[Part]:
    """The stages, and one for each layer; `first` is put before layer 1, and `also` is read or shared by all."""
    more: list[Part] = []
    for i in range(n_layers):
        before = first.modules if i == 0 else ()
        after = also.modules if i == n_layers - 1 else ()
        more.append(
            Part(
                name=f"{name} {i + 1}",
                modules=(*before, f"{layers}.{i}", *after),
                reads=(*(first.reads if i == 0 else (more[-1].name,)), *also.reads),
                shared=also.shared if i == 0 else (),
                again=also.again,
            )
        )
    return [*parts, *more]


def _detr(network: Any) -> list[Part]:
    """Encoder layers on the trunk's last map, decoder layers that read what the encoder gives."""
    config, trunk = network.config, _trunk(network)
    encoded = _with_layers(
        trunk,
        first=Part(name="", modules=("model.input_projection",), reads=_levels(network)[-1:]),
        name="encoder",
        layers="model.encoder.layers",
        n_layers=config.encoder_layers,
        also=Part(name="", modules=(), reads=(), shared=("model.position_embedding", "model.encoder.query_scale?")),
    )
    norm, each = ("model.decoder.layernorm",), bool(config.auxiliary_loss)  # whether the loss reads every layer
    queries = ("model.query_position_embeddings", "model.decoder.query_scale?", "model.decoder.ref_point_head?")
    return _with_layers(
        encoded,
        first=Part(name="", modules=(), reads=()),
        name="decoder",
        layers="model.decoder.layers",
        n_layers=config.decoder_layers,
        also=Part(
            name="",
            modules=() if each else norm,
            reads=(encoded[-1].name,),
            shared=(*queries, *norm) if each else queries,
            again=each,
        ),
    )


def _deformable_detr(network: Any) -> list[Part]:
    """Encoder layers on maps of several sizes, decoder layers that may move the boxes of the head."""
    config, trunk = network.config, _trunk(network)
    projections = tuple(f"model.input_proj.{i}" for i in range(len(network.model.input_proj)))
    encoded = _with_layers(
        trunk,
        first=Part(name="", modules=projections, reads=_levels(network)),
        name="encoder",
        layers="model.encoder.layers",
        n_layers=config.encoder_layers,
        also=Part(name="", modules=(), reads=(), shared=("model.position_embedding",)),
    )
    queries = ("query_position_embeddings?", "reference_points?", "enc_output?", "enc_output_norm?", "pos_trans?")
    return _with_layers(
        encoded,
        first=Part(name="", modules=(), reads=()),
        name="decoder",
        layers="model.decoder.layers",
        n_layers=config.decoder_layers,
        also=Part(
            name="",
            modules=(),
            reads=(encoded[-1].name,),
            shared=tuple(f"model.{path}" for path in (*queries, "pos_trans_norm?")),
            again=True,
        ),
    )


def _hybrid(network: Any) -> list[Part]:
    """A pyramid down and up again, a map a stage; the decoder starts where the head sees objects, so it runs again."""
    config, levels = network.config, _levels(network)
    n_levels, parts = len(levels), _trunk(network)
    down: list[str] = []  # names of the stages whose maps the way up reads, the smallest map first
    for k in range(n_levels):
        level = n_levels - 1 - k
        modules = [f"model.encoder_input_proj.{level}"]
        if level in config.encode_proj_layers and config.encoder_layers > 0:
            modules.append(f"model.encoder.aifi.{list(config.encode_proj_layers).index(level)}")
        modules += [f"model.encoder.fpn_blocks.{k - 1}"] if k > 0 else []
        modules += [f"model.encoder.lateral_convs.{k}"] if k < n_levels - 1 else []
        parts.append(Part(name=f"top-down {k + 1}", modules=tuple(modules), reads=(levels[level], *down[-1:])))
        down.append(parts[-1].name)
    maps = [down[-1]]  # that the decoder reads
    for k in range(n_levels - 1):
        modules = [f"model.encoder.downsample_convs.{k}", f"model.encoder.pan_blocks.{k}"]
        parts.append(Part(name=f"bottom-up {k + 1}", modules=tuple(modules), reads=(maps[-1], down[-2 - k])))
        maps.append(parts[-1].name)
    projections = [f"model.decoder_input_proj.{i}" for i in range(len(network.model.decoder_input_proj))]
    own = (*projections, "model.enc_output", "model.weight_embedding?", "model.decoder.query_pos_head")
    return _with_layers(
        parts,
        first=Part(name="", modules=own, reads=()),
        name="decoder",
        layers="model.decoder.layers",
        n_layers=len(network.model.decoder.layers),
        also=Part(name="", modules=(), reads=tuple(maps), again=True),
    )


def _yolos(network: Any) -> list[Part]:
    """A plain vision transformer; the last tokens are the objects."""
    return _with_layers(
        [Part(name="stem", modules=("vit.embeddings",), reads=(), shared=("vit.encoder.interpolation?",))],
        first=Part(name="", modules=(), reads=("stem",)),
        name="layer",
        layers="vit.encoder.layer",
        n_layers=network.config.num_hidden_layers,
        also=Part(name="", modules=("vit.layernorm",), reads=()),
    )


_RT_DETR = Family(
    parts=_hybrid,
    classes=("model.decoder.class_embed", "model.enc_score_head", "model.denoising_class_embed?"),
    boxes=("model.decoder.bbox_embed", "model.enc_bbox_head"),
    copies=("class_embed", "bbox_embed"),
)

FAMILIES = {  # config.json's model_type
    "detr": Family(parts=_detr, classes=("class_labels_classifier",), boxes=("bbox_predictor",), softmax=True),
    "conditional_detr": Family(parts=_detr, classes=("class_labels_classifier",), boxes=("bbox_predictor",)),
    "deformable_detr": Family(
        parts=_deformable_detr,
        classes=("class_embed", "model.decoder.class_embed?"),
        boxes=("bbox_embed", "model.decoder.bbox_embed?"),
    ),
    "rt_detr": _RT_DETR,
    "rt_detr_v2": _RT_DETR,
    "d_fine": Family(
        parts=_hybrid,
        classes=_RT_DETR.classes,
        boxes=(*_RT_DETR.boxes, "model.decoder.pre_bbox_head", "model.decoder.lqe_layers"),
        copies=_RT_DETR.copies,
    ),
    "yolos": Family(
        parts=_yolos,
        classes=("class_labels_classifier.layers.2",),
        boxes=("class_labels_classifier.layers.0", "class_labels_classifier.layers.1", "bbox_predictor"),
        softmax=True,
    ),
}
