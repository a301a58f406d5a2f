"""Python objects to raw columns: lists, arrays, pandas, dicts, records, and Hugging Face data sets from disk or hub."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import places
from headstart.data.raw import Raw, plain_list, split_name, together
from headstart.errors import DataError, listed

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def from_object(data: Any) -> Raw:
    """Rows that are already in memory. DataError for a type that is not known, and when there are none."""
    if type(data).__module__.partition(".")[0] == "datasets":
        return from_hf(data, name="data", source=None)
    if _is_pair(data):
        return _items(data[0]).with_labels(data[1])
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # pandas
        return _columns(_of_frame(data))
    if isinstance(data, Mapping):
        return _columns({str(name): plain_list(values) for name, values in data.items()})
    if isinstance(data, (list, tuple, np.ndarray)) or hasattr(data, "tolist"):
        return _items(data)
    raise DataError(
        f"Cannot read data from a {type(data).__name__}. Give a path, a list of texts, pictures or sounds with "
        "labels, a NumPy array of pictures (N, H, W[, C]), a pandas DataFrame, a dict of columns, a list of dicts or a "
        "datasets.Dataset."
    )


def _of_frame(frame: Any) -> dict[str, list[Any]]:
    names = [str(name) for name in frame.columns]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise DataError(
            f"The data frame has more than one column called {listed(map(repr, twice))}. "
            "Rename them, so that each column has a name of its own."
        )
    return {name: frame[column].tolist() for name, column in zip(names, frame.columns, strict=True)}


def _is_pair(data: Any) -> bool:
    """Whether it is (items, labels): a tuple of two sequences, neither of them a string or a record."""
    if not (isinstance(data, tuple) and len(data) == 2):
        return False
    sequences = [isinstance(part, (list, tuple)) or hasattr(part, "tolist") for part in data]
    return all(sequences) and getattr(data[1], "ndim", 1) <= 2


def _items(data: Any) -> Raw:
    items = list(data) if isinstance(data, np.ndarray) and data.ndim > 1 else plain_list(data)
    if not items:
        raise DataError("There are no examples: the data are an empty list. Give at least one item.")
    if all(isinstance(item, Mapping) and not _is_file(item) for item in items):
        names = dict.fromkeys(name for item in items for name in item)
        return _columns({str(name): [item.get(name) for item in items] for name in names})
    return Raw(columns={"input": items}, name="data", source=None, input="input")


def _is_file(item: Mapping[str, Any]) -> bool:
    """Whether it is one item, a file or a sound's samples with their rate, rather than a record."""
    return set(item) <= {"path", "bytes"} or {"array", "sampling_rate"} <= set(item)


def _columns(columns: dict[str, list[Any]]) -> Raw:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = listed(f"{name!r} {n:,}" for name, n in lengths.items())
        raise DataError(f"The columns differ in length: {found}. Give every column one value an example.")
    if not any(lengths.values()):
        found = f"columns ({listed(columns)})" if columns else "no columns"
        raise DataError(f"There are no examples: the data hold {found} and no rows. Give at least one row.")
    return Raw(columns=columns, name="data", source=None)


def from_hf(data: Any, name: str, source: str | None) -> Raw:
    """A `datasets.Dataset`, or a `DatasetDict` whose keys are splits. DataError for a streamed one."""
    import datasets

    if isinstance(data, datasets.Dataset):
        return dataclasses.replace(_columns(hf_columns(data)), name=name, source=source)
    if not isinstance(data, datasets.DatasetDict):
        raise DataError(f"A {type(data).__name__} cannot be read. Load it with streaming=False.")
    known = [(split, key) for key in data if (split := split_name(str(key)))]
    if not known and len(data) == 1:
        return from_hf(next(iter(data.values())), name, source)
    if not known:
        raise DataError(f"The data set's parts are {listed(data)}; at least one must be called train, val or test.")
    raw = together([(split, _columns(hf_columns(data[key]))) for split, key in known])
    unread = [key for key in data if not split_name(str(key))]
    notes = (*raw.notes, f"parts that are no split were not read: {listed(unread)}") if unread else raw.notes
    return dataclasses.replace(raw, name=name, source=source, notes=notes)


def hf_columns(table: datasets.Dataset) -> dict[str, list[Any]]:
    """Columns as Python values; classes by their names, pictures and sounds as they are stored."""
    table = table.with_format(None)
    for name, feature in table.features.items():
        if getattr(feature, "decode", False) is True:
            table = table.cast_column(name, dataclasses.replace(feature, decode=False))
    return {name: _named(table[name][:], feature) for name, feature in table.features.items()}


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Class indices, alone, in lists or in structs, by their names; -1 is a label that nobody gave."""
    import datasets

    if not _has_classes(feature):
        return values
    if isinstance(feature, datasets.ClassLabel):
        return [None if value is None or value < 0 else feature.names[value] for value in values]
    if isinstance(feature, dict):
        return [
            None if value is None else {key: _named([value[key]], inner)[0] for key, inner in feature.items()}
            for value in values
        ]
    return [None if value is None else _named(value, _inner(feature)) for value in values]


def _has_classes(feature: Any) -> bool:
    """Whether there are class indices anywhere in it."""
    import datasets

    if isinstance(feature, dict):
        return any(map(_has_classes, feature.values()))
    inner = _inner(feature)
    return isinstance(feature, datasets.ClassLabel) or (inner is not None and _has_classes(inner))


def _inner(feature: Any) -> Any:
    """What a list feature holds, None for any other."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of the datasets library wrote this folder."""
    files = [(folder / name).is_file() for name in ("dataset_dict.json", "state.json", "dataset_info.json")]
    return files[0] or (files[1] and files[2])


def from_saved(folder: Path) -> Raw:
    """A data set that `save_to_disk` wrote."""
    import datasets

    try:
        data = datasets.load_from_disk(str(folder))
    except Exception as error:  # a damaged one fails in many ways
        raise DataError(f"{folder} looks like a saved data set but cannot be loaded: {error}.") from error
    return from_hf(data, name=folder.resolve().name, source=str(folder))


def is_hub_id(text: str) -> bool:
    """Whether it could be a data set on the Hugging Face hub: "org/name", and no folder "org" lies here."""
    return bool(_HUB_ID.fullmatch(text)) and not Path(text).parent.exists()


def from_hub(name: str) -> Raw:
    """A data set of the Hugging Face hub. DataError offline and when the hub does not have it."""
    if places.offline():
        raise DataError(
            f"There is no file or folder {name!r} here, and as HEADSTART_OFFLINE or HF_HUB_OFFLINE is set, the hub is "
            "not asked. Check the path, or unset the variable to fetch the data set of that name from the hub."
        )
    import datasets

    try:
        data = datasets.load_dataset(name)
    except Exception as error:  # the network and the hub fail in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"There is no file or folder {name!r} here, and the hub did not give a data set of that name: {reason}. "
            "Check the path or the id."
        ) from error
    return from_hf(data, name=name.rpartition("/")[2], source=f"hub:{name}")
