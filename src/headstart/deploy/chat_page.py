"""The page of a chatbot: a talk with its history, how answers are drawn, and questions of the run's own to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headstart.data.conversation import SYSTEM, Conversation, Turn
from headstart.data.prompts import of_messages
from headstart.deploy import talk
from headstart.deploy.model import Model
from headstart.engine.voice import Sampling
from headstart.errors import DataError, HeadstartError

MOST_EXAMPLES, LONGEST_EXAMPLE = 4, 160  # questions that are shown, and characters of one
MOST_TOKENS = 1024
REMARK = (
    "It writes what is likely after what was said, which need not be true. What it learnt is style and the words of "
    "its trade; the report below says how much that was worth."
)


def panel(gr: Any, model: Model) -> None:
    """Gradio's components, put where the caller's layout is."""
    own = "" if model.talker is None or model.talker.system is None else model.talker.system
    room = min(MOST_TOKENS, model.voice().context)
    quiet: dict[str, Any] = {"render": False}
    settings = [
        gr.Textbox(own, label="What the system says first", lines=2, **quiet),
        gr.Slider(0, 2, 0, step=0.05, label="Temperature (0: the likeliest words)", **quiet),
        gr.Slider(0.05, 1, 1, step=0.05, label="Top-p (1: all words may be drawn)", **quiet),
        gr.Slider(1, room, min(256, room), step=1, label="Most tokens of an answer", **quiet),
        gr.Number(0, label="Seed of what is drawn", precision=0, **quiet),
    ]

    def respond(message: str, history: Sequence[Mapping[str, Any]], *how: Any) -> Iterator[str]:
        yield from answer(model, message, history, how)

    gr.ChatInterface(
        respond,
        chatbot=gr.Chatbot(height=460, label="Conversation", buttons=["copy", "copy_all"], **quiet),
        textbox=gr.Textbox(
            placeholder="Write to the chatbot", show_label=False, submit_btn=True, stop_btn=True, **quiet
        ),
        additional_inputs=settings,
        additional_inputs_accordion=gr.Accordion("How it answers", open=False, **quiet),
        examples=[[question] for question in questions(model)] or None,
        cache_examples=False,
        api_visibility="private",
        concurrency_limit=1,
        save_history=False,
    )


def questions(model: Model) -> list[str]:
    """Short first questions of the run's own conversations."""
    found = dict.fromkeys(turn.text for one in talk.samples(model) if (turn := talk.first_question(one)))
    return [text for text in found if 0 < len(text) <= LONGEST_EXAMPLE][:MOST_EXAMPLES]


def answer(model: Model, message: str, history: Sequence[Mapping[str, Any]], how: Sequence[Any]) -> Iterator[str]:
    """The answer so far, again and again until it is whole; a problem is one sentence."""
    system, temperature, top_p, most, seed = how
    try:
        if not message.strip():
            raise DataError("There is nothing to answer yet: write something.")
        sampling = Sampling(
            temperature=float(temperature),
            top_p=float(top_p),
            seed=int(seed or 0),
            max_tokens=int(most),
        )
        voice = model.voice()
        conversation, n_left_out = talk.fitting(voice, heard(message, history, system), sampling)
        said = ""
        for piece in voice.stream(conversation, sampling):
            said += piece
            yield said.lstrip()
        if n_left_out:
            yield f"{said.lstrip()}\n\n*(the oldest {n_left_out} turns no longer fit, and were left out)*"
        elif not said.strip():
            yield "*(it has no answer)*"
    except HeadstartError as error:
        yield f"**{error}**"


def heard(message: str, history: Sequence[Mapping[str, Any]], system: str) -> Conversation:
    """The talk so far with the new message; what the page itself remarked is no part of it."""
    turns = [{"role": one["role"], "content": _text(one["content"])} for one in history]
    talked = of_messages([*turns, {"role": "user", "content": message}])
    first = (Turn(SYSTEM, system.strip()),) if system.strip() else ()
    return Conversation((*first, *talked.turns))


def _text(content: Any) -> str:
    """A turn's text as Gradio keeps it: a string, or parts of which each has one."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)
