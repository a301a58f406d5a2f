"""Look at sounds and their transcripts before anything is trained: silent, cut off, clipped, or not what is said.

The checks are those of audit.py, to which they belong. A sound that is odd is used all the same; what cannot be learnt
from at all leaves train and val, never a given test split.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache

from headstart import registry
from headstart.data.audit_state import State
from headstart.data.threads import in_threads
from headstart.data.transcripts import frames_needed
from headstart.errors import listed

FRAMES_A_SECOND = 50  # that encoders of speech hand on
SAME_SCRIPT = 0.8  # of the transcripts, for one script to be the usual one
_LEFT_OUT = {  # how a problem begins -> what to do about it
    "too long": "Split them into examples of at most 30 s, best where nobody speaks.",
    "silent": "Look whether the microphone was on.",
    "truncated": "Copy these files again.",
}
_ODD = {  # how a remark begins -> what it means
    "clipped": "are clipped (too loud when recorded, so that many samples are at full scale)",
    "quiet": "are very quiet (no sample reaches a hundredth of full scale)",
    "cut off": "end before their header says, by less than a tenth",
    "not finite": "hold samples that are no numbers, which were taken as silence",
}
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "FULLWIDTH": "LATIN"}
Check = Callable[[State], State]


def checks_of_sounds() -> list[Check]:
    """What is looked at in each sound by itself, before what cannot be read is left out."""
    return [_no_sounds, _left_out, _odd]


def checks_of_transcripts() -> list[Check]:
    """What is looked at in the transcripts that are left, in order."""
    return [_said_too_fast, _another_script, _rare_characters]


def _no_sounds(state: State) -> State:
    """Files that are something else, whatever their names say; where there is nothing else, all are told of."""
    problems = state.rows["problem"].fillna("")
    about = problems.str.startswith("not a sound")
    if not about.any() or (problems != "").all():
        return state
    kinds = Counter(problems[about].str.removeprefix("not a sound but ").tolist())
    what = listed(f"{kind} ({n:,})" for kind, n in kinds.most_common())
    files = "1 file that holds" if about.sum() == 1 else f"{about.sum():,} files that hold"
    text = f"Left out {files} no sound: {what}."
    return state.found("unreadable", "warning", text, about).without(about)


def _left_out(state: State) -> State:
    """Sounds that can be decoded and cannot be used, each kind with what to do; where none is left, all are told of."""
    problems = state.rows["problem"].fillna("")
    if (problems != "").all():
        return state
    leaving = problems != problems
    for kind, advice in _LEFT_OUT.items():
        about = problems.str.startswith(kind)
        if about.any():
            first = problems[about].iloc[0].partition(": ")[2].partition(", and an")[0]
            text = f"Left out {state.count(about.sum())} for being {kind} ({first}). {advice}"
            state = state.found("unreadable", "warning", text, about)
            leaving |= about
    return state.without(leaving)


def _odd(state: State) -> State:
    """Sounds that are used, and what is odd about them."""
    remarks = state.rows["remarks"]
    for kind, meaning in _ODD.items():
        about = remarks.map(lambda all_of_one, kind=kind: any(one.startswith(kind) for one in all_of_one)).astype(bool)
        if about.any():
            first = next(one for one in remarks[about].iloc[0] if one.startswith(kind))
            text = f"Used, though they {meaning}: {state.count(about.sum())} ({first})."
            state = state.found(kind, "warning", text, about)
    return state


def _said_too_fast(state: State) -> State:
    """More characters than an encoder has frames: CTC (Graves et al. 2006) cannot align them, and hardly half of it."""
    modality = registry.modality(state.dataset.modality)
    inputs = state.dataset.table["input"]
    seconds = in_threads(modality.duration, [inputs[row] for row in state.rows.index.tolist()])
    pairs = zip(state.rows["label"], seconds, strict=True)
    fullness = state.rows.assign(full=[frames_needed(text) / frames_in(length) for text, length in pairs])["full"]
    leaving = (fullness > 1) & (state.rows["split"] != "test")
    doubtful = (fullness > 0.5) & ~leaving
    if doubtful.any():
        row = fullness[doubtful].idxmax()
        text = (
            f"Transcripts with more than {FRAMES_A_SECOND // 2} characters for each second of their sound, which are "
            f"hard to align: {state.count(doubtful.sum())}, kept ({_quoted(state.rows['label'][row])}). Look whether "
            "sound and transcript belong together."
        )
        state = state.found("fast", "warning", text, doubtful)
    if leaving.any():
        row = fullness[leaving].idxmax()
        text = (
            f"Left out {state.count(leaving.sum())} whose transcript is too long for it: an encoder hands on "
            f"{FRAMES_A_SECOND} frames a second, and CTC needs one for each character "
            f"({_quoted(state.rows['label'][row])}). Sound and transcript hardly belong together."
        )
        state = state.found("fast", "warning", text, leaving).without(leaving)
    return state


def frames_in(seconds: float | None) -> float:
    """How many frames an encoder hands on, at least one."""
    return max(1.0, FRAMES_A_SECOND * (seconds or 0.0))


def _another_script(state: State) -> State:
    """Transcripts in another script than nearly all the rest."""
    scripts = state.rows["label"].map(script_of)
    counts = Counter(script for script in scripts if script)
    if len(counts) < 2:
        return state
    usual, n_usual = counts.most_common(1)[0]
    if n_usual < SAME_SCRIPT * counts.total():
        return state
    odd = (scripts != usual) & (scripts != "")
    names = listed(sorted({_shown(script) for script in scripts[odd]}))
    said = listed((_quoted(label) for label in state.rows["label"][odd].drop_duplicates()), 3)
    text = (
        f"In another script ({names}) than the rest ({_shown(usual)}): the transcripts of {state.count(odd.sum())}, "
        f"used as they are ({said}). If they are spellings of the same language, write them in one script."
    )
    return state.found("script", "warning", text, odd)


def script_of(text: str) -> str:
    """The script of most letters, as Unicode's names begin ("LATIN", "GUJARATI"); "" without letters."""
    scripts = Counter(_script(character) for character in text if unicodedata.category(character).startswith("L"))
    return scripts.most_common(1)[0][0] if scripts else ""


@cache
def _script(letter: str) -> str:
    first = unicodedata.name(letter, "UNNAMED").split()[0]
    return _TOGETHER.get(first, first)


def _shown(script: str) -> str:
    return "Chinese or Japanese" if script == "CJK" else script.capitalize()


def _rare_characters(state: State) -> State:
    """Characters of one transcript alone, which can hardly be learnt; of upper and lower case each counts."""
    counts = Counter(character for label in state.rows["label"] for character in set(label))
    rare = sorted(character for character, n in counts.items() if n == 1)
    if not rare:
        return state
    about = state.rows["label"].map(lambda label: not set(rare).isdisjoint(label)).astype(bool)
    text = (
        f"{len(rare)} of {len(counts)} characters {'stand' if len(rare) > 1 else 'stands'} in one transcript only and "
        f"can hardly be learnt: {listed((_quoted(character) for character in rare), 12)}."
    )
    return state.found("rare character", "info", text, about)


def _quoted(text: str) -> str:
    """A start of the text in quotation marks; a mark that combines with the one before it stands on a circle."""
    circle = "◌" if unicodedata.category(text[0]).startswith("M") else ""
    return repr(circle + (text if len(text) <= 40 else text[:39] + "…"))
