"""A server that follows OpenAI's published schema for files, fine-tuning jobs and chat completions, and is strict.

What it is sent is validated by the `openai` package's own types, and so is what it answers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from openai.types import FileObject
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.job_create_params import JobCreateParams
from pydantic import TypeAdapter, ValidationError

KEY = "sk-only-for-the-tests-0123456789"
BASE = "gpt-4.1-mini-2025-04-14"
WELL = ("validating_files", "queued", "running", "running", "succeeded")
PAGE = 2  # events a page, however many are asked for: pages must be turned
NOW = 1_760_000_000
PROMPT_TOKENS, ANSWER_TOKENS = 11, 7  # as the server counts every one
CREATE: TypeAdapter[Any] = TypeAdapter(JobCreateParams)
MESSAGE: TypeAdapter[Any] = TypeAdapter(ChatCompletionMessageParam)
CHAT: dict[bool, TypeAdapter[Any]] = {
    False: TypeAdapter(CompletionCreateParamsNonStreaming),
    True: TypeAdapter(CompletionCreateParamsStreaming),
}


class RefusalError(Exception):
    """An answer with a status of 400 and more."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


@dataclass
class Service:
    """What the server knows, and what it was sent."""

    answer: Callable[[str, bool], str]  # (the last user's words, whether the model was tuned) -> what is said
    script: tuple[str, ...] = WELL  # a job's states, one a look
    error: dict[str, Any] | None = None  # of a job that fails
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # job -> in order
    created: list[dict[str, Any]] = field(default_factory=list)  # bodies of jobs that were asked for
    asked: list[dict[str, Any]] = field(default_factory=list)  # bodies of chat completions
    requests: list[str] = field(default_factory=list)  # "POST /v1/files"
    faults: dict[str, list[Any]] = field(default_factory=dict)  # request -> what happens instead, in turn
    lost: bool = False  # whether the answer to a created job gets lost
    lock: threading.Lock = field(default_factory=threading.Lock)

    def upload(self, purpose: str, name: str, content: bytes) -> dict[str, Any]:
        if purpose != "fine-tune" or not name.endswith(".jsonl"):
            raise RefusalError(400, "Fine-tuning takes .jsonl files with the purpose fine-tune.")
        file = f"file-{len(self.files) + 1:04d}"
        self.files[file] = content
        about = {"id": file, "bytes": len(content), "created_at": NOW, "filename": name, "object": "file"}
        return FileObject.model_validate({**about, "purpose": purpose, "status": "processed"}).model_dump(mode="json")

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        strict(CREATE, JobCreateParams, body)
        if body["model"] != BASE:
            raise RefusalError(404, f"The model {body['model']!r} does not exist or you do not have access to it.")
        for name in ("training_file", "validation_file"):
            if name in body and body[name] not in self.files:
                raise RefusalError(400, f"{name} {body[name]!r} does not exist.")
        if body.get("method", {}).get("type") != "supervised" or len(body.get("suffix") or "") > 64:
            raise RefusalError(400, "Only supervised jobs, with a suffix of up to 64 characters.")
        self.created.append(body)
        name = f"ftjob-{len(self.jobs) + 1:04d}"
        self.jobs[name] = {
            "id": name,
            "created_at": NOW,
            "hyperparameters": body["method"]["supervised"]["hyperparameters"],
            "object": "fine_tuning.job",
            "organization_id": "org-test",
            "result_files": [],
            "status": "validating_files",
            "looks": 0,
            "fine_tuned_model": None,
            **{k: body.get(k) for k in ("model", "training_file", "validation_file", "seed", "metadata", "method")},
        }
        self.events[name] = []
        self.tell(name, "Created fine-tuning job")
        return self.shown(name)

    def shown(self, name: str) -> dict[str, Any]:
        if name not in self.jobs:
            raise RefusalError(404, f"No such job: {name}")
        return FineTuningJob.model_validate(
            {k: v for k, v in self.jobs[name].items() if k != "looks"}, strict=True
        ).model_dump(mode="json")

    def tell(self, job: str, message: str, kind: str = "message") -> None:
        number = sum(map(len, self.events.values()))
        event = {"id": f"ftevent-{number:04d}", "created_at": NOW + number, "level": "info", "message": message}
        event |= {"object": "fine_tuning.job.event", "type": kind, "data": {}}
        self.events[job].append(FineTuningJobEvent.model_validate(event, strict=True).model_dump(mode="json"))

    def look(self, name: str) -> dict[str, Any]:
        """A job, one state further than at the last look."""
        self.shown(name)
        job = self.jobs[name]
        job["status"] = self.script[min(job["looks"], len(self.script) - 1)]
        if job["looks"] < len(self.script):
            if job["status"] == "validating_files" and (wrong := invalid(self.files[job["training_file"]])):
                self.script, self.error = (*self.script[:1], "failed"), {"code": "invalid_file", "message": wrong}
            for step in range(3 * (job["status"] == "running")):
                self.tell(name, f"Step {3 * job['looks'] + step}: training loss={1 / (1 + step):.2f}", "metrics")
            self.tell(name, f"The job is now: {job['status']}")
        job["looks"] += 1
        if job["status"] == "failed":
            job["error"] = {"param": None, **(self.error or {"code": "error", "message": "It failed."})}
        if job["status"] == "succeeded":
            suffix = self.created[list(self.jobs).index(name)]["suffix"]
            job |= {"fine_tuned_model": f"ft:{BASE}:org-test:{suffix}:{name[-4:]}", "finished_at": NOW + 99}
            job["trained_tokens"] = 12345
        return self.shown(name)

    def listed(self, metadata: dict[str, str]) -> dict[str, Any]:
        found = [self.shown(name) for name in reversed(self.jobs)]
        found = [one for one in found if metadata.items() <= (one["metadata"] or {}).items()]
        return {"object": "list", "data": found, "has_more": False}

    def page(self, name: str, after: str | None) -> dict[str, Any]:
        """Events, the newest first."""
        self.shown(name)
        newest = self.events[name][::-1]
        start = 0 if after is None else [one["id"] for one in newest].index(after) + 1
        return {"object": "list", "data": newest[start : start + PAGE], "has_more": start + PAGE < len(newest)}

    def complete(self, body: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
        kind = CompletionCreateParamsStreaming if body.get("stream") else CompletionCreateParamsNonStreaming
        strict(CHAT[bool(body.get("stream"))], kind, body)
        tuned = {job["fine_tuned_model"] for job in self.jobs.values()} - {None}
        if body["model"] not in {BASE, *tuned}:
            raise RefusalError(404, f"The model {body['model']!r} does not exist.", "model_not_found")
        if body["messages"][-1]["role"] != "user":
            raise RefusalError(400, "The last message must be the user's.")
        self.asked.append(body)
        said = self.answer(body["messages"][-1]["content"], body["model"] != BASE)
        about = {"id": f"chatcmpl-{len(self.asked)}", "created": NOW, "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": said, "refusal": None}
            choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
            full = {**about, "object": "chat.completion", "choices": [choice]}
            return ChatCompletion.model_validate(full, strict=True).model_dump(mode="json")
        deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": piece}, None) for piece in said.replace(" ", " \0").split("\0")] + [({}, "stop")]
        about["object"] = "chat.completion.chunk"
        parts = [
            {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}]}
            for delta, end in deltas
        ]
        if (body.get("stream_options") or {}).get("include_usage"):  # comes last, without choices
            usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS}
            usage["total_tokens"] = PROMPT_TOKENS + ANSWER_TOKENS
            parts.append({**about, "choices": [], "usage": usage})
        return [ChatCompletionChunk.model_validate(one, strict=True).model_dump(mode="json") for one in parts]


def strict(adapter: TypeAdapter[Any], kind: Any, body: dict[str, Any]) -> None:
    """Refuse what the published types do not hold, fields that they do not know among it."""
    if unknown := set(body) - set(kind.__annotations__):
        raise RefusalError(400, f"Unrecognized request arguments: {sorted(unknown)}")
    try:
        adapter.validate_python(body)
        for message in body.get("messages", ()):  # an Iterable, which pydantic looks into no further
            MESSAGE.validate_python(message)
    except ValidationError as error:
        raise RefusalError(400, str(error)) from None


def invalid(content: bytes) -> str | None:
    """Why a training file is refused; None where it is good."""
    rows = [json.loads(line) for line in content.decode().splitlines()]
    if len(rows) < 10:
        return f"Training file has {len(rows)} example(s), but must have at least 10 examples"
    for row in rows:
        if set(row) != {"messages"} or row["messages"][-1]["role"] != "assistant":
            return "Invalid file format. Examples must end with an assistant's message"
        for message in row["messages"]:
            if set(message) != {"role", "content"} or message["role"] not in ("system", "user", "assistant"):
                return "Invalid file format. Unknown key or role"
            if not isinstance(message["content"], str) or not message["content"]:
                return "Invalid file format. Missing content"
    return None


def handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            return

        def do_GET(self) -> None:
            self.serve("GET", b"")

        def do_POST(self) -> None:
            self.serve("POST", self.rfile.read(int(self.headers["Content-Length"])))

        def serve(self, verb: str, content: bytes) -> None:
            path = urlsplit(self.path)
            name = f"{verb} {path.path}"
            try:
                with service.lock:
                    service.requests.append(name)
                    found = self.route(verb, path.path.removeprefix("/v1/").split("/"), content, parse_qs(path.query))
            except RefusalError as error:
                return self.reply(error.status, error.body)
            except ConnectionAbortedError:
                self.close_connection = True
                return None
            return self.stream(found) if isinstance(found, list) else self.reply(200, found)

        def route(self, verb: str, at: list[str], content: bytes, query: dict[str, list[str]]) -> Any:
            if self.headers["Authorization"] != f"Bearer {KEY}":
                given = self.headers["Authorization"].removeprefix("Bearer ")
                raise RefusalError(401, f"Incorrect API key provided: {given}", "invalid_api_key")
            if waiting := service.faults.get(f"{verb} {'/'.join(at)}"):
                raise waiting.pop(0)
            match verb, at:
                case "POST", ["files"]:
                    head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                    parts = {}
                    for part in message_from_bytes(head + content).get_payload():
                        parts[part.get_param("name", header="content-disposition")] = part
                    payload = parts["file"].get_payload(decode=True)
                    purpose = parts["purpose"].get_payload(decode=True).decode()
                    return service.upload(purpose, parts["file"].get_filename(), payload)
                case "POST", ["fine_tuning", "jobs"]:
                    made = service.create(json.loads(content))
                    if service.lost:
                        service.lost = False
                        raise ConnectionAbortedError
                    return made
                case "GET", ["fine_tuning", "jobs"]:
                    marks = {k[9:-1]: v[0] for k, v in query.items() if k.startswith("metadata[")}
                    return service.listed(marks)
                case "GET", ["fine_tuning", "jobs", job]:
                    return service.look(job)
                case "GET", ["fine_tuning", "jobs", job, "events"]:
                    return service.page(job, query.get("after", [None])[0])
                case "POST", ["chat", "completions"]:
                    return service.complete(json.loads(content))
            raise RefusalError(404, f"Invalid URL ({verb} /v1/{'/'.join(at)})")

        def reply(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self, pieces: list[Any]) -> None:
            content = "".join(f"data: {json.dumps(one)}\n\n" for one in pieces) + "data: [DONE]\n\n"
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

    return Handler


@contextmanager
def serving(answer: Callable[[str, bool], str]) -> Iterator[Service]:
    """The server at a free port of this machine."""
    service = Service(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(service))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
