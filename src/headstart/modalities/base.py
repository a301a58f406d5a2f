"""A modality is what comes in: how a raw item is recognised, stored, checked, opened and shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from headstart.errors import RegistryError, did_you_mean, listed

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Examined:
    """What one look at a raw item found."""

    digest: str  # sha256 (hex) of the content; equal digests are the same item
    problem: str | None = None  # why it cannot be used, for people; None when it can
    remarks: tuple[str, ...] = ()  # what is odd about one that can; each begins with its kind and a colon


@dataclass(frozen=True)
class Preview:
    """How an item is shown in a report: a text, or a picture or a sound as a `data:` URI."""

    text: str = ""
    image_uri: str = ""
    audio_uri: str = ""


class ClassicalFeatures(ABC):
    """Numbers that a classical model sees in raw items; what it has learnt is kept as arrays, never pickled."""

    title: str  # for people, and the name it is saved under: "TF-IDF of words"

    @abstractmethod
    def fit_transform(self, items: Sequence[Any]) -> Any:
        """Learn from N `Modality.classical_item`s; gives their features (N, D), a float32 array or sparse matrix."""

    @abstractmethod
    def transform(self, items: Sequence[Any]) -> Any:
        """Features (N, D) of N `Modality.classical_item`s, once fitted or restored."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """What was learnt, as arrays that safetensors can hold: a string is uint8, its UTF-8."""

    @abstractmethod
    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take what was learnt from a `state`, in place; `transform` then gives the very same numbers."""


class Modality(ABC):
    """One kind of input. Stateless; one public subclass a file, named after the file."""

    noun: ClassVar[tuple[str, str]]  # for sentences: ("text", "texts")
    suffixes: ClassVar[frozenset[str]]  # files that hold one item each, lower case: {".txt"}
    column_names: ClassVar[tuple[str, ...]]  # usual names of the input column, best first
    default_backbone: ClassVar[str]
    augments: ClassVar[bool] = False  # whether `augment` changes anything
    n_variants: ClassVar[int] = 0  # forms that a probe may learn from too; of few, since each is a pass

    @abstractmethod
    def recognises(self, values: Sequence[Any], folder: str | None) -> bool:
        """Whether a column that holds these (up to 200) values can be this modality's input.

        `folder` is where relative file names start, None when the values do not come from a file.
        """

    @abstractmethod
    def store(self, value: Any, folder: str | None) -> Any:
        """A user's value (text, file name, array, PIL image …) as the Arrow value kept in `Dataset.input`."""

    @abstractmethod
    def arrow_feature(self) -> Any:
        """The `datasets` feature (a plain `Value`, or a dict for a struct) of the stored value."""

    @abstractmethod
    def example(self) -> Any:
        """A value that `store` takes, for trying out what has been loaded."""

    @abstractmethod
    def examine(self, item: Any) -> Examined:
        """Read the stored item once: its digest, and what is wrong with it. Never raises for a bad item."""

    @abstractmethod
    def open(self, item: Any, detail: int | None = None) -> Any:
        """The stored item as a backbone takes it: a str, an RGB PIL image, or (T,) float32 at 16 kHz.

        `detail` is what is enough: the side in pixels, so that a large JPEG is decoded at a reduced scale, or how many
        samples from the start.
        """

    def outline(self, item: Any) -> Any:
        """What shows a backbone how long a stored item is: the item itself, or as many zeros as a sound has samples."""
        return item

    def classical_item(self, item: Any) -> Any:
        """The stored item as `classical_features` take it; small, since all N are in memory at once."""
        return self.open(item)

    def augment(self, item: Any, rng: np.random.Generator) -> Any:
        """An opened item changed at random, such that its label still holds; `rng` alone decides how."""
        return item

    def variant(self, item: Any, number: int) -> Any:
        """An opened item in one of `n_variants` other forms, from 1 on, that leave its label as it is."""
        return item

    @abstractmethod
    def preview(self, item: Any) -> Preview:
        """The item for a report; small (a text of at most 400 characters, a picture of at most 160 pixels)."""

    def small(self, item: Any) -> Any:
        """The stored item in a form that needs no other file and takes little room, for showing it elsewhere."""
        return item

    @abstractmethod
    def describe(self, item: Any) -> str:
        """A short name for lists: the file's path, or the start of the text."""

    def name_in_full(self, item: Any) -> str:
        """What stands for the item in a table of predictions."""
        return self.describe(item)

    @abstractmethod
    def classical_features(self) -> Sequence[ClassicalFeatures]:
        """The features to try for the classical baseline, new and unfitted; the best on validation are used."""

    def classical(self, title: str) -> ClassicalFeatures:
        """The unfitted features of that title. RegistryError when there are none."""
        found = {features.title: features for features in self.classical_features()}
        if title not in found:
            raise RegistryError(
                f"{title!r} is not one of the classical features of {self.noun[1]}: {listed(found)}."
                f"{did_you_mean(title, found)}"
            )
        return found[title]
