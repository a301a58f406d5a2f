"""A data set: examples, labels if any, and what they are; a thin layer over a Hugging Face `datasets` table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart import registry
from headstart.data.conversation import Conversation
from headstart.data.personal import mask

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "val", "test")


def nouns_of(task: str | None, modality: str) -> tuple[str, str]:
    """What an example is called, and what several are: ("text", "texts"); in chat an example is a conversation."""
    return ("conversation", "conversations") if task == "chat" else registry.modality(modality).noun


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """N examples, in a table with these columns:

    `input`  the raw item as its modality stores it (a text; for a picture or a sound a struct of `path` and `bytes`);
             in chat a whole conversation as JSON (see conversation.py)
    `label`  str (one label, or what is said), list of str (several labels, or a conversation's answers), float (a
             number) or a struct of boxes (see boxes.py); absent when there are no labels
    `split`  "train", "val", "test", or "" where none was given
    `group`  str, absent unless asked for: examples of one group stay on one side of every split
    `stated` [width, height] of the picture as its annotations state it, None where they do not; absent without boxes
    `time`   float (seconds, or any number that sorts), absent unless asked for
    """

    table: datasets.Dataset
    modality: str
    task: (
        str | None
    )  # "classification", "multilabel", "regression", "detection", "transcription", "chat", or None without labels
    name: str  # for titles and folder names: "reviews"
    source: str  # where it came from, for people: a path, or "3,771 texts in memory"
    input_name: str | None = None  # the column that the items stood in; None where the data are the items themselves
    label_name: str = "label"  # what the label is called where the data come from
    notes: tuple[str, ...] = ()  # what the reader found out or decided, one line each
    overruled: Mapping[str, str] = field(default_factory=dict)  # what the user said of it: {"label": "stars"}

    def __len__(self) -> int:
        return len(self.table)

    def has(self, column: str) -> bool:
        """Whether the table has this column."""
        return column in self.table.column_names

    def column(self, name: str) -> list[Any]:
        """All N values of a column, as Python objects."""
        return self.table[name][:]

    @property
    def nouns(self) -> tuple[str, str]:
        """What one of the examples is called, and what several are."""
        return nouns_of(self.task, self.modality)

    def named(self, row: int) -> str:
        """What people recognise the example at `row` by."""
        item = self.table[row]["input"]
        question = mask(Conversation.from_text(item).first_question) if self.task == "chat" else item
        return registry.modality(self.modality).describe(question)

    @property
    def inputs(self) -> list[Any]:
        """All N raw items, as stored."""
        return self.column("input")

    @property
    def groups(self) -> list[str] | None:
        """The group of each example, None when none was asked for."""
        return self.column("group") if self.has("group") else None

    def rows(self, split: str) -> np.ndarray:
        """Indices (n,) int64 of the examples in a split."""
        return np.flatnonzero(np.asarray(self.column("split")) == split)

    def select(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """The examples at `rows`, in that order."""
        return replace(self, table=self.table.select(np.asarray(rows, dtype=np.int64)))

    def with_splits(self, splits: Sequence[str]) -> Dataset:
        """The same examples with the `split` column replaced."""
        table = self.table.remove_columns(["split"]) if self.has("split") else self.table
        return replace(self, table=table.add_column("split", list(splits)))
