"""Any Hugging Face encoder of text or pictures; each family declares where its stages are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, float32, nn

from headstart.backbones.base import Backbone, Located, Provenance, Stage, tensor_of
from headstart.backbones.pixels import Pixels
from headstart.backbones.tokens import Tokens, quietly, tokens_of
from headstart.errors import BackboneError, MissingExtraError, did_you_mean, listed

NOT_SETTINGS = {
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
}
TEXT_BUDGET, IMAGE_BUDGET = 2048, 8  # tokens, pictures a batch: as fast as larger ones in lanes, and in less memory


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where the stages of one architecture are. A path ending in "?" is left out where a network has no such module."""

    modality: str
    first: tuple[str, ...]  # stage 0
    layers: str  # path of the list of layers, one stage each
    shared: tuple[str, ...] = ()  # what every layer reads; it freezes with stage 0
    after_first_layer: tuple[str, ...] = ()
    last: tuple[str, ...] = ()  # final norm, part of the last stage
    groups: tuple[int, ...] = ()  # layers a stage, where it is not one each
    head: tuple[str, ...] = ()  # a stage of its own after the layers
    noun: str = "layer"
    reserved_positions: int = 0  # of max_position_embeddings, how many no token can have
    classifier: str = ""  # of the source task, where it stands on the pooled last stage: its path in the weight file


_BERT = Family(modality="text", first=("embeddings",), layers="encoder.layer")
_ROBERTA = Family(modality="text", first=("embeddings",), layers="encoder.layer", reserved_positions=2)

FAMILIES = {  # config.json's model_type: its stages
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Family(modality="text", first=("embeddings",), layers="transformer.layer"),
    "electra": Family(modality="text", first=("embeddings", "embeddings_project?"), layers="encoder.layer"),
    "mpnet": Family(
        modality="text",
        first=("embeddings",),
        shared=("encoder.relative_attention_bias",),
        layers="encoder.layer",
        reserved_positions=2,
    ),
    "deberta": Family(
        modality="text", first=("embeddings",), shared=("encoder.rel_embeddings?",), layers="encoder.layer"
    ),
    "deberta-v2": Family(
        modality="text",
        first=("embeddings",),
        shared=("encoder.rel_embeddings?", "encoder.LayerNorm?"),
        layers="encoder.layer",
        after_first_layer=("encoder.conv?",),
    ),
    "vit": Family(modality="image", first=("embeddings",), layers="layers", last=("layernorm",)),
    "dinov2": Family(modality="image", first=("embeddings",), layers="encoder.layer", last=("layernorm",)),
    "swin": Family(
        modality="image",
        first=("embeddings",),
        layers="encoder.layers",
        last=("layernorm",),
        noun="blocks",
        classifier="classifier",
    ),
    "convnext": Family(
        modality="image",
        first=("embeddings",),
        layers="encoder.stages",
        last=("layernorm",),
        noun="blocks",
        classifier="classifier",
    ),
    "resnet": Family(
        modality="image", first=("embedder",), layers="encoder.stages", noun="blocks", classifier="classifier.1"
    ),
    "mobilenet_v2": Family(  # grouped by width, as the paper's table is (arXiv:1801.04381)
        modality="image",
        first=("conv_stem",),
        layers="layer",
        groups=(2, 3, 4, 3, 3, 1),
        head=("conv_1x1",),
        noun="blocks",
        classifier="classifier",
    ),
}


class Transformers(Backbone):
    """A Hugging Face encoder; the mean over tokens, or over the picture, is its pooling."""

    def __init__(
        self,
        network: nn.Module,
        stages: Sequence[Stage],
        provenance: Provenance,
        reader: Tokens | Pixels,
        classifier: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(network, stages, provenance, reader.to_json() | {"config": config_sha256(network)})
        self.reader, self._classifier = reader, classifier
        self.modality = "text" if isinstance(reader, Tokens) else "image"
        if isinstance(reader, Pixels):
            self.detail, self.canvas = min(reader.shape), reader.shape

    @classmethod
    def load(cls, located: Located) -> Transformers:
        """Build the network of a folder in the hub's layout, in float32."""
        try:
            import transformers
        except ImportError:
            raise MissingExtraError("transformers", "text") from None
        config = read_json(located, "config.json")
        family = _family(config, located)
        with quietly():
            try:
                network, report = transformers.AutoModel.from_pretrained(
                    located.folder, use_safetensors=True, local_files_only=True, dtype=float32, output_loading_info=True
                )
                reader = (
                    _pixels(located)
                    if family.modality == "image"
                    else tokens_of(located, config, family.reserved_positions)
                )
            except (ImportError, OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
                raise BackboneError(f"{located.name} cannot be loaded from {located.folder}: {error}") from error
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
        if missing:  # a pooler is never read here, but all else would be random
            raise BackboneError(
                f"The weights in {located.folder} lack {len(missing)} of the network's tensors: {listed(missing, 3)}. "
                "Fetch them again, or give the folder of a complete model."
            )
        stages, provenance = stages_of(family, network, located), Provenance.of(located, network)
        return cls(network, stages, provenance, reader, _classifier(located, family))

    def at(self, canvas: tuple[int, int]) -> Transformers:
        """For pictures of any size, where the network hands on maps; PlanError where its positions fix the size."""
        if not isinstance(self.reader, Pixels) or None in self.maps:
            raise self.one_size()
        pixels = replace(self.reader, canvas=canvas)
        return Transformers(self.network, self.stages, self.provenance, pixels, self._classifier)

    @property
    def source_head(self) -> tuple[Tensor, Tensor] | None:
        """(weight (Z, D), bias (Z,)) of the classifier that was saved with the network, where its family has one."""
        return self._classifier

    def reinitialised(self) -> nn.Module:
        """A network of the same settings, initialised as its authors do."""
        network: Any = self.network
        return type(network)(network.config)

    @property
    def batch_budget(self) -> int:
        """Tokens, padding counted, or pictures."""
        return TEXT_BUDGET if self.modality == "text" else IMAGE_BUDGET

    def lengths(self, items: Sequence[Any]) -> list[int]:
        """Tokens of each text after truncation; 1 for each picture."""
        return self.reader.lengths(items) if isinstance(self.reader, Tokens) else [1] * len(items)

    def collate(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Texts as `input_ids` and `attention_mask` (N, T), padded to the longest; pictures as `pixel_values`."""
        if isinstance(self.reader, Tokens):
            return self.reader.tensors(items)
        return {"pixel_values": self.reader.tensor(items)}

    def pool(self, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, T, D), (N, C, H, W) or an already pooled (N, D) to (N, D); padding does not count."""
        features = tensor_of(output).float()
        if features.ndim == 4:
            return features.mean((2, 3))
        return mean_over_tokens(features, inputs) if features.ndim == 3 else features


def mean_over_tokens(features: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """(N, T, D) to (N, D); padding does not count."""
    if "attention_mask" not in inputs:
        return features.mean(1)
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return (features * mask).sum(1) / mask.sum(1)


def _pixels(located: Located) -> Pixels:
    """What preprocessor_config.json says, but for its crop: the whole picture is squashed to the side it ends with."""
    saved = read_json(located, "preprocessor_config.json")
    size = saved.get("crop_size") if saved.get("do_center_crop") else None
    normalised = saved.get("do_normalize", True)
    return Pixels(
        side=_side(size or saved.get("size", 224)),
        mean=tuple(saved["image_mean"]) if normalised else (0.0, 0.0, 0.0),
        std=tuple(saved["image_std"]) if normalised else (1.0, 1.0, 1.0),
        resample=saved.get("resample", 2),
    )


def _classifier(located: Located, family: Family) -> tuple[Tensor, Tensor] | None:
    """The source task's classifier out of model.safetensors; None where the file or its family holds none."""
    file, names = located.folder / "model.safetensors", [f"{family.classifier}.{leaf}" for leaf in ("weight", "bias")]
    if not family.classifier or not file.exists():  # weights in several files are not looked through
        return None
    with safe_open(file, "pt") as tensors:
        if not set(names) <= set(tensors.keys()):
            return None
        weight, bias = (tensors.get_tensor(name).float() for name in names)
        return weight, bias


def _side(size: int | Mapping[str, int]) -> int:
    """Of 224, {"height": 224, "width": 224} or {"shortest_edge": 224}."""
    return size if isinstance(size, int) else size.get("height") or size["shortest_edge"]


def read_json(located: Located, name: str) -> dict[str, Any]:
    """What a settings file beside the weights holds. BackboneError when it cannot be read."""
    try:
        return json.loads((located.folder / name).read_text())
    except (OSError, ValueError) as error:
        raise BackboneError(f"{located.name} needs a readable {name} in {located.folder}: {error}") from error


def _family(config: Mapping[str, Any], located: Located) -> Family:
    kind = str(config.get("model_type"))
    if kind not in FAMILIES or config.get("is_decoder"):
        what = f"a decoder ({kind})" if config.get("is_decoder") else f"of the type {kind!r}"
        raise BackboneError(
            f"{located.name} is {what}; Headstart knows the stages of these encoders: {listed(FAMILIES, 20)}."
            f"{did_you_mean(kind, FAMILIES)}"
        )
    return FAMILIES[kind]


def stages_of(family: Family, network: nn.Module, located: Located) -> list[Stage]:
    """The family's table with this network's number of layers."""
    paths = dict(network.named_modules())

    def there(declared: Sequence[str]) -> tuple[str, ...]:
        return tuple(path.removesuffix("?") for path in declared if not path.endswith("?") or path[:-1] in paths)

    n_layers = sum(path.rpartition(".")[0] == family.layers for path in paths)
    sizes = family.groups or (1,) * n_layers
    layers = []
    for i, size in enumerate(sizes):
        start = sum(sizes[:i])
        layers.append([f"{family.layers}.{n}" for n in range(start, start + size)])
        layers[-1] += there(family.after_first_layer) if i == 0 else ()
    layers[-1] += there(family.last)
    name = "embeddings" if family.modality == "text" else "stem"
    stages = [Stage(name=name, modules=there(family.first), shared=there(family.shared))]
    stages += [Stage(name=f"{family.noun} {i + 1}", modules=tuple(modules)) for i, modules in enumerate(layers)]
    stages += [Stage(name="head", modules=there(family.head))] if family.head else []
    unknown = [path for stage in stages for path in (*stage.modules, *stage.shared) if path not in paths]
    if unknown or n_layers != sum(sizes):
        raise BackboneError(
            f"{located.name} is not laid out as its family should be: {n_layers} modules in {family.layers!r}, "
            f"missing: {listed(unknown) or 'none'}. Update with: pip install --upgrade transformers headstart"
        )
    return stages


def config_sha256(network: Any) -> str:
    """sha256 of the settings that, with the same weights, give other features: activation, heads, epsilon …"""
    settings = {k: v for k, v in network.config.to_dict().items() if k not in NOT_SETTINGS}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
