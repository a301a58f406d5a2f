"""What the audit says of conversations and does about them, and how they are divided."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.audit import audit
from headstart.data.audit_chat import audit_lengths, normal, question_of
from headstart.data.audit_splits import audit_splits
from headstart.data.conversation import Conversation
from headstart.data.describe import describe
from headstart.data.read import Reading, read
from headstart.data.split import split
from headstart.errors import DataError
from headstart.progress import Progress

ROLE = {"s": "system", "u": "user", "a": "assistant"}


def talk(*said, **more):
    """talk("u: hi", "a: hello")"""
    return {"messages": [{"role": ROLE[one[0]], "content": one[3:]} for one in said], **more}


def plain(n=24, start=0):
    """n conversations that have nothing odd about them."""
    return [talk(f"u: what is the thing {i}", f"a: it is the answer number {i}") for i in range(start, start + n)]


def audited(records, **reading):
    found = audit(read(records, reading=Reading(**reading)), Progress())
    talks = [Conversation.from_text(one) for one in found.dataset.inputs]
    assert found.dataset.column("label") == [one.said for one in talks]
    assert found.digests == [hashlib.sha256(one.encode()).hexdigest() for one in found.dataset.inputs]
    return found


def told(found, kind):
    """The texts of the findings of this kind."""
    return [finding.text for finding in found.findings if finding.kind == kind]


def spoken(dataset):
    talks = map(Conversation.from_text, dataset.inputs)
    return ["|".join(f"{turn.role[0]}: {turn.text}" for turn in one.turns) for one in talks]


def test_nothing_to_say():
    found = audited(plain())
    assert found.findings == ()
    assert not found.dataset.has("group")
    assert len(found.dataset) == 24


@pytest.mark.parametrize(
    ("said", "left", "kind", "text"),
    [
        (("u: q", "a:  ", "a: x"), "u: q|a: x", "empty turn", "Dropped empty turns in 1 conversation."),
        (("u: q", "u: r", "a: x"), "u: q\nr|a: x", "role order", "Joined turns of one role"),
        (("s: a", "s: b", "u: q", "a: x"), "s: a\nb|u: q|a: x", "role order", "Joined turns of one role"),
        (("u: q", "s: late", "a: x"), "u: q|a: x", "role order", "Dropped words of the system that do not come first"),
        (
            ("a: welcome", "u: q", "a: x"),
            "u: q|a: x",
            "role order",
            "Dropped what the assistant says before any question",
        ),
        (("u: q", "a: x", "u: thanks"), "u: q|a: x", "role order", "Dropped a last question without an answer"),
        (("u: q", "a: ", "u: r", "a: x"), "u: q\nr|a: x", "empty turn", "Dropped empty turns"),
    ],
)
def test_turns_are_put_in_order(said, left, kind, text):
    found = audited([*plain(), talk(*said)])
    assert spoken(found.dataset)[-1] == left
    assert told(found, kind)[0].startswith(text)


def test_no_answer():
    found = audited([*plain(), talk("u: q"), talk("a: x"), {"messages": []}, talk("s: only")])
    assert told(found, "no answer") == ["Left out 4 conversations in which no question is answered."]
    assert found.findings[-1].examples == ("conversation 25", "conversation 26", "conversation 27", "conversation 28")
    assert len(found.dataset) == 24
    with pytest.raises(DataError, match="None of the 2 conversations has an answer"):
        audited([talk("u: q"), talk("u: r")])


def test_copies_leave_before_the_split():
    found = audited([*plain(), *plain(4), talk("u: WHAT is  the thing 0", "a: It is the answer number 0 ")])
    assert told(found, "duplicate") == [
        "Left out 5 conversations, 17 % of all for repeating another but for case and spaces."
    ]
    assert len(found.dataset) == 24


def test_given_splits_that_overlap():
    records = [{**one, "split": "train"} for one in plain(30)]
    records += [{**one, "split": "val"} for one in plain(5, 1)]  # the same pairs
    records += [talk(f"u: What is the thing {i}", "a: in short, no", split="test") for i in range(5, 9)]
    found = audited(records)
    assert told(found, "leak") == [
        "The given splits overlap. Left 5 conversations out of train and val for being asked in test and 4 "
        "conversations out of train for being asked in val too (4 with the same answers)."
    ]
    by_split = {name: found.dataset.select(found.dataset.rows(name)) for name in ("train", "val", "test")}
    asked = {n: {question_of(Conversation.from_text(one)) for one in d.inputs} for n, d in by_split.items()}
    assert {name: len(one) for name, one in by_split.items()} == {"train": 22, "val": 4, "test": 4}
    assert len(set().union(*asked.values())) == sum(map(len, asked.values()))


def test_copies_in_a_given_test_split_stay():
    test = [{**one, "split": "test"} for one in plain(3, 50)]
    found = audited([{**one, "split": "train"} for one in plain()] + test + test[:2])
    assert told(found, "duplicate") == ["Copies within the given test split, kept: 2 conversations."]
    assert len(found.dataset.rows("test")) == 5


def test_personal_data_are_counted_and_not_shown():
    said = ("u: I am ada@example.org", "a: Noted: 4111 1111 1111 1111, and ada@example.org")
    found = audited([*plain(), talk(*said)])
    finding = next(one for one in found.findings if one.kind == "personal data")
    assert "in 1 conversation: 2 e-mail addresses, 1 card number." in finding.text
    assert finding.examples == (
        "conversation 25, turn 1 (user): E-MAIL",
        "conversation 25, turn 2 (assistant): CARD, E-MAIL",
    )
    shown = " ".join(one.text + " ".join(one.examples) for one in found.findings)
    assert "ada@" not in shown
    assert "4111" not in shown
    masked = audited([*plain(), talk(*said)], redact=True)
    assert not told(masked, "personal data")
    assert spoken(masked.dataset)[-1] == "u: I am [E-MAIL]|a: Noted: [CARD], and [E-MAIL]"


def test_one_question_with_several_answers():
    several = [talk("u: How are you?", f"a: I am in state {i}") for i in range(3)]
    found = audited([*plain(40), *several])
    text = "1 question is answered in several ways, 3 at most (3 conversations): no answer can be likely"
    assert told(found, "several answers")[0].startswith(text)
    assert [one.severity for one in found.findings if one.kind == "several answers"] == ["info"]


def test_boilerplate_and_short_answers():
    found = audited([*plain(), *(talk(f"u: and what of {i}", "a: No idea.") for i in range(8))])
    assert told(found, "boilerplate") == [
        "25 % of the answers (8 of 32) are the same: 'no idea.'. A model may come to say nothing else."
    ]
    assert told(found, "short answers")[0].startswith("25 % of the answers have at most 2 words.")


def test_too_few():
    with pytest.raises(DataError, match="19 conversations can be used, but at least 20 are needed"):
        audited([*plain(19), talk("u: no answer")])


# --- the split ------------------------------------------------------------------------------------------------------


def sides(dataset):
    """First question -> the splits that it stands in."""
    found = {}
    for stored, name in zip(dataset.inputs, dataset.column("split"), strict=True):
        found.setdefault(normal(Conversation.from_text(stored).first_question), set()).add(name)
    return found


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 14), min_size=60, max_size=90), st.integers(0, 9))
def test_no_question_stands_on_both_sides(questions, seed):
    records = [talk(f"u: Question {q}", f"a: the answer {i} to it") for i, q in enumerate(questions)]
    records += plain(30)
    cleaned = audited(records).dataset
    divided = split(cleaned, seed)
    common = {f"question {q}" for q in range(15) if questions.count(q) > 0.1 * len(records)}
    assert all(len(where) == 1 for question, where in sides(divided).items() if question not in common)
    assert set(divided.column("split")) == {"train", "val", "test"}


def test_greetings_hold_nothing_together():
    records = [talk("u: hi", "a: hello", f"u: what of {i}", f"a: that is {i}, as I said") for i in range(40)]
    found = audited(records)
    assert "1 first question begins more than 10 % of the conversations" in told(found, "same question")[0]
    assert len(set(found.dataset.groups)) == 40
    divided = split(found.dataset, 0)
    assert [len(divided.rows(name)) for name in ("train", "val", "test")] == [24, 8, 8]
    assert describe(divided).startswith(
        "data: 40 conversations in memory (column 'messages'); 80 answers, median 3 words"
    )


def test_groups_of_the_user_rule():
    records = [talk(f"u: the question {i % 10}", f"a: answer {i} to that", topic=f"t{i % 6}") for i in range(60)]
    found = audited(records, group="topic")
    assert not told(found, "same question")
    divided = split(found.dataset, 0)
    by_topic = {}
    for topic, name in zip(divided.groups, divided.column("split"), strict=True):
        by_topic.setdefault(topic, set()).add(name)
    assert all(len(where) == 1 for where in by_topic.values())
    assert "6 groups kept whole" in divided.notes[-1]


def test_given_splits_are_not_torn_groups():
    """Conversations that begin alike and go on in another way may stand on both sides; no group is invented for it."""
    part = [talk("u: tickets", "a: where?", f"u: at {i}", f"a: done with {i}", split="train") for i in range(3)]
    part += [talk("u: tickets", "a: where?", f"u: at {i}", f"a: done with {i}", split="test") for i in range(5, 8)]
    rest = [{**one, "split": "train"} for one in plain(60)] + [{**one, "split": "test"} for one in plain(60, 100)]
    found = audited([*part, *rest])
    assert "1 first question begins several conversations (6); 1 of them on several sides, as given." in told(
        found, "same question"
    )
    assert not [one for one in audit_splits(split(found.dataset, 0)) if one.kind == "leak"]


def test_without_groups_the_split_is_plain():
    found = split(audited(plain(50)).dataset, 0)
    assert found.notes[-1] == "split 60/20/20 into train, val and test (seed 0)"
    few = next(one for one in audit_splits(found) if one.kind == "few examples")
    assert few.text == "Only 10 conversations to test on: the intervals will be wide."


# --- lengths --------------------------------------------------------------------------------------------------------


def test_lengths():
    assert audit_lengths([10, 20, 30], 30, [0, 0, 0]) == ()
    (finding,) = audit_lengths([10, 35, 1200, 31], 30, [0, 5, 700, 0])
    assert (finding.kind, finding.severity) == ("too long", "warning")
    assert finding.text.startswith(
        "3 of 4 conversations are longer than 30 tokens (the longest has 1,200) and are cut there: 705 tokens of the "
        "answers of 2 are lost."
    )
    assert finding.examples == ("conversation 2", "conversation 3", "conversation 4")
    assert audit_lengths([40], 30, [0])[0].severity == "info"
