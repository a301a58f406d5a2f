"""Conversations: what layouts and tables are taken for, and what is refused."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.conversation import ASSISTANT, ROLES, SYSTEM, USER, Conversation, Turn, as_texts, to_messages
from headstart.data.describe import describe
from headstart.data.mending import mend
from headstart.data.read import Reading, columns_to_choose, read
from headstart.data.roles import as_messages, roles_of_speakers, turns_of
from headstart.errors import DataError

CHAT = Reading(task="chat")
HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello there"}]


def spoken(dataset):
    """Each conversation as "s: …|u: …|a: …"."""
    talks = map(Conversation.from_text, dataset.inputs)
    return ["|".join(f"{turn.role[0]}: {turn.text}" for turn in talk.turns) for talk in talks]


def is_chat(dataset):
    talks = map(Conversation.from_text, dataset.inputs)
    return (dataset.modality, dataset.task, dataset.column("label")) == ("text", "chat", [talk.said for talk in talks])


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def lines(path, records):
    return written(path, "".join(json.dumps(record) + "\n" for record in records))


def table(path, header, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


turns = st.lists(st.builds(Turn, st.sampled_from(ROLES), st.text()), max_size=8).map(tuple)


# --- conversations --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(turns)
def test_a_conversation_survives_storing(said):
    talk = Conversation(said)
    assert Conversation.from_text(talk.to_text()) == talk
    assert talk.said == [turn.text for turn in said if turn.role == ASSISTANT]


@settings(deadline=None, max_examples=50)
@given(turns)
def test_messages_are_read_as_they_are_written(said):
    talk = Conversation(said)
    if said:
        assert turns_of(as_messages(talk.messages)) == said
        assert turns_of(as_messages(talk.to_text())) == said
    assert as_messages([]) is None


@settings(deadline=None, max_examples=50)
@given(turns)
def test_mending_gives_order_once_and_for_all(said):
    talk, done = mend(Conversation(said))
    roles = [turn.role for turn in talk.turns]
    rest = roles[1:] if roles[:1] == [SYSTEM] else roles
    assert rest == [USER, ASSISTANT] * (len(rest) // 2)
    assert all(turn.text == turn.text.strip() != "" for turn in talk.turns)
    assert (not talk.turns) or talk.answers
    assert mend(talk) == (talk, ())
    if not done and rest:
        assert [turn.text for turn in talk.turns] == [turn.text.strip() for turn in said]


def test_to_messages_reads_back(tmp_path):
    found = read([{"messages": HI}, {"messages": [{"role": "system", "content": "Ünï\n"}, *HI]}])
    file = written(tmp_path / "chat.jsonl", to_messages(found))
    assert read(file).inputs == found.inputs
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[0]) == {"messages": HI}


def test_conversations_as_texts():
    found = as_texts(read([{"messages": HI}] * 2))
    assert (found.task, found.inputs, found.has("label")) == (None, ["hi\nhello there"] * 2, False)
    assert as_texts(found) is found


# --- messages -------------------------------------------------------------------------------------------------------


def test_messages(tmp_path):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    records = [
        {"messages": HI, "split": "train", "topic": "a"},
        {"messages": [{"role": "developer", "content": "Be kind."}, *HI], "split": "test", "topic": "b"},
        {"messages": [{"role": "user", "content": parts}, HI[1]], "split": "train", "topic": "a"},
    ]
    found = read(lines(tmp_path / "chat.jsonl", records), reading=Reading(group="topic"))
    assert is_chat(found)
    assert spoken(found) == ["u: hi|a: hello there", "s: Be kind.|u: hi|a: hello there", "u: one\ntwo|a: hello there"]
    assert found.column("split") == ["train", "test", "train"]
    assert found.column("group") == ["a", "b", "a"]
    assert (found.input_name, found.label_name) == ("messages", "answers")
    assert describe(found).startswith("chat: 3 conversations from")
    assert "3 answers, median 2 words; train 2, test 1" in describe(found)


@pytest.mark.parametrize("whole", [{"messages": HI}, [{"messages": HI}], [HI], {"conversations": [HI, HI]}])
def test_json_of_messages(tmp_path, whole):
    found = read(written(tmp_path / "chat.json", json.dumps(whole)))
    assert is_chat(found)
    assert set(spoken(found)) == {"u: hi|a: hello there"}


def test_a_systems_words_beside_messages_and_by_default(tmp_path):
    records = [{"system": "Own.", "messages": HI}, {"system": "", "messages": HI}]
    found = read(lines(tmp_path / "chat.jsonl", records), reading=Reading(system="Default."))
    assert spoken(found) == ["s: Own.|u: hi|a: hello there", "s: Default.|u: hi|a: hello there"]


def test_sharegpt(tmp_path):
    names = [("system", "Be kind."), ("human", "hi"), ("gpt", "hello"), ("user", "so?"), ("chatgpt", "so.")]
    record = {"id": 1, "conversations": [{"from": who, "value": text} for who, text in names]}
    found = read(written(tmp_path / "share.json", json.dumps([record] * 2)))
    assert spoken(found)[0] == "s: Be kind.|u: hi|a: hello|u: so?|a: so."
    assert found.column("label")[0] == ["hello", "so."]


def test_tools_and_pictures_are_left_out_and_said():
    call = [
        HI[0],
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]},
        {"role": "tool", "content": "1"},
    ]
    seen = [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, HI[1]]
    found = read([{"messages": HI}, {"messages": call}, {"messages": seen}])
    assert len(found) == 1
    assert "left out 1 conversation that call tools, which cannot be learnt here" in found.notes
    assert "left out 1 conversation that hold image_url beside text" in found.notes
    with pytest.raises(DataError, match="None of the 1 conversations can be used: left out 1 conversation that call"):
        read([{"messages": call}])


def test_an_unknown_role_is_named():
    with pytest.raises(DataError, match=r"role 'narrator' is not known. Roles are system"):
        read([{"messages": [*HI, {"role": "narrator", "content": "x"}]}])


def test_in_memory_and_hugging_face():
    import datasets
    import pandas as pd

    records = [{"messages": HI}] * 3
    expected = ["u: hi|a: hello there"] * 3
    parts = datasets.DatasetDict({"train": datasets.Dataset.from_list(records)})
    parts["test"] = datasets.Dataset.from_list(records[:1])
    assert spoken(read(records)) == spoken(read([HI] * 3)) == spoken(read(pd.DataFrame(records))) == expected
    assert spoken(read(datasets.Dataset.from_list(records))) == expected
    assert read(parts).column("split") == ["train"] * 3 + ["test"]
    assert spoken(read([Conversation.of(HI)] * 3)) == expected
    assert spoken(read(["hi"] * 3, ["hello there"] * 3, reading=CHAT)) == expected
    assert spoken(read([["hi", "hello there"]] * 3, reading=CHAT)) == expected


def test_labels_beside_conversations_are_no_chat(tmp_path):
    """Where the user names labels, or none, it is another task."""
    file = lines(tmp_path / "chat.jsonl", [{"text": f"a text {i}", "messages": HI, "y": i % 2} for i in range(30)])
    assert read(file, reading=Reading(input="text", label="y")).task == "classification"
    assert read(file, reading=Reading(input="text", label="")).task is None
    assert read(file).task == "chat"


# --- prompts and answers --------------------------------------------------------------------------------------------


def test_alpaca(tmp_path):
    header = ["instruction", "input", "output", "system"]
    rows = [["Add.", "1 and 2", "They make 3.", ""], ["Say hi.", "", "Hi to you.", "Be kind."]]
    found = read(table(tmp_path / "alpaca.csv", header, *rows))
    assert is_chat(found)
    assert spoken(found) == ["u: Add.\n\n1 and 2|a: They make 3.", "s: Be kind.|u: Say hi.|a: Hi to you."]
    assert (found.input_name, found.label_name) == ("instruction", "output")
    assert any("'instruction' with 'input' asks, 'output' answers" in note for note in found.notes)


@pytest.mark.parametrize("pair", [("prompt", "completion"), ("prompt", "response"), ("Instruction", "Response")])
def test_unmistakable_columns(pair):
    records = [dict(zip(pair, (f"what is {i}", f"it is {i}"), strict=True)) for i in range(3)]
    assert spoken(read(records))[2] == "u: what is 2|a: it is 2"


def test_prompts_of_messages():
    found = read([{"prompt": HI[:1], "completion": HI[1:]}] * 2)
    assert spoken(found) == ["u: hi|a: hello there"] * 2


def test_what_only_looks_like_prompts():
    """Single words are labels, and a rating makes it another task."""
    words = [{"prompt": f"a text number {i}", "completion": ("good", "bad")[i % 2]} for i in range(40)]
    rated = [{"prompt": f"text {i}", "response": f"the answer {i}", "label": str(i % 2)} for i in range(40)]
    assert read(words, reading=Reading(input="prompt", label="completion")).task == "classification"
    assert read(words).task != "chat"
    assert read(rated).task == "classification"
    assert read(words, reading=CHAT).task == "chat"


@pytest.mark.parametrize(
    "pair", [("question", "answer"), ("user", "assistant"), ("query", "reply"), ("input", "output")]
)
def test_other_names_where_asked_for(tmp_path, pair):
    file = table(tmp_path / "qa.csv", [*pair, "split"], ["why is it", "because", "train"], ["how is it", "so", "dev"])
    assert read(file, reading=Reading(label="")).task is None
    found = read(file, reading=CHAT)
    assert spoken(found) == ["u: why is it|a: because", "u: how is it|a: so"]
    assert found.column("split") == ["train", "val"]


def test_named_columns(tmp_path):
    file = table(tmp_path / "t.csv", ["a", "b", "question", "answer"], ["ask", "say", "other", "one"])
    found = read(file, reading=Reading(task="chat", input="a", label="b"))
    assert spoken(found) == ["u: ask|a: say"]
    grouped = read(file, reading=Reading(task="chat", group="question"))
    assert grouped.column("group") == ["other"]
    assert spoken(grouped) == ["u: other|a: one"]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (CHAT, "cannot be read as conversations: its columns are a, b. Name the column of prompts with --input COL"),
        (Reading(task="chat", input="c"), "There is no column 'c'"),
        (Reading(task="chat", input="a"), "Name the other column too: --label COL, the answers"),
        (Reading(task="chat", label="b"), "Name the other column too: --input COL, the prompts"),
        (Reading(task="chat", input="a", label="a"), "cannot be both the prompt and the answer"),
        (Reading(task="chat", input="a", label="b", group="d"), "There is no column 'd'"),
        (Reading(task="chat", label=""), "Chat learns the answers"),
        (Reading(system="x", label="b"), "--system is for conversations"),
        (Reading(redact=True, label="b"), "--redact is for conversations"),
        (Reading(task="chatt", label="b"), "Did you mean 'chat'"),
    ],
)
def test_refused(tmp_path, reading, message):
    file = table(tmp_path / "t.csv", ["a", "b"], *[["some words", f"y{i % 2}"] for i in range(30)])
    with pytest.raises(DataError, match=message):
        read(file, reading=reading)


def test_refused_in_memory():
    with pytest.raises(DataError, match="these are no conversations"):
        read(["one", "two"], reading=CHAT)
    with pytest.raises(DataError, match="'answer' holds a dict"):
        read([{"question": "why", "answer": {"text": ["x"]}}], reading=CHAT)
    with pytest.raises(DataError, match="content of a turn is a text; this is a int"):
        read([[{"role": "user", "content": 3}, HI[1]]])


# --- a row a turn ---------------------------------------------------------------------------------------------------


def test_a_row_a_turn(tmp_path):
    rows = [[1, "user", 1, "a?", "train"], [2, "user", 0, "c?", "test"], [1, "bot", 2, "b.", "train"]]
    rows += [[2, "bot", 1, "d.", "test"], [1, "system", 0, "Be kind.", "train"]]
    file = table(tmp_path / "t.csv", ["conversation_id", "role", "turn", "text", "split"], *rows)
    found = read(file)
    assert is_chat(found)
    assert spoken(found) == ["s: Be kind.|u: a?|a: b.", "u: c?|a: d."]
    assert found.column("split") == ["train", "test"]
    rows[-1][-1] = "test"
    table(file, ["conversation_id", "role", "turn", "text", "split"], *rows)
    with pytest.raises(DataError, match=r"Conversation '1' has several values in 'split' \(test, train\)"):
        read(file)


def test_speakers_by_name_where_asked_for(tmp_path):
    rows = [["x", "Ann", "a?"], ["x", "Bob", "b."], ["y", "Ann", "c?"], ["y", "Bob", "d."]]
    file = table(tmp_path / "t.csv", ["dialogue_id", "speaker", "text"], *rows)
    assert read(file, reading=Reading(label="speaker")).task == "classification"
    assert spoken(read(file, reading=CHAT)) == ["u: a?|a: b.", "u: c?|a: d."]
    crowd = [[*row] for row in rows]
    crowd[3][1] = "Carl"
    table(file, ["dialogue_id", "speaker", "text"], *crowd, ["y", "Dora", "e"])
    found = read(file, reading=CHAT)
    assert spoken(found) == ["u: a?|a: b."]
    assert "left out 1 conversation that have more than two speakers" in found.notes


def test_both_in_a_row(tmp_path):
    """As M2M has it: the column `system`, beside a user in dialogues, is the assistant, and it stands first."""
    header = ["split", "dialogue_id", "turn", "system", "user"]
    rows = [
        ["train", "d1", 10, "Bye.", "thanks"],
        ["train", "d1", 2, "When?", "now"],
        ["train", "d1", 0, "", "tickets"],
    ]
    found = read(table(tmp_path / "t.csv", header, *rows))
    assert spoken(found) == ["u: tickets|a: When?|u: now|a: Bye.|u: thanks"]
    assert any("'user' asks and 'system' answers, 'system' first in each row" in note for note in found.notes)
    with pytest.raises(DataError, match="1 of 4 rows have no 'dialogue_id'"):
        read(table(tmp_path / "t.csv", header, *rows, ["train", "", 1, "a", "b"]))


@pytest.mark.parametrize(
    ("speakers", "roles"),
    [
        (("Ann", "Bob", "Ann"), {"Ann": USER, "Bob": ASSISTANT}),
        (("Agent", "Ann"), {"Agent": ASSISTANT, "Ann": USER}),
        (("Ann", "Customer"), {"Ann": ASSISTANT, "Customer": USER}),
        (("System", "User"), {"System": ASSISTANT, "User": USER}),
        (("System", "User", "Bot"), {"System": SYSTEM, "User": USER, "Bot": ASSISTANT}),
        (("A", "B"), {"A": USER, "B": ASSISTANT}),
        (("Q", "A"), {"Q": USER, "A": ASSISTANT}),
        (("Ann", "Bob", "Carl"), None),
        (("User", "Bot", "Carl"), None),
    ],
)
def test_roles_of_speakers(speakers, roles):
    assert roles_of_speakers(speakers) == roles


# --- files of dialogues ---------------------------------------------------------------------------------------------


def test_a_text_of_dialogues(tmp_path):
    text = "User: hi\nBot: hello\nthere: it goes on\nUser: bye\nBot: bye\n\nUser: again\nBot: yes\n"
    found = read(written(tmp_path / "talk.txt", text))
    assert is_chat(found)
    assert spoken(found) == ["u: hi|a: hello\nthere: it goes on|u: bye|a: bye", "u: again|a: yes"]
    assert describe(found).startswith("talk: 2 conversations from")
    assert columns_to_choose(tmp_path / "talk.txt") == []
    ruled = written(tmp_path / "ruled.txt", "User: hi\n\nBot: hello\n---\nUser: again\n\nBot: yes\n")
    assert spoken(read(ruled)) == ["u: hi|a: hello", "u: again|a: yes"]
    spaced = written(tmp_path / "spaced.txt", "User: hi\n\nBot: hello\n\nUser: again\n\nBot: yes\n")
    assert spoken(read(spaced)) == ["u: hi|a: hello|u: again|a: yes"]


def test_other_speakers_where_asked_for(tmp_path):
    file = written(tmp_path / "talk.txt", "Ann: hi\nBob: hello\n\nAnn: so\nBob: yes\n")
    assert read(file).task is None
    found = read(file, reading=CHAT)
    assert spoken(found) == ["u: hi|a: hello", "u: so|a: yes"]
    assert "'Bob' answers, 'Ann' asks" in found.notes
    with pytest.raises(DataError, match=r"is not a dialogue that can be read. Write a turn a line"):
        read(written(tmp_path / "prose.txt", "Once upon a time."), reading=CHAT)


def test_folders_of_dialogues(tmp_path):
    for split, n in (("train", 3), ("test", 1)):
        for i in range(n):
            written(tmp_path / "parts" / split / f"{i}.txt", f"User: {split} {i}\nAssistant: yes {i}\n")
    found = read(tmp_path / "parts")
    assert spoken(found)[0] == "u: test 0|a: yes 0"
    assert found.column("split") == ["test", "train", "train", "train"]
    flat = [written(tmp_path / "flat" / f"{i}.txt", f"User: hi {i}\nAssistant: yes\n") for i in range(2)]
    assert len(read(flat[0].parent)) == 2
    written(tmp_path / "flat" / "prose.txt", "Note: this is prose\nand no dialogue")
    assert read(flat[0].parent).task is None  # one file that is none: texts, as ever
    deep = written(tmp_path / "deep" / "a" / "b" / "c.txt", "User: hi\nAssistant: yes\n").parents[2]
    assert spoken(read(deep, reading=CHAT)) == ["u: hi|a: yes"]


def test_a_table_beside_texts_is_what_is_read(tmp_path):
    lines(tmp_path / "train.jsonl", [{"messages": HI}] * 2)
    lines(tmp_path / "test.jsonl", [{"messages": HI}])
    written(tmp_path / "README.txt", "User: this is\nAssistant: no data")
    for reading in (Reading(), CHAT):
        found = read(tmp_path, reading=reading)
        assert is_chat(found)
        assert found.column("split") == ["train", "train", "test"]


def test_class_folders_of_texts_stay_what_they_are(tmp_path):
    for name in ("good", "bad"):
        for i in range(3):
            written(tmp_path / name / f"{i}.txt", f"User: it is {name} {i}\nBot: so it is")
    assert read(tmp_path).task == "classification"


YAML = """categories:
- {name}
conversations:
- - What is AI?
  - A branch.
- - Are you?
  - "No."
  - Yes.
- - Why?
  - Because.
  - 42
- just a text
"""


def test_chatterbot(tmp_path):
    written(tmp_path / "english" / "ai.yml", YAML.format(name="AI"))
    written(tmp_path / "english" / "conversations.yml", YAML.format(name="talk"))
    found = read(tmp_path / "english")
    assert is_chat(found)
    alike = [
        "u: What is AI?|a: A branch.",
        "u: Are you?|a: No.",
        "u: Are you?|a: Yes.",
        "u: Why?|a: Because.",
        "u: Why?|a: 42",
    ]
    in_turn = ["u: What is AI?|a: A branch.", "u: Are you?|a: No.|u: Yes.", "u: Why?|a: Because.|u: 42"]
    assert spoken(found) == alike + in_turn
    assert "left out 2 entries that are no list of texts" in found.notes
    assert any("other answers to the first, each its own conversation: ai.yml" in note for note in found.notes)
    assert any("taken as turns in order: conversations.yml" in note for note in found.notes)
    assert spoken(read(tmp_path)) == spoken(found)  # a folder above
    assert spoken(read(tmp_path / "english" / "ai.yml")) == alike
    assert set(read(tmp_path, reading=Reading(group="file")).column("group")) == {"ai", "conversations"}


def test_other_yaml(tmp_path):
    broken = written(tmp_path / "a.yml", "conversations:\n- [a, b\n")
    with pytest.raises(DataError, match="is not valid YAML"):
        read(broken)
    with pytest.raises(DataError, match=r"holds no conversations. Write them as chatterbot-corpus does"):
        read(written(tmp_path / "b.yml", "names: [a]\n"), reading=CHAT)
    with pytest.raises(DataError, match="of a type that is not known"):
        read(tmp_path / "b.yml")


def test_redacted_before_anything_sees_it():
    found = read(
        [{"prompt": "mail me at a@b.org", "response": "I will call 555-234-5678"}], reading=Reading(redact=True)
    )
    assert spoken(found) == ["u: mail me at [E-MAIL]|a: I will call [PHONE]"]
    assert found.column("label") == [["I will call [PHONE]"]]
    assert "masked 1 e-mail address, 1 telephone number" in found.notes


def test_parquet_of_messages(tmp_path):
    import datasets

    datasets.Dataset.from_list([{"messages": HI}] * 2).to_parquet(tmp_path / "chat.parquet")
    assert spoken(read(tmp_path / "chat.parquet")) == ["u: hi|a: hello there"] * 2


def test_halves_of_characters_are_stored(tmp_path):
    """JSON can hold half of a UTF-16 pair, which Arrow cannot."""
    found = read(
        lines(tmp_path / "chat.jsonl", [{"messages": [HI[0], {"role": "assistant", "content": "a \ud83d b"}]}])
    )
    assert found.column("label") == [["a \ufffd b"]]
    assert is_chat(found)
    assert np.all(np.asarray(found.column("split")) == "")
