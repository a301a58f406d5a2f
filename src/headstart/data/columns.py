"""Which column is what: the input and its modality, the label, and the split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart import registry
from headstart.data.labels import TRANSCRIPT_NAMES, TRANSCRIPTION
from headstart.data.raw import Raw, is_missing, split_name
from headstart.errors import DataError, did_you_mean, listed

LABEL_NAMES = (
    *("label_name", "label_text", "labels_text", "label", "labels", "class", "class_name", "target", "category"),
    *("sentiment", "intent", "tag", "tags", "y", "score", "rating", "stars", "price", "value"),
)
_ID_NAMES = {"id", "idx", "index", "uid", "uuid", "guid", "unnamed: 0", "unnamed 1", "__index_level_0__"}
_SAMPLE = 200
SPEAKER_NAMES = ("speaker", "speaker_id", "client_id", "spk", "spk_id", "spkid", "speakerid")
ROWS = "tabular"  # the modality whose items are whole rows


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The columns that a data set is made of."""

    input: str | None  # None where the whole row is the input
    modality: str
    label: str | None
    split: str | None
    notes: tuple[str, ...] = ()
    row: tuple[str, ...] = ()  # the columns of a row, where that is the input


def choose(
    raw: Raw,
    *,
    input: str | None,
    label: str | None,
    group: str | None = None,
    time: str | None = None,
    modality: str | None = None,
    task: str | None = None,
) -> Roles:
    """Find the roles; `input` and `label` overrule ("" as label: there is none), `group` and `time` are left alone.

    Beside sounds a column of transcripts can be the label, and is the first choice where `task` is "transcription".

    A table with a label in which no column is a text or a picture is taken row by row, as `modality` "tabular" asks
    for. DataError when a named column is not there or is named for two things, and when no column can be the input.
    """
    for option, name in (("input", input), ("label", label), ("group", group), ("time", time)):
        if name:
            check_column(raw, name, option)
    notes: list[str] = []
    split = split_column(raw, notes) if raw.splits is None else None
    others = {name for name in (group, time, split) if name}
    label = raw.label if label is None else label
    _check_apart({"input": input or raw.input, "label": label, "group": group})
    candidates = [name for name in raw.columns if name not in others | {label}]
    if modality == ROWS or (modality is None and not (input or raw.input) and _is_plain(raw, label, candidates)):
        return _whole_rows(raw, label, others, split, notes)
    chosen, modality = _input(raw, input or raw.input, candidates, notes)
    if label is None:
        names = _label_names(modality, task)
        label = _label(raw, [name for name in raw.columns if name not in others | {chosen}], names)
        if label is None and group and group.lower() in LABEL_NAMES:
            _check_apart({"label": group, "group": group})
        if label is None and not raw.input:
            notes.append(f"no column looks like a label; columns are {listed(raw.columns, 20)}: pass --label COL")
    if modality == "audio" and not group:
        notes += _note_speakers(raw, label, bool(split or raw.splits))
    return Roles(input=chosen, modality=modality, label=label or None, split=split, notes=tuple(notes))


def _label_names(modality: str, task: str | None) -> tuple[str, ...]:
    """Usual names of the label, best first."""
    if modality != "audio":
        return LABEL_NAMES
    return (*TRANSCRIPT_NAMES, *LABEL_NAMES) if task == TRANSCRIPTION else (*LABEL_NAMES, *TRANSCRIPT_NAMES)


def _note_speakers(raw: Raw, label: str | None, parted: bool) -> list[str]:
    """Say that voices are known, which a score for new speakers must not know."""
    known = (name for name in raw.columns if name.lower() in SPEAKER_NAMES and name != label)
    name = next(known, None)
    if name is None:
        return []
    n = len({str(value) for value in raw.columns[name] if not is_missing(value)})
    why = "see whether any stands on both sides of the given splits" if parted else "keep each on one side"
    return [f"column {name!r} names {n:,} speakers; pass --group {name} to {why}"] if n > 1 else []


def _is_plain(raw: Raw, label: str | None, candidates: Sequence[str]) -> bool:
    """Whether a table says what to learn and holds nothing but numbers and words: no text, no picture, no file."""
    if label is None and not any(name.lower() in LABEL_NAMES for name in candidates):
        return False
    if label == "":
        return False
    samples = {name: _sample(raw.columns[name]) for name in candidates if name.lower() not in _ID_NAMES}
    if _named(raw, samples):
        return False
    kinds = (str, int, float, bool, np.generic)
    return len(samples) > (label is None) and all(
        all(isinstance(value, kinds) for value in values)
        and not _are_file_names(values)
        and (name.lower() in LABEL_NAMES or _recognised(values, raw.folder) is None)
        for name, values in samples.items()
    )


def _whole_rows(raw: Raw, label: str | None, others: set[str], split: str | None, notes: list[str]) -> Roles:
    """Every column that has no other part to play is the input."""
    if raw.input:
        raise DataError(
            f"{raw.source or 'The data'} holds single items and no columns, so it cannot be read row by row. "
            "Give a table (CSV, TSV, JSON, Parquet, a data frame, a list of dicts)."
        )
    if label is None:
        label = _label(raw, [name for name in raw.columns if name not in others])
        if label is None:
            notes.append(f"no column looks like a label; columns are {listed(raw.columns, 20)}: pass --label COL")
    row = tuple(name for name in raw.columns if name not in others | {label})
    if not row:
        raise DataError(
            f"{raw.source or 'The data'} has the column {listed(raw.columns)} and none beside it to learn from. "
            "Give a table with more columns."
        )
    return Roles(input=None, modality=ROWS, label=label or None, split=split, notes=tuple(notes), row=row)


class NoColumnError(DataError):
    """A column that was named is not there."""


def check_column(raw: Raw, name: str, option: str) -> None:
    """NoColumnError, with the nearest name, when there is no such column."""
    if name not in raw.columns:
        raise NoColumnError(
            f"There is no column {name!r} in {raw.source or 'the data'}; its columns are {listed(raw.columns, 20)}."
            f"{did_you_mean(name, raw.columns)} Pass --{option} COL."
        )


def _check_apart(named: dict[str, str | None]) -> None:
    """DataError when one column is named for two things."""
    options: dict[str, str] = {}
    for option, name in named.items():
        if name and name in options:
            raise DataError(
                f"Column {name!r} cannot be both the {options[name]} and the {option}. "
                f"Name another column with --{option} COL or --{options[name]} COL."
            )
        if name:
            options[name] = option


def split_column(raw: Raw, notes: list[str]) -> str | None:
    """The column "split", if its values are usual names of splits."""
    name = next((name for name in raw.columns if name.lower() == "split"), None)
    if name is None:
        return None
    odd = {str(value) for value in raw.columns[name] if not is_missing(value) and not split_name(str(value))}
    if odd:
        notes.append(f"column {name!r} is not taken as the split: it holds {listed(sorted(odd), 3)}")
    return None if odd else name


def _input(raw: Raw, given: str | None, candidates: Sequence[str], notes: list[str]) -> tuple[str, str]:
    """(column, modality) of the input."""
    if given:
        return given, _modality_of(raw, given)
    samples = {name: _sample(raw.columns[name]) for name in candidates if name.lower() not in _ID_NAMES}
    named = _named(raw, samples)
    found = named or [
        (name, modality)
        for name, values in samples.items()
        if name.lower() not in LABEL_NAMES and (modality := _recognised(values, raw.folder))
    ]
    if not found:
        raise DataError(
            f"No column of {raw.source or 'the data'} holds texts or names of picture or sound files, and it is no "
            f"plain table with a label. Its columns are {listed(raw.columns, 20)}. If one of them is a text, a picture "
            "or a sound after all, name it with --input COL; to learn from numbers and words, name the label with "
            "--label COL; to forecast series, say how many steps ahead with --horizon N."
        )
    if sounds := [pair for pair in found if pair[1] == "audio"]:  # a text beside a sound is what is said in it
        found = sounds
    if not named:
        found = sorted(found, key=lambda pair: -_mean_length(samples[pair[0]]))
    if len(found) > 1:
        rest = listed(dict.fromkeys(repr(name) for name, _ in found[1:]))
        notes.append(f"the input is column {found[0][0]!r}; {rest} could be it too: pass --input COL to choose")
    return found[0]


def _named(raw: Raw, samples: dict[str, list[Any]]) -> list[tuple[str, str]]:
    """(column, modality) of columns with a usual name that fit it, best name first."""
    ranked = [
        (rank, name, modality)
        for modality in registry.MODALITIES.names()
        for rank, usual in enumerate(registry.modality(modality).column_names)
        for name, values in samples.items()
        if name.lower() == usual and _fits(modality, values, raw.folder)
    ]
    return [(name, modality) for _, name, modality in sorted(ranked)]


def _fits(modality: str, values: list[Any], folder: str | None) -> bool:
    """Whether a column that is called so can be it; a column called "text" may hold single words."""
    if registry.modality(modality).recognises(values, folder):
        return True
    return modality == "text" and _are_words(values) and _recognised(values, folder) is None


def _recognised(values: list[Any], folder: str | None) -> str | None:
    names = registry.MODALITIES.names()
    return next((name for name in names if registry.modality(name).recognises(values, folder)), None)


def _modality_of(raw: Raw, name: str) -> str:
    """What the column that is certainly the input holds. DataError when no modality takes it."""
    values = _sample(raw.columns[name])
    modality = _recognised(values, raw.folder) or ("text" if _are_words(values) else None)
    if modality == "text" and _are_file_names(values):
        raise DataError(
            f"Column {name!r} holds names of files ({str(values[0])[:60]!r}) of a kind that cannot be read, and a name "
            "is no text to learn from. Headstart takes texts, pictures and sounds."
        )
    if modality is None:
        kinds = listed(dict.fromkeys(type(value).__name__ for value in values)) or "nothing"
        where = "The data hold" if raw.source is None and raw.input else f"Column {name!r} holds"
        raise DataError(
            f"{where} {kinds}{f' (such as {str(values[0])[:60]!r})' if values else ''}, and no modality takes that as "
            "input. Give texts, names of picture or sound files, PIL images, arrays of shape (H, W) or (H, W, 3), or "
            "samples of shape (T,)."
        )
    return modality


def _are_file_names(values: list[Any]) -> bool:
    """Strings, nearly all with the same short suffix and without a space: 'wav/0_R1S1.wav'."""
    named = (re.fullmatch(r"\S+\.(\w{2,4})", value) for value in values if isinstance(value, str))
    suffixes = Counter(match[1].lower() for match in named if match)
    return bool(suffixes) and suffixes.most_common(1)[0][1] >= 0.9 * len(values)


def _are_words(values: list[Any]) -> bool:
    """Strings, most of them with a letter in them."""
    return sum(isinstance(v, str) and any(c.isalpha() for c in v) for v in values) >= max(1.0, 0.9 * len(values))


def _label(raw: Raw, candidates: Iterable[str], names: Sequence[str] = LABEL_NAMES) -> str | None:
    """The column with the best usual name, else the only one left that is neither an index nor an input."""
    by_name = {name.lower(): name for name in candidates}
    usual = next((by_name[name] for name in names if name in by_name), None)
    if usual:
        return usual
    left = [name for name in by_name.values() if name.lower() not in _ID_NAMES]
    if len(left) == 1 and not _recognised(_sample(raw.columns[left[0]]), raw.folder):
        return left[0]
    return None


def _sample(values: Sequence[Any]) -> list[Any]:
    """Up to 200 values that are there, spread over the whole column."""
    rows = np.linspace(0, len(values) - 1, min(len(values), 5 * _SAMPLE)).astype(int)
    there = [values[row] for row in rows if not is_missing(values[row])]
    return there[:: max(1, len(there) // _SAMPLE)][:_SAMPLE]


def _mean_length(values: Sequence[Any]) -> float:
    return sum(len(str(value)) for value in values) / max(len(values), 1)
