"""What was frozen and why: the strip of stages, the depth profile and the candidates, as the template draws them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from headstart.evidence import words
from headstart.evidence.plan import Candidate, DepthPoint, Plan
from headstart.report import lines, plots
from headstart.tasks.chat import Chat


class Side(NamedTuple):
    """A probe on several stages side by side."""

    name: str
    score: str
    chosen: bool


class Depth(NamedTuple):
    """The depth profile."""

    plot: str  # empty where no stage was measured alone
    rows: list[Side]
    chosen: str  # a sentence on the chosen cut; empty where there is none


class Considered(NamedTuple):
    """One row in the table of candidates."""

    title: str
    backbone: str  # empty where all candidates share one
    round: str
    n_train: int
    value: str
    interval: str
    passes: str
    seconds: str
    outcome: str  # without the word "chosen"
    chosen: bool


def above_cut(plan: Plan) -> Literal["unused", "trained", "adapted"]:
    """What became of the stages above the cut."""
    return "unused" if plan.solved else "adapted" if plan.strategy == "lora" else "trained"


def view(plan: Plan) -> dict[str, Any]:
    """What the template needs to know of a plan."""
    several = len({one.backbone for one in plan.candidates}) > 1
    return {
        "ships_classical": plan.ships == "classical",
        "strip": plots.strip(boxes(plan)),
        "stages": key(plan),
        "metric_title": metric_title(plan),
        "depth": _depth(plan) if plan.depth else None,
        "candidates": [_considered(one, several) for one in plan.candidates],
        "budget": f"{passes(plan.budget_passes)} passes" if plan.budget_passes else "",
    }


def as_pretrained(plan: Plan) -> bool:
    """Whether nothing was trained: the network answers with the head that it was pretrained with."""
    return plan.strategy == "zero_shot"


def speaks(plan: Plan) -> bool:
    """Whether it is a language model, whose head is its own and stays as it was."""
    return plan.metric in {metric.name for metric in Chat().metrics()}


def read_stages(plan: Plan) -> tuple[int, ...]:
    """Indices of the stages that the shipped head reads, all of them frozen; none for any other model."""
    if plan.ships == "classical":
        return ()
    if not plan.solved:
        return plan.reads if plan.strategy == "frozen" else ()
    return tuple(sorted(plan.settings.get("stages") or (plan.cut - 1,)))


def is_read(plan: Plan, point: DepthPoint) -> bool:
    """Whether the shipped model is the head on just these stages."""
    return bool(point.stages) and tuple(sorted(point.stages)) == read_stages(plan)


def is_chosen(one: Candidate) -> bool:
    """Whether the search ended with it."""
    return one.outcome.lower().startswith("chosen")


def unscored(one: Candidate) -> str:
    """What stands in place of a score: it was never run, or validation does not define the metric."""
    return words.UNDEFINED if one.seconds else "not run"


def metric_title(plan: Plan) -> str:
    """The name of what candidates were compared by, for people."""
    return plan.metric_title or plan.metric or "Score"


def passes(cost: float) -> str:
    """'0.4', '12': frozen passes, with one decimal where it matters."""
    return "< 0.1" if 0 < cost < 0.05 else words.number(cost, 1 if cost < 9.95 and cost % 1 else 0)


def boxes(plan: Plan) -> list[plots.Box]:
    """The stages and the head, input first."""
    above, top = above_cut(plan), top_of(plan)
    several = read_stages(plan) if len(read_stages(plan)) > 1 else ()
    below = [
        plots.Box("read" if index in several else "frozen", name)
        for index, name in enumerate(plan.stage_names[: min(plan.cut, top)])
    ]
    rest = [plots.Box(above, name) for name in plan.stage_names[plan.cut : top]]
    unused = [plots.Box("unused", name) for name in plan.stage_names[top:]]
    return [*below, *rest, _head_box(plan), *unused]


def _head_box(plan: Plan) -> plots.Box:
    """What reads the stages."""
    if plan.settings.get("decoder"):
        return plots.Box("adapted", "decoder")
    own = as_pretrained(plan) or speaks(plan)
    return plots.Box("frozen", "its own head") if own else plots.Box("head", "new head")


def top_of(plan: Plan) -> int:
    """How many stages are run: up to the last one that the head reads."""
    if plan.solved:
        return plan.cut
    return max(plan.reads) + 1 if plan.reads else len(plan.stage_names)


def key(plan: Plan) -> list[tuple[str, str]]:
    """(kind, words) for the key under the strip."""
    top = top_of(plan)
    below, above, unused = (
        plan.stage_names[: min(plan.cut, top)],
        plan.stage_names[plan.cut : top],
        plan.stage_names[top:],
    )
    kind = above_cut(plan)
    read = [plan.stage_names[index] for index in read_stages(plan) if index < len(plan.stage_names)]
    found = []
    if below:
        found.append(("frozen", f"{_many(below)} frozen, run once ({_span(below)})"))
    if len(read) > 1:
        found.append(("read", f"the head reads {', '.join(read[:-1])} and {read[-1]} side by side"))
    if above and kind == "adapted":
        found.append((kind, f"{_many(above)} frozen, with trained low-rank adapters ({_span(above)})"))
    elif above:
        start = " from random weights" if plan.strategy == "scratch" else ""
        found.append((kind, f"{_many(above)} trained{start} ({_span(above)})"))
    found.append(_head_key(plan))
    if unused:
        found.append(("unused", f"{_many(unused)} left out ({_span(unused)})"))
    return found


def _head_key(plan: Plan) -> tuple[str, str]:
    if plan.settings.get("decoder"):
        return "adapted", "the pretrained decoder, with trained low-rank adapters"
    if as_pretrained(plan):
        return "frozen", "its own head, as it was pretrained: nothing was trained"
    if speaks(plan):
        return "frozen", "its own head, as it was pretrained"
    return "head", "head, trained" if plan.reads else "new head, trained"


def _many(names: tuple[str, ...]) -> str:
    return f"{len(names)} stage{'s' * (len(names) > 1)}"


def _span(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _depth(plan: Plan) -> Depth:
    title = f"{metric_title(plan)} on validation"
    rows = [
        Side(point.name, words.score(point.score), is_read(plan, point))
        for point in plan.depth
        if len(point.stages) > 1
    ]
    cut = None if plan.ships == "classical" or as_pretrained(plan) else lines.Cut(plan.cut, *_sides(plan))
    dots = [
        lines.Dot(point.stages[0], point.name, point.score, is_read(plan, point))
        for point in plan.depth
        if len(point.stages) == 1
    ]
    return Depth(lines.depth(dots, plan.n_stages, cut, title) if dots else "", rows, _said(plan))


def _sides(plan: Plan) -> tuple[str, str]:
    """What the two sides of the cut are called."""
    kind = above_cut(plan)
    return "frozen", {"unused": "left out", "adapted": "adapted"}.get(kind, "trained")


def _said(plan: Plan) -> str:
    if plan.ships == "classical":
        return "No cut is marked: the run ships the classical model."
    if as_pretrained(plan):
        return "No dot is filled: the chosen way is the network with its own head, and nothing was trained."
    if plan.settings.get("decoder"):
        return "No stage was trained: the decoder that reads the last one got low-rank adapters."
    if read := read_stages(plan):
        if not any(is_read(plan, point) for point in plan.depth):
            return "The broken line is the chosen cut: stages above it are left out."
        return "The filled dot is the chosen one." if len(read) == 1 else "The chosen one reads the row marked below."
    if plan.cut == 0:
        return "The whole network was then trained, so nothing stayed frozen."
    how = "got low-rank adapters" if plan.strategy == "lora" else "were trained"
    return f"The broken line is the chosen cut: stages above it {how}."


def round_of(one: Candidate) -> str:
    """In which round of the search it was run, for people; what was not trained had none."""
    if one.round:
        return str(one.round)
    return "untrained" if one.strategy == "zero_shot" else "solved"


def _considered(one: Candidate, several: bool) -> Considered:
    chosen = is_chosen(one)
    return Considered(
        title=one.title,
        backbone=one.backbone if several else "",
        round=round_of(one),
        n_train=one.n_train,
        value=words.value(one.score) if one.score else unscored(one),
        interval=words.interval(one.score) if one.score else "",
        passes=passes(one.cost_passes),
        seconds=words.seconds(one.seconds) if one.score or one.seconds else "–",
        outcome=one.outcome[len("chosen") :].lstrip(" ,;:.–-") if chosen else one.outcome,
        chosen=chosen,
    )
