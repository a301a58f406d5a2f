"""Talk to a run: chat."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.base import MostTokens, Quiet, System, Temperature, TopP, app, screen

if TYPE_CHECKING:
    from headstart.deploy.session import Session
    from headstart.engine.voice import Sampling

YOU, HELP = (
    "you> ",
    "/reset begins anew, /system TEXT says what stands first, /save FILE keeps the talk, /help shows this, /exit ends",
)


@app.command()
def chat(
    run: Annotated[
        str, typer.Argument(help="A run folder, or a language model as it was pretrained.", show_default=False)
    ],
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    max_tokens: MostTokens = 256,
    system: System = None,
    quiet: Quiet = False,
) -> None:
    """Talk to the chatbot of RUN in the terminal; lines that are piped in are answered one after the other."""
    from headstart.deploy.session import Session, voice_of
    from headstart.engine.voice import Sampling

    how = Sampling(temperature=temperature, top_p=top_p, seed=seed, max_tokens=max_tokens)
    voice, title = voice_of(run, screen(quiet))
    session = Session(voice=voice, how=how, system=system)
    if not sys.stdin.isatty():
        for line in filter(None, map(str.strip, sys.stdin)):
            if not attend(session, line, lambda text: print(text, file=sys.stderr)):
                return
        return
    with suppress(ImportError):
        import readline  # noqa: F401  (lines can be edited, and called back)
    print(f"{title}\n{HELP}.\nCtrl-C stops an answer, Ctrl-D ends.\n")
    for line in typed():
        if not attend(session, line, print):
            return


def typed() -> Iterator[str]:
    """What the user types, a line at a time, until Ctrl-D."""
    while True:
        try:
            line = input(YOU).strip()
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit ends)")
            continue
        except EOFError:
            print()
            return
        if line:
            yield line


def attend(session: Session, line: str, say: Callable[[str], None]) -> bool:
    """Carry out a command, or answer; whether the talk goes on. A user's error is told, and the talk goes on."""
    from headstart.errors import HeadstartError

    try:
        if line.startswith("/"):
            return obey(session, line, say)
        answer(session, line, say)
    except HeadstartError as error:
        say(f"error: {error}")
    return True


def answer(session: Session, line: str, say: Callable[[str], None]) -> None:
    """Write the answer as it comes; Ctrl-C stops it, and what was said is kept."""
    before, begun = session.n_left_out, False
    pieces = session.say(line)
    try:
        for piece in pieces:
            if not begun and session.n_left_out > before:
                say(f"(the oldest {session.n_left_out} turns no longer fit, and are left out)")
            print(piece if begun else piece.lstrip(), end="", flush=True)
            begun = True
        print()
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]  # a generator
        print()
        say("(stopped)")
    if not begun:
        say("(it has no answer)")
    session.how = another_draw(session.how)


def another_draw(how: Sampling) -> Sampling:
    """The seed of the next answer: the same question, asked again, may have another."""
    return replace(how, seed=how.seed + 1) if how.temperature else how


def obey(session: Session, line: str, say: Callable[[str], None]) -> bool:
    """Carry out a command; whether the talk goes on."""
    from headstart.errors import PlanError, did_you_mean

    name, _, rest = line[1:].partition(" ")
    match name:
        case "exit" | "quit":
            return False
        case "help":
            say(HELP)
        case "reset":
            session.reset()
            say("(a new talk)")
        case "system":
            if rest.strip():
                session.system = rest.strip()
            first = session.system if session.system is not None else session.voice.system
            say(f"(the system says: {first or 'nothing'})")
        case "save" if rest.strip():
            path = Path(rest.strip()).expanduser()
            session.save(path)
            say(f"({len(session.turns)} turns saved: {path})")
        case "save":
            raise PlanError("Say where: /save FILE.")
        case _:
            known = ("reset", "system", "save", "help", "exit")
            raise PlanError(f"There is no command /{name}.{did_you_mean(name, known)} {HELP}.")
    return True
