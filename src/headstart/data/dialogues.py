"""Dialogues in files of their own: `.txt` with lines `User: …` and `Assistant: …`, and the YAML of `chatterbot-corpus`.

Both become a column "conversation" of turns, with the file that they stood in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headstart.data.conversation import ASSISTANT, USER, Conversation, Turn
from headstart.data.folders import is_junk
from headstart.data.raw import Raw, split_name
from headstart.data.roles import role_of, roles_of_speakers
from headstart.data.tables import table_suffix
from headstart.errors import DataError, listed

CONVERSATION = "conversation"  # the column
_LINE = re.compile(r"\s*(?P<who>[^\W\d_][\w .'-]{0,29}?)\s*:(?:\s+(?P<text>.*)|)", re.DOTALL)
_RULE = re.compile(r"\s*(-{3,}|={3,}|\*{3,}|_{3,})\s*")  # between conversations
_TALK = re.compile(r"con?versa|dialog|chat", re.IGNORECASE)  # in names of files whose lists are turns
_MOST_TALKS = 3  # a file of fewer lists is taken to hold dialogues

_NO_DIALOGUE = (
    "{} is not a dialogue that can be read. Write a turn a line, `User: …` and `Assistant: …` (or two other names), "
    "and a blank line or --- between conversations."
)
_NO_YAML = (
    "{} holds no conversations. Write them as chatterbot-corpus does: `conversations:` and then lists of strings, the "
    "question first and the answer after it."
)


class Found(NamedTuple):
    """Conversations out of one file."""

    conversations: list[Conversation]
    notes: tuple[str, ...] = ()
    long: (
        tuple[bool, str] | tuple[()]
    ) = ()  # of lists of three texts or more: whether these are other answers, the file
    n_left: int = 0  # entries that are no list of at least two texts


def read_dialogue_file(path: Path, asked: bool) -> Raw | None:
    """A `.txt` of dialogues or a `.yml` of chatterbot's; None where it is neither. `asked`: the user says so."""
    return _raw(path, [path], asked)


def read_dialogue_folder(folder: Path, asked: bool) -> Raw | None:
    """A folder of such files, in folders of splits too, and where the user asked for chat at any depth.

    None where it holds something else, or a table.
    """
    if any(table_suffix(path) for path in folder.iterdir()):  # the .txt beside it is a note on the table
        return None
    patterns = ("**/*",) if asked else ("*", "*/*")
    inside = {path for pattern in patterns for path in folder.glob(pattern) if path.suffix.lower() in _READERS}
    files = sorted(p for p in inside if p.is_file() and not any(is_junk(part) for part in p.relative_to(folder).parts))
    if not asked:
        yamls = [path for path in files if path.suffix.lower() != ".txt"]
        files = yamls or [path for path in files if path.parent == folder or split_name(path.parent.name)]
    return _raw(folder, files, asked)


def _raw(source: Path, files: Sequence[Path], asked: bool) -> Raw | None:
    """The conversations of all files; None when there is no file or, unless `asked`, one of them is something else."""
    found: list[tuple[Path, Found]] = []
    for path in files:
        one = _READERS[path.suffix.lower()](path, asked) if path.suffix.lower() in _READERS else None
        if one is None and not asked:
            return None
        found += [(path, one)] if one is not None else []
    rows = [(path, conversation) for path, one in found for conversation in one.conversations]
    if not rows:
        return None
    splits = [split_name(path.parent.name) or "" for path, _ in rows] if source.is_dir() else []
    return Raw(
        columns={CONVERSATION: [talk for _, talk in rows], "file": [path.stem for path, _ in rows]},
        name=source.resolve().name if source.is_dir() else source.stem,
        source=str(source),
        splits=splits if any(splits) else None,
        input=CONVERSATION,
        notes=_notes([one for _, one in found]),
    )


def _notes(found: Sequence[Found]) -> tuple[str, ...]:
    """Each once, for all files."""
    notes = list(dict.fromkeys(note for one in found for note in one.notes))
    long = dict.fromkeys(one.long for one in found if one.long)
    for alike, how in ((True, "other answers to the first, each its own conversation"), (False, "turns in order")):
        if files := [file for other, file in long if other == alike]:
            notes.append(f"texts after the second of a list are taken as {how}: {listed(files)}")
    if n := sum(one.n_left for one in found):
        notes.append(
            f"left out {n:,} {'entries' if n > 1 else 'entry'} that {'are' if n > 1 else 'is'} no list of texts"
        )
    return tuple(notes)


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the file and its rights.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _of_txt(path: Path, asked: bool) -> Found | None:
    """Lines `NAME: text`; a line without a name goes on with the turn before, a blank or ruled one ends a conversation.

    Where blank lines stand between all turns they part nothing. Not `asked` for, usual names of roles are wanted.
    """
    blocks = [block for block in _blocks(_text_of(path).splitlines()) if block]
    talks = [lines for block in blocks if (lines := _spoken(block))]
    if not talks or len(talks) < len(blocks):
        return _none(asked, _NO_DIALOGUE.format(path))
    if len(talks) > 1 and all(len(talk) == 1 for talk in talks):  # a blank line after every turn
        talks = [[turn for talk in talks for turn in talk]]
    speakers = list(dict.fromkeys(who for talk in talks for who, _ in talk))
    usual = [role for who in speakers if (role := role_of(who))]
    if not asked and (
        (USER not in usual and ASSISTANT not in usual) or len(speakers) - len(usual) > 1 or len(speakers) < 2
    ):
        return None
    roles = [roles_of_speakers(speakers) or roles_of_speakers(who for who, _ in talk) for talk in talks]
    if None in roles or len(speakers) < 2:
        return _none(asked, _NO_DIALOGUE.format(path))
    said = next(iter(roles)) or {}
    notes = [f"{_names(said, ASSISTANT)} answers, {_names(said, USER)} asks"] if len(usual) < len(speakers) else []
    pairs = zip(talks, roles, strict=True)
    return Found(
        [Conversation(tuple(Turn((of or {})[who], text) for who, text in talk)) for talk, of in pairs], tuple(notes)
    )


def _names(roles: dict[str, str], role: str) -> str:
    return " and ".join(repr(name) for name, one in roles.items() if one == role)


def _none(asked: bool, why: str) -> Found | None:
    """Nothing was found: DataError where the user said that there is."""
    if asked:
        raise DataError(why)
    return None


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines between blank and ruled ones; where lines are ruled off, blank ones part nothing."""
    lines = list(lines)
    ruled = any(map(_RULE.fullmatch, lines))
    block: list[str] = []
    for line in lines:
        if _RULE.fullmatch(line) or (not ruled and not line.strip()):
            yield block
            block = []
        elif line.strip():
            block.append(line)
    yield block


def _spoken(block: Sequence[str]) -> list[tuple[str, str]]:
    """(name, text) of each turn of a block; [] where it does not begin with a name."""
    turns: list[tuple[str, str]] = []
    for line in block:
        match = _LINE.fullmatch(line)
        if match and (not turns or match["who"] in {who for who, _ in turns} or len({who for who, _ in turns}) < 2):
            turns.append((match["who"], (match["text"] or "").strip()))
        elif turns:
            turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n{line.strip()}")
        else:
            return []
    return turns


def _of_yaml(path: Path, asked: bool) -> Found | None:
    """`categories` and `conversations`: lists of strings, a question first.

    The format does not say whether the strings after it are turns or other answers to it, and the corpus has both.
    In a file of several lists, most of them longer than two, that is not called conversations, they are answers.
    """
    content = _yaml(path)
    lists = content.get("conversations") if isinstance(content, dict) else None
    if not isinstance(lists, list):
        return _none(asked, _NO_YAML.format(path))
    usable = [texts for one in lists if (texts := _strings(one))]
    n_long = sum(len(texts) > 2 for texts in usable)
    categories = content.get("categories") or []
    names = " ".join([path.stem, *map(str, categories if isinstance(categories, list) else [categories])])
    alike = len(usable) >= _MOST_TALKS and 2 * n_long > len(usable) and not _TALK.search(names)
    talks = [talk for texts in usable for talk in (_answers(texts) if alike else [_in_turn(texts)])]
    return Found(talks, (), () if not n_long else (alike, path.name), len(lists) - len(usable))


def _yaml(path: Path) -> Any:
    """The content as plain data; None where it is plainly another file."""
    import yaml

    text = _text_of(path)
    if "conversations:" not in text:
        return None
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path} is not valid YAML: {reason}. Mend it, or take it out of the folder.") from error


def _strings(entry: Any) -> list[str]:
    """The texts of one entry; [] where it is none or has no answer."""
    texts = [str(text) for text in entry if isinstance(text, (str, int, float))] if isinstance(entry, list) else []
    return texts if len(texts) > 1 else []


def _in_turn(texts: Sequence[str]) -> Conversation:
    return Conversation(tuple(Turn((USER, ASSISTANT)[i % 2], text) for i, text in enumerate(texts)))


def _answers(texts: Sequence[str]) -> list[Conversation]:
    """The first text with each of the others."""
    return [_in_turn([texts[0], answer]) for answer in texts[1:]]


_READERS = {".txt": _of_txt, ".yml": _of_yaml, ".yaml": _of_yaml}
