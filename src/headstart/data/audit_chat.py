"""Look at conversations before anything is trained: turns out of order, copies, leaks, what repeats, personal data.

The checks are those of audit.py, to which they belong. Two questions are the same when they are equal but for case and
spaces; of a conversation of several turns, all that the user says before the last answer is its question.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.data import mending, personal
from headstart.data.audit_state import N_EXAMPLES, Finding, State
from headstart.data.conversation import ROLES, USER, Conversation
from headstart.data.dataset import Dataset
from headstart.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COMMON_OPENING = 0.1  # of the conversations: a first question in more of them ("hello") holds none of them together
COMMON_ANSWER = 0.05  # of the answers: one that is given more often is boilerplate
SHORT_ANSWER, MANY_SHORT = 2, 0.2  # words at most; share of the answers that are so short
MANY_ANSWERS = 0.1  # of the conversations have a question that is answered in another way elsewhere
_MENDED = {  # what was done -> (what the finding calls it, severity, the sentence)
    mending.EMPTY: ("empty turn", "warning", "Dropped empty turns in {}."),
    mending.LATE_SYSTEM: ("role order", "warning", "Dropped words of the system that do not come first, in {}."),
    mending.TWICE: ("role order", "warning", "Joined turns of one role that follow each other into one, in {}."),
    mending.OPENING: ("role order", "info", "Dropped what the assistant says before any question, in {}."),
    mending.UNANSWERED: ("role order", "info", "Dropped a last question without an answer, in {}."),
}
Check = Callable[[State], State]


def checks_of_turns() -> list[Check]:
    """What is looked at in each conversation by itself."""
    return [_mended, _unanswered, _personal]


def checks_of_copies() -> list[Check]:
    """What is looked at across conversations that are whole."""
    return [_copies, _leaks, _many_answers, _boilerplate, _short_answers, _grouped]


def _mended(state: State) -> State:
    """Turns are put in order; the columns "talk", "question" and "pair" of the rows are for the checks that follow."""
    stored = state.dataset.inputs
    mended = [mending.mend(Conversation.from_text(text)) for text in stored]
    talks = [talk for talk, _ in mended]
    texts = [talk.to_text() for talk in talks]
    if texts != stored:
        state = replace(state, dataset=_with_talks(state.dataset, talks))
    keys = [question_of(talk) for talk in talks]
    pairs = [_digest(question, *map(normal, talk.said)) for question, talk in zip(keys, talks, strict=True)]
    rows = state.rows.assign(digest=list(map(_digest, texts)), done=[done for _, done in mended], question=keys)
    state = replace(state, rows=rows.assign(pair=pairs, talk=talks))
    for kind, (name, severity, sentence) in _MENDED.items():
        about = state.rows["done"].map(lambda done, kind=kind: kind in done).astype(bool)
        about &= state.rows["talk"].map(lambda talk: bool(talk.turns)).astype(bool)
        if about.any():
            state = state.found(name, severity, sentence.format(state.count(about.sum())), about)
    return state


def _with_talks(dataset: Dataset, talks: Sequence[Conversation]) -> Dataset:
    table = dataset.table
    for name, values in (("input", [talk.to_text() for talk in talks]), ("label", [talk.said for talk in talks])):
        feature = table.features[name]
        table = table.remove_columns([name]).add_column(name, values, feature=feature)
    return replace(dataset, table=table)


def question_of(talk: Conversation) -> str:
    """All that the user says before the last answer, normalised: equal for conversations that ask the same."""
    return "\n".join(normal(turn.text) for turn in talk.turns if turn.role == USER)


def normal(text: str) -> str:
    """Without regard to case and spaces."""
    return " ".join(text.casefold().split())


def _digest(*texts: str) -> str:
    """sha256 of the texts as text.py takes it; several are kept apart."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", errors="surrogatepass")).hexdigest()


def _unanswered(state: State) -> State:
    """Nothing can be learnt where nobody answers a question."""
    about = ~state.rows["talk"].map(lambda talk: bool(talk.turns)).astype(bool)
    if about.all():
        raise DataError(
            f"None of the {state.count(len(about))} has an answer of the assistant after a question of the user. "
            f"Check the roles ({', '.join(ROLES)}) or the columns (--input COL, --label COL)."
        )
    if not about.any():
        return state
    text = f"Left out {state.count(about.sum())} in which no question is answered."
    return replace(state, findings=(*state.findings, _where(state, about, "no answer", "warning", text))).without(about)


def _where(state: State, about: pd.Series, kind: str, severity: str, text: str) -> Finding:
    """A finding whose examples are places, not contents."""
    rows = state.rows.index[about][:N_EXAMPLES]
    return Finding(kind=kind, severity=severity, text=text, examples=tuple(f"conversation {row + 1:,}" for row in rows))


def _personal(state: State) -> State:
    """Personal data are counted and their places named; they are never shown."""
    counts: Counter[str] = Counter()
    places: dict[int, list[str]] = defaultdict(list)
    for row, talk in state.rows["talk"].items():
        for i, turn in enumerate(talk.turns, 1):
            if kinds := [span.kind for span in personal.find(turn.text)]:
                counts.update(kinds)
                places[row].append(
                    f"conversation {row + 1:,}, turn {i} ({turn.role}): {', '.join(dict.fromkeys(kinds))}"
                )
    if not counts:
        return state
    text = (
        f"Personal data in {state.count(len(places))}: {personal.counted(counts)}. A model can repeat what it has "
        "learnt word for word: mask them with --redact, if they are not meant to be public."
    )
    examples = tuple(place for some in places.values() for place in some)[:N_EXAMPLES]
    found = Finding(kind="personal data", severity="warning", text=text, examples=examples)
    return replace(state, findings=(*state.findings, found))


def _copies(state: State) -> State:
    """The same questions and answers within a split: the first stays. A given test split is only reported on."""
    copies = state.rows.duplicated(["pair", "split"])
    leaving = copies & (state.rows["split"] != "test")
    staying = copies & ~leaving
    if leaving.any():
        share = f", {100 * leaving.mean():.0f} % of all" if leaving.mean() >= 0.1 else ""
        text = f"Left out {state.count(leaving.sum())}{share} for repeating another but for case and spaces."
        state = state.found("duplicate", "warning" if share else "info", text, leaving)
    if staying.any():
        text = f"Copies within the given test split, kept: {state.count(staying.sum())}."
        state = state.found("duplicate", "warning", text, staying)
    return state.without(leaving)


def _leaks(state: State) -> State:
    """What is asked in test leaves train and val, what is asked in val leaves train, with whatever answer."""
    split, pair, question = (state.rows[name] for name in ("split", "pair", "question"))
    in_test = (split != "test") & question.isin(question[split == "test"])
    in_val = ~split.isin(("val", "test")) & ~in_test & question.isin(question[split == "val"])
    leaving = in_test | in_val
    if not leaving.any():
        return state
    same = (in_test & pair.isin(pair[split == "test"])) | (in_val & pair.isin(pair[split == "val"]))
    answers = f"{same.sum():,} with the same answers" if same.any() else "all with other answers"
    parts = (("train and val for being asked in test", in_test), ("train for being asked in val", in_val))
    left = " and ".join(f"{state.count(mask.sum())} out of {where}" for where, mask in parts if mask.any())
    return state.found("leak", "warning", f"The given splits overlap. Left {left} too ({answers}).", leaving).without(
        leaving
    )


def _many_answers(state: State) -> State:
    """One question, several answers: none of them can be likely, and only one is compared with."""
    sizes = state.rows.groupby("question")["pair"].nunique()
    several = sizes[sizes > 1]
    if several.empty:
        return state
    about = state.rows["question"].isin(several.index)
    text = (
        f"{_asked(len(several))} answered in several ways, {several.max():,} at most ({state.count(about.sum())}): no "
        "answer can be likely, and a test compares with one of them."
    )
    return state.found("several answers", "warning" if about.mean() > MANY_ANSWERS else "info", text, about)


def _asked(n: int) -> str:
    return "1 question is" if n == 1 else f"{n:,} questions are"


def _boilerplate(state: State) -> State:
    """An answer that is given again and again is learnt first, and then given to everything."""
    counts = Counter(normal(answer) for talk in state.rows["talk"] for answer in talk.said)
    answer, n = counts.most_common(1)[0]
    share = n / counts.total()
    if n < 3 or share < COMMON_ANSWER:
        return state
    about = state.rows["talk"].map(lambda talk: answer in map(normal, talk.said)).astype(bool)
    shown = personal.mask(answer if len(answer) <= 60 else answer[:59] + "…")
    same = f"{100 * share:.0f} % of the answers ({n:,} of {counts.total():,}) are the same: {shown!r}"
    text = f"{same}. A model may come to say nothing else."
    return state.found("boilerplate", "warning", text, about)


def _short_answers(state: State) -> State:
    words = [len(answer.split()) for talk in state.rows["talk"] for answer in talk.said]
    share = float(np.mean(np.asarray(words) <= SHORT_ANSWER))
    if share < MANY_SHORT:
        return state
    about = state.rows["talk"].map(lambda talk: any(len(one.split()) <= SHORT_ANSWER for one in talk.said)).astype(bool)
    text = (
        f"{100 * share:.0f} % of the answers have at most {SHORT_ANSWER} words. If they are few different ones, a "
        "classifier (--task classification) learns them better than a language model."
    )
    return state.found("short answers", "info", text, about)


def _grouped(state: State) -> State:
    """Conversations with the same first question stay on one side, unless the user named groups or times.

    Given splits bind on their own side only. A first question that is very common, a greeting, binds none.
    """
    if state.dataset.has("group") or state.dataset.has("time"):
        return state
    first = state.rows["talk"].map(lambda talk: normal(talk.first_question))
    sizes = first.value_counts()
    shared = sizes[sizes > 1]
    if shared.empty:
        return state
    greetings = set(shared[shared > max(2, COMMON_OPENING * len(first))].index)
    keys = [one if one not in greetings else whole for one, whole in zip(first, state.rows["question"], strict=True)]
    state = replace(state, dataset=_with_groups(state, keys))
    bound = shared[[name for name in shared.index if name not in greetings]]
    texts = []
    if len(bound):
        texts.append(f"{_begin(len(bound))} several conversations ({bound.sum():,}){_sides(state, first)}.")
    if greetings:
        texts.append(
            f"{_begin(len(greetings))} more than {100 * COMMON_OPENING:.0f} % of the conversations: there all that the "
            "user says has to be the same."
        )
    return state.found("same question", "info", " ".join(texts), first.isin(shared.index))


def _sides(state: State, first: pd.Series) -> str:
    """Whether each question is on one side: given splits are left as they are where a whole conversation differs."""
    torn = int((state.rows["split"].groupby(first).nunique() > 1).sum())
    return f"; {torn:,} of them on several sides, as given" if torn else ": each stays on one side of the split"


def _begin(n: int) -> str:
    return "1 first question begins" if n == 1 else f"{n:,} first questions begin"


def _with_groups(state: State, keys: Sequence[str]) -> Dataset:
    """The data set with a group for each question and given split; rows that have left are groups of their own."""
    from datasets import Value

    groups = [f"row {row}" for row in range(len(state.dataset))]
    for row, key, split in zip(state.rows.index.tolist(), keys, state.rows["split"], strict=True):
        groups[row] = f"{key} ({split})" if split else key
    table = state.dataset.table.add_column("group", groups, feature=Value("string"))
    return replace(state.dataset, table=table)


def audit_lengths(counts: Sequence[int], most: int, answers_cut: Sequence[int]) -> tuple[Finding, ...]:
    """What truncation at `most` tokens would cut, where it would.

    `counts` (N,) tokens of each conversation, `answers_cut` (N,) tokens of its answers that stand beyond.
    """
    return tuple(_too_long(np.asarray(counts), most, np.asarray(answers_cut)))


def _too_long(counts: np.ndarray, most: int, answers_cut: np.ndarray) -> Iterator[Finding]:
    long = np.flatnonzero(counts > most)
    if not len(long):
        return
    lost, longest = int(answers_cut[long].sum()), int(counts.max())
    hit = int((answers_cut[long] > 0).sum())
    text = (
        f"{len(long):,} of {len(counts):,} conversations are longer than {most:,} tokens (the longest has {longest:,}) "
        f"and are cut there: {lost:,} tokens of the answers of {hit:,} are lost. Shorten or divide them, or allow more "
        "tokens."
    )
    yield Finding(
        kind="too long",
        severity="warning" if lost else "info",
        text=text,
        examples=tuple(f"conversation {row + 1:,}" for row in long[:N_EXAMPLES]),
    )
