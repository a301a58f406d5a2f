"""Look at a panel before anything is trained: gaps, jumps, values filled in, and covariates that know the future.

A check is a function from a panel to its findings. To add one, write it and name it in `audit_panel`. Nothing is
changed here. A finding is a warning or a remark: none stops the fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import chain

import numpy as np

from headstart.data.audit_state import N_EXAMPLES, Finding
from headstart.data.filled import carried_forward, interpolated, shared_holidays
from headstart.data.panel import Panel
from headstart.data.read_panel import REPEATED
from headstart.errors import listed

_LEAD = 24  # steps ahead at which a covariate is held against the target
_LEAST_PAIRS = 30
_DETERMINES = 0.8  # of the variance of the target's changes
_FAR_BETTER = 0.25  # what the covariate leaves unexplained, over what the past does
_STANDS_STILL = 20  # steps
_JUMP = 10.0  # robust standard deviations
_FACTOR = 100.0  # a mistaken unit
_SHORT = 0.25  # of the median length


def audit_panel(panel: Panel, given: Panel | None = None) -> tuple[Finding, ...]:
    """What is odd about the series; `given`: the levels that `panel` was made of, where it holds returns."""
    levels = given or panel
    checks = [_leaks(panel), _repeated(panel), _gaps(panel), _short(panel), _constant(panel)]
    if levels.as_ == "levels":
        checks += [_filled(levels), _carried(levels), _shifts(levels), _units(levels)]
    checks += [_prices(panel)]
    return tuple(chain.from_iterable(checks))


def _finding(panel: Panel, kind: str, severity: str, text: str, rows: np.ndarray) -> Finding:
    return Finding(kind=kind, severity=severity, text=text, examples=tuple(panel.ids[r] for r in rows[:N_EXAMPLES]))


def _count(n: int) -> str:
    return f"{n:,} series"


def _when(panel: Panel, step: int) -> str:
    """The date of a step, or "step 7"."""
    time = panel.times[step]
    return str(time)[:16].replace("T00:00", "") if panel.times.dtype.kind == "M" else f"step {int(time)}"


def _leaks(panel: Panel) -> Iterator[Finding]:
    """Covariates that tell the target's value of the same step or of one to come, and so cannot be known before."""
    for name, covariate in panel.known.items():
        leads = [one for row in range(len(panel)) if (one := told(covariate[row], panel.values[row])) is not None]
        hit = [one for one in leads if one[1]]
        if not leads or len(hit) <= len(leads) / 2:
            continue
        steps = [lead for lead, _, _ in hit]
        lead = max(set(steps), key=steps.count)
        share = float(np.median([r2 for _, _, r2 in hit]))
        when = "of the same step" if lead == 0 else f"{lead} step{'s' * (lead != 1)} later"
        text = (
            f"Covariate {name!r} all but tells the target's value {when} (its changes explain {100 * share:.0f} % of "
            f"the target's, in {_count(len(hit))} of {len(leads):,}), far better than the past does. If it is not "
            "really known before, every score here is too good to be true: take it out of --known, or give it as "
            "late as it is known."
        )
        yield Finding(kind="leak", severity="warning", text=text, examples=(name,))


def told(covariate: np.ndarray, target: np.ndarray) -> tuple[int, bool, float] | None:
    """(lead, whether it leaks, R² there) of one series; (T + F,) and (T,). None where there is too little to tell.

    R² of the target's change by the covariate's at each lead from 0 on, against the best that the covariate's own past
    and the target's past give.
    """
    x, y = np.diff(covariate), np.diff(target)
    most = min(_LEAD, len(y) // 4)
    ahead = [_r2(x[: len(y) - k], y[k:]) for k in range(most + 1)]
    if np.isnan(ahead[0]) and all(np.isnan(ahead)):
        return None
    past = [_r2(y[:-k], y[k:]) for k in range(1, most + 1)]
    behind = [_r2(x[k : len(y)], y[: len(y) - k]) for k in range(1, most + 1)]
    lead = int(np.nanargmax(ahead))
    best = float(ahead[lead])
    known = max([r2 for r2 in (*past, *behind) if not np.isnan(r2)], default=0.0)
    return lead, best > _DETERMINES and 1 - best < _FAR_BETTER * (1 - known), best


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    """Squared correlation of the pairs that are there; NaN where they are few or do not vary."""
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < _LEAST_PAIRS or np.ptp(x[there]) == 0 or np.ptp(y[there]) == 0:
        return np.nan
    return float(np.corrcoef(x[there], y[there])[0, 1] ** 2)


def _repeated(panel: Panel) -> Iterator[Finding]:
    """Duplicates in time, as the reader counted them."""
    for note in panel.notes:
        if REPEATED in note:
            yield Finding(kind="duplicate", severity="info", text=f"{note[0].upper()}{note[1:]}.")


def _gaps(panel: Panel) -> Iterator[Finding]:
    """Steps without a value between the first and the last one of a series."""
    holes = [_runs(np.isnan(_inside(one))) for one in panel.values]
    n_missing = np.array([int(sizes.sum()) for _, sizes in holes])
    if not n_missing.any():
        return
    longest = np.array([int(sizes.max(initial=0)) for _, sizes in holes])
    row = int(np.argmax(longest))
    n_inside = sum(len(_inside(one)) for one in panel.values)
    share = n_missing.sum() / n_inside
    text = (
        f"{_count(int((n_missing > 0).sum()))} of {len(panel):,} have gaps: {n_missing.sum():,} steps "
        f"({100 * share:.1f} %) lack a value, at most {longest[row]:,} in a row ({panel.ids[row]}). They stay missing; "
        "nothing is filled in."
    )
    yield _finding(
        panel, "gaps", "warning" if share > 0.1 or longest[row] > 30 else "info", text, np.argsort(-n_missing)
    )


def _inside(series: np.ndarray) -> np.ndarray:
    there = np.flatnonzero(np.isfinite(series))
    return series[there[0] : there[-1] + 1] if len(there) else series[:0]


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each run of true begins, and how long it is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2] - edges[::2]


def _short(panel: Panel) -> Iterator[Finding]:
    """Series far shorter than the others."""
    n = np.isfinite(panel.values).sum(axis=1)
    rows = np.flatnonzero(n < _SHORT * np.median(n))
    if len(rows):
        text = (
            f"{_count(len(rows))} of {len(panel):,} are far shorter than the others: {n[rows].min():,} values at "
            f"least, where the median is {int(np.median(n)):,} ({listed((panel.ids[r] for r in rows), 3)})."
        )
        yield _finding(panel, "short", "info", text, rows)


def _constant(panel: Panel) -> Iterator[Finding]:
    """Series that never change, and long stretches in which one that changes stands still."""
    low, high = np.nanmin(panel.values, axis=1), np.nanmax(panel.values, axis=1)
    rows = np.flatnonzero(low == high)
    if len(rows):
        text = f"{_count(len(rows))} of {len(panel):,} never change ({listed((panel.ids[r] for r in rows), 3)})."
        yield _finding(panel, "constant", "warning", text, rows)
    longest = np.array([_still(one) for one in panel.values])
    rows = np.flatnonzero((longest >= max(_STANDS_STILL, 2 * panel.season)) & (low < high))
    if len(rows):
        row = rows[np.argmax(longest[rows])]
        text = (
            f"{_count(len(rows))} of {len(panel):,} stand still for {max(_STANDS_STILL, 2 * panel.season)} steps or "
            f"more in a row ({panel.ids[row]}: {longest[row]:,} steps). Look whether that was measured."
        )
        yield _finding(panel, "constant", "info", text, rows)


def _still(series: np.ndarray) -> int:
    """The longest run of one value, 0 where the series rests at that value most of the time, as rare sales do."""
    there = series[np.isfinite(series)]
    same = np.diff(there) == 0
    return int(_runs(same)[1].max(initial=-1)) + 1 if len(there) and same.mean() < 0.5 else 0


def _filled(panel: Panel) -> Iterator[Finding]:
    """Values on the line between their neighbours."""
    found = interpolated(panel)
    rows = np.flatnonzero(found.any(axis=1))
    if not len(rows):
        return
    n, step = int(found.sum()), int(np.flatnonzero(found[rows[0]])[0])
    text = (
        f"{n:,} values of {_count(len(rows))} ({listed((panel.ids[r] for r in rows), 3)}) lie exactly on the line "
        f"between their neighbours, far more than chance gives: they look filled in by interpolation (the first is "
        f"{panel.ids[rows[0]]} at {_when(panel, step)}), and so hold a part of tomorrow's value. The "
        f"{int(shared_holidays(panel, found).sum()):,} that stand on weekdays that series share, as holidays do, are "
        "taken for missing; take out the others if they are no values."
    )
    yield _finding(panel, "interpolated", "warning", text, rows)


def _carried(panel: Panel) -> Iterator[Finding]:
    """Closes that repeat the one before, in prices."""
    if not panel.prices:
        return
    found = carried_forward(panel)
    rows = np.flatnonzero(found.any(axis=1))
    if len(rows):
        text = (
            f"{int(found.sum()):,} values of {_count(len(rows))} ({listed((panel.ids[r] for r in rows), 3)}) are "
            "exactly the one before, far more than chance gives: they look carried forward over holidays. They leak "
            "nothing, but make returns of 0 that nobody earned; leave such days empty."
        )
        yield _finding(panel, "carried forward", "info", text, rows)


def _shifts(panel: Panel) -> Iterator[Finding]:
    """A jump in one step to a level that stays: of medians before and after it, far beyond how these usually differ."""
    import pandas as pd

    values = np.log(panel.values) if panel.prices else panel.values
    width = max(10, 2 * panel.season)
    before = pd.DataFrame(values.T).rolling(width, min_periods=width // 2).median().to_numpy().T  # (S, T), at its end
    if values.shape[1] <= 4 * width:
        return
    change = np.abs(before[:, 2 * width - 1 :] - before[:, width - 1 : -width])
    steps = np.abs(np.diff(values))[:, width - 1 :][:, : change.shape[1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        hit = (change > _JUMP * _spread(change)) & (steps > 2 * _JUMP * _spread(steps)) & (steps > 0.7 * change)
    rows = np.flatnonzero(hit.any(axis=1))
    if len(rows):
        step = int(np.flatnonzero(hit[rows[0]])[0]) + width
        text = (
            f"{_count(len(rows))} of {len(panel):,} jump to another level and stay there ({panel.ids[rows[0]]} at "
            f"{_when(panel, step)}). If the way of measuring changed, give the part after it alone."
        )
        yield _finding(panel, "level shift", "warning", text, rows)


def _spread(sizes: np.ndarray) -> np.ndarray:
    """(S, 1) robust standard deviation of numbers around 0 whose sizes (S, T) these are; inf where most are 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of series without any
        usual = 1.4826 * np.nanmedian(sizes, axis=1, keepdims=True)
    return np.where(usual > 0, usual, np.inf)


def _units(panel: Panel) -> Iterator[Finding]:
    """Single values a hundred times what stands around them, as a mistaken unit makes them."""
    import pandas as pd

    around = pd.DataFrame(panel.values.T).rolling(21, center=True, min_periods=5).median().to_numpy().T
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.abs(np.log(panel.values / around))
    hit = np.isfinite(factor) & (factor > np.log(_FACTOR))
    hit &= ((hit.mean(axis=1) < 0.01) & ~(panel.values < 0).any(axis=1))[:, None]  # around 0 any factor occurs
    rows = np.flatnonzero(hit.any(axis=1))
    if len(rows):
        step = int(np.flatnonzero(hit[rows[0]])[0])
        text = (
            f"{int(hit.sum()):,} values of {_count(len(rows))} are {_FACTOR:.0f} times what stands around them, or "
            f"that small a part of it ({panel.ids[rows[0]]} at {_when(panel, step)}: {panel.values[rows[0], step]:g}). "
            "Look whether the unit is right."
        )
        yield _finding(panel, "unit", "warning", text, rows)


def _prices(panel: Panel) -> Iterator[Finding]:
    """Levels that walk at random look easy to forecast and are not."""
    if panel.prices and panel.as_ == "levels":
        text = (
            "The series look like prices, which walk at random: levels mislead, for the last value alone comes close "
            "to them. Use --as returns, or --as volatility, which can be forecast."
        )
        yield Finding(kind="prices", severity="warning", text=text)
