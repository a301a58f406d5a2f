"""Find plug-ins by name: the file's name is the plug-in's name.

Each axis (modalities, backbones, tasks, losses, strategies, alignments, tables, forecasters) is a folder; each file in
it holds one public subclass of the axis' base class. An outside package adds one with an entry point in the group
`headstart.<axis>`:

    [project.entry-points."headstart.modalities"]
    sonar = "my_package.sonar:Sonar"

Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headstart.errors import RegistryError, did_you_mean, listed


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one axis: those in `headstart.<axis>` and those that other packages announce."""

    axis: str  # "modalities"
    base: str  # name of the base class in `headstart.<axis>.base`
    not_plugins: frozenset[str] = frozenset({"base"})

    def names(self) -> list[str]:
        """Names of every plug-in, sorted; imports none of them."""
        package = importlib.import_module(f"headstart.{self.axis}")
        own = {module.name for module in pkgutil.iter_modules(package.__path__)} - self.not_plugins
        return sorted(own | set(self._announced()))

    def get(self, name: str) -> Any:
        """The class called `name`, a subclass of the axis' base; RegistryError when there is none."""
        announced = self._announced()
        if name in announced:
            return announced[name].load()
        if name not in self.names():
            raise RegistryError(
                f"{name!r} is not one of the {self.axis}: {listed(self.names())}.{did_you_mean(name, self.names())}"
            )
        return self._only_class(name)

    def _announced(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=f"headstart.{self.axis}")}

    def _only_class(self, name: str) -> type:
        module = importlib.import_module(f"headstart.{self.axis}.{name}")
        base = getattr(importlib.import_module(f"headstart.{self.axis}.base"), self.base)
        found = [
            value
            for key, value in vars(module).items()
            if inspect.isclass(value)
            and issubclass(value, base)
            and value.__module__ == module.__name__
            and not key.startswith("_")
        ]
        if len(found) != 1:
            raise RegistryError(
                f"{module.__name__} must hold exactly one public subclass of {self.base}, "
                f"but holds {len(found)}: {listed(c.__name__ for c in found) or 'none'}."
            )
        return found[0]


MODALITIES = Registry(
    "modalities",
    "Modality",
    frozenset(
        {
            "augment",
            "base",
            "classical",
            "distort",
            "drawing",
            "files",
            "frames",
            "headers",
            "pauses",
            "spectra",
            "waves",
        }
    ),
)
BACKBONES = Registry(
    "backbones",
    "Backbone",
    frozenset(
        {
            "base",
            "catalog",
            "changes",
            "costs",
            "ctranslate",
            "detector_stages",
            "dialogue",
            "families",
            "fetch",
            "fold",
            "fracast_head",
            "gguf",
            "quantile_head",
            "mel",
            "periods",
            "pixels",
            "queries",
            "resume",
            "series",
            "sounds",
            "spelling",
            "tokens",
            "whisper_decoder",
        }
    ),
)
TASKS = Registry(
    "tasks",
    "Task",
    frozenset(
        {
            *("assign", "base", "boxes", "coco", "linear", "logistic", "metrics", "pyramid"),
            *("beam", "ctc", "ctc_head", "heard", "ngram", "overlap"),
        }
    ),
)
STRATEGIES = Registry("strategies", "Strategy", frozenset({"aligning", "base"}))
ALIGNMENTS = Registry("alignments", "Alignment", frozenset({"base", "domains", "solve"}))
TABLES = Registry(
    "tables",
    "TableTransfer",
    frozenset({"base", "calibration", "density", "encoder", "folds", "gap", "linear", "mixture", "planner", "trees"}),
)
LOSSES = Registry("losses", "Loss")
FORECASTERS = Registry("forecasters", "Forecaster", frozenset({"base", "naive", "run", "statistical"}))


@cache
def modality(name: str) -> Any:
    """The one instance of the Modality called `name`; its type lives above this floor."""
    return MODALITIES.get(name)()


def plugin_name(thing: object) -> str:
    """The name under which the registry knows this object's class: its file's name."""
    return type(thing).__module__.rsplit(".", 1)[-1]
