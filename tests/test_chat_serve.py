"""The server as OpenAI's own client talks to it: whole answers and streams, over a socket of a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import headstart
from headstart.data.conversation import Conversation
from headstart.deploy.serve.batcher import BusyError
from headstart.deploy.serve.chat import Stopped
from headstart.deploy.serve.problems import Problem
from headstart.deploy.serve.series import Desk
from headstart.deploy.serve.talks import Talk
from headstart.engine.voice import Sampling
from tests import talkers

TOKEN = "a secret"
HELLO = [{"role": "user", "content": "what is the number 4?"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkers.save_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def url(run: Path) -> Iterator[str]:
    """A process that serves the run as "bot"."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headstart.cli", "serve", f"bot={run}", "--port", "0", "--max-tokens", "200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HEADSTART_TOKEN": TOKEN},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + process.communicate()[1]
    assert "/v1/chat/completions" in line
    yield found[0]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


def test_a_whole_answer_is_the_models_own(client: openai.OpenAI, run: Path) -> None:
    found = client.chat.completions.create(model="bot", messages=HELLO, temperature=0, max_tokens=12)  # type: ignore[arg-type]
    model = headstart.load(run)
    assert found.choices[0].message.content == model.voice().answer(
        Conversation.asking("what is the number 4?"), Sampling(max_tokens=12)
    )
    assert found.choices[0].finish_reason == "length"
    assert found.usage is not None
    n_prompt = model.voice().count(Conversation.asking("what is the number 4?"))
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (n_prompt, 12)
    assert found.usage.total_tokens == n_prompt + 12
    assert found.model == "bot"
    assert found.object == "chat.completion"


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": "bot", "messages": HELLO, "temperature": 1.5, "seed": 7, "max_tokens": 80}
    whole = client.chat.completions.create(**how)
    chunks = list(client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert said.strip() == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(one.usage is None for one in chunks[:-1])
    assert len({one.id for one in chunks}) == 1


def test_the_seed_decides(client: openai.OpenAI) -> None:
    def answer(**how: Any) -> str | None:
        found = client.chat.completions.create(model="bot", messages=HELLO, max_tokens=20, **how)
        content: str | None = found.choices[0].message.content
        return content

    assert answer(seed=3, top_p=0.9) == answer(seed=3, top_p=0.9)
    assert answer(seed=3) != answer(seed=4)
    assert answer() != answer()  # a seed of its own each time, at temperature 1


def test_an_end_of_turn_is_told_from_the_limit(client: openai.OpenAI) -> None:
    reasons = set()
    for seed in range(40):
        found = client.chat.completions.create(
            model="bot", messages=HELLO, temperature=2, seed=seed, max_completion_tokens=40
        )
        reasons.add(found.choices[0].finish_reason)
        assert found.usage.completion_tokens == 40 or found.choices[0].finish_reason == "stop"
        if reasons == {"stop", "length"}:
            return
    raise AssertionError(reasons)


def test_a_string_stops_the_answer(client: openai.OpenAI) -> None:
    how: dict[str, Any] = {"model": "bot", "messages": HELLO, "temperature": 1, "seed": 7, "max_tokens": 80}
    whole = client.chat.completions.create(**how).choices[0].message.content
    stop = whole[10:13]
    found = client.chat.completions.create(**how, stop=[stop, "never said so"])
    assert found.choices[0].message.content == whole[: whole.index(stop)].strip()
    assert found.choices[0].finish_reason == "stop"
    pieces = client.chat.completions.create(**how, stop=stop, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in pieces).strip() == whole[: whole.index(stop)].strip()


def test_strings_that_stop_are_found_across_pieces() -> None:
    for pieces, stops, wanted in (
        (["ab", "cd", "ef"], ["cde"], "ab"),
        (["ab", "cd", "ex"], ["cdef"], "abcdex"),
        (["a", "a", "b"], ["ab", "b"], "a"),
        (["abc"], [], "abc"),
    ):
        stopped = Stopped(stops)
        assert "".join(stopped.pieces(pieces)) == wanted
        assert stopped.found == (wanted != "".join(pieces))


def test_histories_and_parts_are_taken_as_clients_send_them(client: openai.OpenAI) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": " there"}]},
        {"role": "assistant", "content": "hello", "refusal": None},
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b", "name": "me"},
    ]
    found = client.chat.completions.create(
        model="bot", messages=messages, max_tokens=3, user="u", presence_penalty=0.1, store=False, n=1
    )
    wanted = [("system", "be brief"), ("user", "hi there"), ("assistant", "hello"), ("user", "a\n\nb")]
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in wanted) + "<|im_start|>assistant\n"
    tokens = text.replace("<|im_start|>", "\0").replace("<|im_end|>", "\0").replace("the", "\0").replace("th", "\0")
    assert found.usage.prompt_tokens == len(tokens.replace("an", "\0"))


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": "gpt-4o"}, "model", "model_not_found"),
        ({"messages": []}, "messages", "invalid_request"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "invalid_request"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "invalid_request"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "I"}]}, "messages", "invalid_request"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "invalid_request"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, "messages", "context_length_exceeded"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages.0.content",
            "invalid_request",
        ),
        ({"temperature": 3}, "temperature", "invalid_request"),
        ({"top_p": 0}, "top_p", "invalid_request"),
        ({"n": 2}, "n", "invalid_request"),
        ({"max_tokens": 0}, "max_tokens", "invalid_request"),
        ({"stop": ["a"] * 5}, "stop", "invalid_request"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "invalid_request"),
        ({"response_format": {"type": "json_object"}}, "response_format", "invalid_request"),
        ({"logprobs": True}, "logprobs", "invalid_request"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused(
    client: openai.OpenAI, change: dict[str, Any], param: str, code: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "bot", "messages": HELLO, "stream": stream, **change})
    assert caught.value.status_code == (404 if code == "model_not_found" else 400)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"


def test_models_are_listed(client: openai.OpenAI) -> None:
    (only,) = client.models.list()
    assert (only.id, only.object, only.owned_by) == ("bot", "model", "headstart")


def test_the_token_is_asked_for(url: str) -> None:
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="another", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.chat.completions.create(model="bot", messages=HELLO)  # type: ignore[arg-type]


def test_it_takes_no_single_items(url: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    found = httpx.post(f"{url}/models/bot/predict", json={"items": ["a text"]}, headers=headers)
    assert found.status_code == 422
    assert "/v1/chat/completions" in found.json()["detail"]
    found = httpx.post(f"{url}/predict", json={"items": ["a text"]}, headers=headers)
    assert found.status_code == 422
    (about,) = httpx.get(f"{url}/models", headers=headers).json()["models"]
    assert about["task"] == "chat"


def test_who_leaves_ends_the_writing() -> None:
    """Of an answer without an end."""
    closed, desk = threading.Event(), Desk("answers", 1, 1)

    def endless() -> Generator[str, None, None]:
        try:
            while True:
                yield "on and on "
        finally:
            closed.set()

    async def listen() -> str:
        talk = Talk(endless, 30.0, lambda: Problem(503, "late"))
        await talk.begin(desk)
        async for piece in talk.pieces():
            return piece
        return ""

    async def heard() -> str:
        said = await listen()
        assert await asyncio.to_thread(closed.wait, 30)
        return said

    assert asyncio.run(heard()) == "on and on "
    desk.close()


def test_what_waits_too_long_is_given_up() -> None:
    go, desk = threading.Event(), Desk("answers", 1, 1)

    def slow() -> Generator[str, None, None]:
        assert go.wait(30)
        yield "late"

    async def ask() -> None:
        talks = [Talk(slow, 0.05, lambda: Problem(503, "late")) for _ in range(3)]
        found = await asyncio.gather(*(one.begin(desk) for one in talks), return_exceptions=True)
        assert [type(one) for one in found] == [Problem, Problem, BusyError]

    try:
        asyncio.run(ask())
    finally:
        go.set()
        desk.close()


def test_streams_that_nobody_reads_keep_no_one_waiting(url: str, client: openai.OpenAI) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    body = {"model": "bot", "messages": HELLO, "max_tokens": 200, "stream": True, "temperature": 1, "seed": 1}
    for _ in range(6):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as got:
            assert got.headers["content-type"].startswith("text/event-stream")
            next(got.iter_lines())
    found = client.chat.completions.create(model="bot", messages=HELLO, max_tokens=1)  # type: ignore[arg-type]
    assert found.usage is not None
    assert found.usage.completion_tokens == 1
    assert 'route="/v1/chat/completions"' in httpx.get(f"{url}/metrics", headers=headers).text
