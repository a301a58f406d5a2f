"""Ready-made detectors of transformers: networks that come with their heads for boxes and classes.

The network's own code runs and its own loss teaches. Its classes are replaced by the user's, and what is below a cut
is run once and kept like that of any other backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, float32, nn

from headstart.backbones.base import Backbone, Located, Provenance, tensor_of
from headstart.backbones.changes import Changes
from headstart.backbones.detector_stages import FAMILIES, Part, read_above
from headstart.backbones.pixels import Pixels
from headstart.backbones.queries import Queries
from headstart.backbones.resume import Normalisation, Resumable
from headstart.backbones.tokens import quietly
from headstart.backbones.transformers import config_sha256, read_json
from headstart.errors import BackboneError, MissingExtraError, PlanError, did_you_mean, listed

MULTIPLE, LONGEST = 32, 640  # pixels: of each side of a canvas; the longer side, where the files do not fix a square
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
PICTURES = 4  # a batch of frozen passes: a canvas has several times the pixels of a classifier's square


class Detectors(Backbone):
    """DETR and what came of it."""

    modality = "image"

    def __init__(self, network: nn.Module, parts: Sequence[Part], provenance: Provenance, pixels: Pixels) -> None:
        paths = [path for path, _ in network.named_modules()]
        said = pixels.to_json() | {"config": config_sha256(network)}
        super().__init__(network, [part.stage(paths) for part in parts], provenance, said)
        self.parts, self.pixels = tuple(parts), pixels
        self.reads = self.read_above(self.n_stages)
        self.detail, self.canvas = min(pixels.shape), pixels.shape

    @classmethod
    def load(cls, located: Located) -> Detectors:
        """Build the network of a folder in the hub's layout, in float32. BackboneError when it is of no known kind."""
        try:
            import transformers
        except ImportError:
            raise MissingExtraError("transformers", "text") from None
        kind = str(read_json(located, "config.json").get("model_type"))
        if kind not in FAMILIES:
            raise BackboneError(
                f"{located.name} is a detector of the type {kind!r}; Headstart knows the stages of these: "
                f"{listed(FAMILIES, 20)}.{did_you_mean(kind, FAMILIES)}"
            )
        with quietly():
            try:
                config = transformers.AutoConfig.from_pretrained(located.folder, local_files_only=True)
                _check_trunk(config, located)
                network, report = transformers.AutoModelForObjectDetection.from_pretrained(
                    located.folder,
                    config=_for_any_canvas(config),
                    use_safetensors=True,
                    local_files_only=True,
                    dtype=float32,
                    output_loading_info=True,
                )
            except (ImportError, OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
                raise BackboneError(f"{located.name} cannot be loaded from {located.folder}: {error}") from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise BackboneError(
                f"The weights in {located.folder} lack {len(missing)} of the network's tensors: {listed(missing, 3)}. "
                "Fetch them again, or give the folder of a complete model."
            )
        return cls(network, _parts(kind, network, located), Provenance.of(located, network), _pixels(located))

    def at(self, canvas: tuple[int, int]) -> Detectors:
        """For pictures resized to this height and width, multiples of 32; PlanError otherwise."""
        if any(side < MULTIPLE or side % MULTIPLE for side in canvas):
            raise PlanError(
                f"A canvas of {canvas[0]} × {canvas[1]} pixels does not fit {self.provenance.name}: give a height and "
                f"a width that are multiples of {MULTIPLE}, such as {LONGEST} × {LONGEST}."
            )
        other = Detectors(self.network, self.parts, self.provenance, replace(self.pixels, canvas=canvas))
        other.changes, other.way, other.runtime = self.changes, self.way, self.runtime
        return other

    def lengths(self, items: Sequence[Any]) -> list[int]:
        """1 for each picture."""
        return [1] * len(items)

    @property
    def batch_budget(self) -> int:
        """Pictures."""
        return PICTURES

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """RGB PIL images as `pixel_values` (N, 3, height, width); there is no padding, so there is no mask."""
        return {"pixel_values": self.pixels.tensor(items)}

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, C, H, W), (N, T, D) or (N, Q, D) to (N, D): the mean over places or queries."""
        features = tensor_of(output).float()
        return features.mean((2, 3)) if features.ndim == 4 else features.mean(1)

    def read_above(self, cut: int) -> tuple[int, ...]:
        """The stages below `cut` whose whole outputs are read by what runs above it."""
        return read_above(self.parts, cut)

    def runs_again(self, stage: int) -> bool:
        """True of decoders that start where the head sees objects."""
        return self.parts[stage].again

    def activations(self, inputs: Mapping[str, Tensor], cut: int) -> Tensor:
        """The whole output (N, …) of the stage below `cut`; PlanError where more than that is read above it."""
        alone = [one for one in range(1, self.n_stages + 1) if self.read_above(one) == (one - 1,)]
        if cut not in alone:
            raise PlanError(
                f"freeze={cut}, but above that {self.provenance.name} goes on from the maps of several stages, which "
                f"only detection does. Freeze one of {listed(alone, 30)} of its {self.n_stages} stages."
            )
        return super().activations(inputs, cut)

    def detector(self, upper: Resumable, class_names: Sequence[str]) -> Queries:
        """The network's own detector of these classes; classes of the same name start as they were pretrained."""
        return Queries(upper, FAMILIES[self.kind], class_names)

    @property
    def kind(self) -> str:
        """Name of its family."""
        network: Any = self.network
        return str(network.config.model_type)

    def adapted(self, changes: Changes) -> Detectors:
        """This backbone with what training changed in its stages; the head is no stage and is kept apart from it."""
        family, paths = FAMILIES[self.kind], [path for path, _ in self.network.named_modules()]
        heads = tuple(f"{path}." for path in (*family.head(paths), *family.copies))
        stages = {name: one for name, one in changes.tensors.items() if not name.startswith(heads)}
        other = super().adapted(Changes(stages))
        assert isinstance(other, Detectors)
        return other

    def reinitialised(self) -> nn.Module:
        """A network of the same settings with random weights; batch norms that were fixed are trained again."""
        own: Any = self.network
        network = type(own)(copy.deepcopy(own.config))
        for path, module in list(network.named_modules()):
            if type(module).__name__.endswith("FrozenBatchNorm2d"):
                network.set_submodule(path, _trainable(module))
            elif isinstance(module, Normalisation):
                module.reset_parameters()
        return network


def _trainable(fixed: Any) -> nn.Module:
    """A batch norm whose tensors have the names of the fixed one's."""
    norm = nn.BatchNorm2d(len(fixed.weight))
    norm.num_batches_tracked = None
    return norm


def _check_trunk(config: Any, located: Located) -> None:
    trunk = getattr(config, "backbone_config", None)
    if trunk is not None and trunk.model_type == "timm_backbone":
        raise BackboneError(
            f"{located.name} keeps the first part of its network as the library timm lays it out, which Headstart "
            "does not read. Give a version that was saved without timm, such as 'facebook/detr-resnet-50@no_timm', or "
            "an RT-DETR, D-FINE or YOLOS model."
        )


def _for_any_canvas(config: Any) -> Any:
    """The settings without the sizes that some networks fix in advance for one canvas."""
    for fixed in ("anchor_image_size", "eval_size"):
        if getattr(config, fixed, None) is not None:
            setattr(config, fixed, None)
    return config


def _parts(kind: str, network: Any, located: Located) -> list[Part]:
    """The stages of a network of this kind. BackboneError when a module is not where it should be."""
    paths = [path for path, _ in network.named_modules()]
    try:
        parts = FAMILIES[kind].parts(network)
    except (AttributeError, ValueError) as error:
        raise _laid_out(located, str(error)) from error
    stages = [part.stage(paths) for part in parts]
    declared = [path for stage in stages for path in (*stage.modules, *stage.shared)] + [*FAMILIES[kind].head(paths)]
    if unknown := [path for path in declared if path not in paths]:
        raise _laid_out(located, f"it lacks {listed(unknown)}")
    return parts


def _laid_out(located: Located, why: str) -> BackboneError:
    return BackboneError(
        f"{located.name} is not laid out as its family should be: {why}. "
        "Update with: pip install --upgrade transformers headstart"
    )


def _pixels(located: Located) -> Pixels:
    """What preprocessor_config.json says; without padding, on the canvas that its sizes come to."""
    saved = read_json(located, "preprocessor_config.json")
    normalised = saved.get("do_normalize", True)
    height, width = canvas_of(saved)
    return Pixels(
        side=max(height, width),
        mean=tuple(saved.get("image_mean", IMAGENET["image_mean"])) if normalised else (0.0, 0.0, 0.0),
        std=tuple(saved.get("image_std", IMAGENET["image_std"])) if normalised else (1.0, 1.0, 1.0),
        resample=saved.get("resample", 2),
        canvas=None if height == width else (height, width),
    )


def canvas_of(saved: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) in multiples of 32 that a preprocessor's settings come to.

    A square that {"height": 640, "width": 640} says is kept. {"shortest_edge": 800, "longest_edge": 1333}, or 800 and
    `max_size` as older files have it, is a landscape of these sides, made smaller where it is too large for a laptop.
    """
    size = saved.get("size", LONGEST)
    said = size if isinstance(size, Mapping) else {"shortest_edge": size, "longest_edge": saved.get("max_size", size)}
    height = said.get("height") or said.get("shortest_edge") or said.get("max_height") or LONGEST
    width = said.get("width") or said.get("longest_edge") or said.get("max_width") or height
    keep = "height" in said and height == width
    shrink = 1.0 if keep else min(1.0, LONGEST / max(height, width))
    return _whole(height * shrink), _whole(width * shrink)


def _whole(side: float) -> int:
    return max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE)
