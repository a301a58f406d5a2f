"""Everything that one `cluster` has to say, for the report, the screen and the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headstart.backbones.base import Provenance
from headstart.data.audit import Finding
from headstart.evidence import words
from headstart.evidence.base import Score, Scores
from headstart.evidence.stability import Count, Point
from headstart.modalities.base import Preview

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """An item that stands for others."""

    name: str
    preview: Preview


@dataclass(frozen=True, kw_only=True)
class Group:
    """Items that belong together."""

    name: str  # "group 03"
    size: int
    stability: Score  # mean Jaccard index under resampling, and the middle 95 % of the resamples
    keywords: tuple[str, ...]  # of texts
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """What labels of other classes did to the space."""

    source: str
    n: int
    n_classes: int
    kept: bool  # whether the shaped space was taken
    plain: Point  # the best number of groups in the plain space
    shaped: Point  # and in the shaped one

    @property
    def said(self) -> str:
        """One sentence."""
        compared = f"{words.score(self.shaped.excess)} beyond chance against {words.score(self.plain.excess)}"
        if self.kept:
            return f"Labels of {self.source} shaped the space: groups are more stable with them ({compared})."
        return f"Labels of {self.source} do not make groups clearly more stable ({compared}): the plain space was kept."


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How far the groups agree with labels that were not used to make them."""

    label_name: str
    n: int
    n_classes: int
    scores: dict[str, Scores]  # this grouping, and k-means on each of the classical features -> index -> score
    differences: dict[str, Scores]  # rival -> index -> this grouping minus the rival, paired


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Groups of a data set without labels, and what was found out about them."""

    data: str
    source: str
    modality: str
    n: int
    count: Count  # how many groups there are; where the user said it, that number alone
    asked_for: int | None  # groups that the user named
    groups: tuple[Group, ...]  # the largest first; none where there is no structure
    table: pd.DataFrame  # item, group, distance, isolation, outlier, near_duplicate_of, x, y: a row an item
    threshold: float  # isolation from which an item is an outlier
    n_chance: float  # items that would be outliers by chance, were each group a Gaussian cloud
    outliers: tuple[Exemplar, ...]  # the farthest first; a few of them
    twins: tuple[tuple[Exemplar, Exemplar], ...]  # near-duplicates; a few of them
    proposals: tuple[str, ...]  # items to label, the one that teaches most first
    proposed_rows: tuple[int, ...]  # the same as rows of the table
    shaping: Shaping | None
    measured: Measured | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    provenance: Provenance
    stage: str  # whose features were grouped
    seed: int
    seconds: dict[str, float]
    created: str
    versions: dict[str, str]

    @property
    def n_outliers(self) -> int:
        """Items that stand alone."""
        return int(self.table["outlier"].sum())

    @property
    def n_duplicates(self) -> int:
        """Items that are nearly the same as an earlier one."""
        return int((self.table["near_duplicate_of"] != "").sum())

    @property
    def verdict(self) -> str:
        """How many groups, in one sentence."""
        return verdict(self.count, self.asked_for)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the table is in a file of its own."""
        skipped = {"table", "groups", "outliers", "twins", "count", "shaping", "measured"}
        plain = {name: value for name, value in vars(self).items() if name not in skipped}
        return {
            **plain,
            "verdict": self.verdict,
            "count": asdict(self.count),
            "groups": [{**asdict(group), "exemplars": _names(group.exemplars)} for group in self.groups],
            "n_outliers": self.n_outliers,
            "n_near_duplicates": self.n_duplicates,
            "outliers": _names(self.outliers),
            "near_duplicates": [_names(pair) for pair in self.twins],
            "shaping": asdict(self.shaping) if self.shaping else None,
            "measured": asdict(self.measured) if self.measured else None,
            "findings": [asdict(finding) for finding in self.findings],
            "provenance": asdict(self.provenance),
        }


def verdict(count: Count, asked_for: int | None) -> str:
    """How many groups, in one sentence; never more than the stability says."""
    excess = words.score(count.best.excess)
    if asked_for is not None:
        if count.found:
            return f"{asked_for} groups, as asked for, more stable than those of a cloud without groups by {excess}."
        return f"{asked_for} groups, as asked for, but not clearly more stable than those of a cloud without groups."
    if not count.found:
        return (
            "No groups found: whatever their number, they are not clearly more stable than those of a cloud without "
            "groups."
        )
    edge = " It is the largest number that was tried: there may be more." if count.at_the_edge else ""
    return f"{count.k} groups (95 % interval {count.low} to {count.high}).{edge}"


def _names(exemplars: Sequence[Exemplar]) -> list[str]:
    return [one.name for one in exemplars]
