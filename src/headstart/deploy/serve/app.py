"""The routes: predict, list and load models, health and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from headstart import __version__
from headstart.deploy.model import Model
from headstart.deploy.serve import chat, openai, schemas, series
from headstart.deploy.serve.batcher import BusyError, Item, UnreadableError
from headstart.deploy.serve.engine import Answers, Engine, ForbiddenError
from headstart.deploy.serve.gate import Gate
from headstart.deploy.serve.items import Load, parsed, read_items, read_json
from headstart.deploy.serve.problems import Problem, at_item, of_status
from headstart.deploy.serve.settings import Settings
from headstart.deploy.serve.shared import Fleet
from headstart.deploy.serve.talks import Streamed, Talk
from headstart.errors import HeadstartError, listed

DESCRIPTION = "Models that `headstart fit` adapted. Those on one pretrained network share one pass of it."


def create_app(models: Mapping[str, Model], settings: Settings) -> FastAPI:
    """The server of these models as an ASGI app; `app.state.engine` predicts for whatever else is mounted on it.

    Loads the backbones. BackboneError or RunError when one is not here.
    """
    engine = Engine(models, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(engine.start)
        yield
        await asyncio.to_thread(engine.close)

    app = FastAPI(title="Headstart", version=__version__, description=DESCRIPTION, redoc_url=None, lifespan=lifespan)
    app.state.engine = engine
    app.add_middleware(Gate, token=settings.token, metrics=engine.metrics)
    app.add_exception_handler(Problem, _tell)
    app.add_exception_handler(HTTPException, _tell_status)
    _add_predictions(app, engine)
    _add_forecasts(app, engine)
    _add_transcriptions(app, engine)
    _add_chat(app, engine)
    _add_models(app, engine)
    _add_health(app, engine)
    app.openapi = lambda: schemas.openapi(app, settings)  # type: ignore[method-assign]
    return app


def _add_predictions(app: FastAPI, engine: Engine) -> None:
    @app.post("/models/{name}/predict", **schemas.PREDICT_ONE)
    async def predict_with_one_model(name: schemas.Name, request: Request) -> Response:
        """Predict with one model."""
        fleet = engine.fleet  # the one that this request ends on
        if (member := fleet.members.get(name)) is None:
            known = listed(sorted(fleet.members))
            raise Problem(404, "No such model", f"There is no model {name!r}; here are: {known}.")
        modality, items = await read_items(request, engine.settings)
        if member.model.talker is not None:
            detail = f"{name} gives {member.model.task.title}. POST /v1/chat/completions."
            raise Problem(422, "No single items", detail)
        if modality != member.modality:
            more = f" POST /models/{name}/forecast." if member.model.seer is not None else ""
            takes = f"{name} takes {member.model.modality.noun[1]}.{more}"
            raise Problem(422, "Other items than the model takes", takes)
        answers = await _answers(engine, request, fleet, items, modality, frozenset({name}))
        return _as_json({"predictions": [one[name] for one in answers]})

    @app.post("/predict", **schemas.PREDICT_ALL)
    async def predict_with_all_models(request: Request) -> Response:
        """Predict with every model that takes such items, in one pass of what they share."""
        fleet = engine.fleet
        modality, items = await read_items(request, engine.settings)
        names = fleet.taking(modality)
        if not names:
            raise Problem(422, "Other items than the models take", f"No model here takes items of the kind {modality}.")
        answers = await _answers(engine, request, fleet, items, modality, names)
        return _as_json({"models": {name: {"predictions": [one[name] for one in answers]} for name in sorted(names)}})


def _add_forecasts(app: FastAPI, engine: Engine) -> None:
    @app.post("/models/{name}/forecast", **schemas.FORECAST_ONE)
    async def forecast_with_one_model(name: schemas.Name, request: Request) -> Response:
        """Forecast series with one model."""
        if (member := engine.fleet.members.get(name)) is None:
            known = listed(sorted(engine.fleet.members))
            raise Problem(404, "No such model", f"There is no model {name!r}; here are: {known}.")
        if member.model.seer is None:
            raise Problem(422, "No forecasts", f"{name} gives {member.model.task.title}. POST /models/{name}/predict.")
        asked = await series.read_asked(request, engine.settings)
        answers = await _forecasts(engine, request, {name: member.model}, asked)
        return _as_json(answers[name])

    @app.post("/forecast", **schemas.FORECAST_ALL)
    async def forecast_with_all_models(request: Request) -> Response:
        """Forecast series with every model that forecasts."""
        models = {name: one.model for name, one in engine.fleet.members.items() if one.model.seer is not None}
        asked = await series.read_asked(request, engine.settings)
        if not models:
            raise Problem(422, "No forecasts", "No model here forecasts.")
        return _as_json({"models": await _forecasts(engine, request, models, asked)})


async def _forecasts(
    engine: Engine, request: Request, models: Mapping[str, Model], asked: series.Asked
) -> dict[str, Any]:
    """What the models forecast. Problem: no room or too late (503), series that cannot be forecast (422)."""

    def work() -> dict[str, Any]:
        return {name: series.forecast(model, asked, engine.settings) for name, model in models.items()}

    try:
        future = engine.desk.submit(work)
    except BusyError as error:
        raise _refused(engine, "full", "The server is busy", str(error)) from None
    return dict(await _settled(engine, request, future))


def _add_transcriptions(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/audio/transcriptions", **schemas.TRANSCRIBE)
    async def transcribe(request: Request) -> Response:
        """What is said in a sound, as OpenAI's service answers."""
        fleet = engine.fleet
        asked = await openai.read_form(request, engine.settings)
        hearing = sorted(name for name, one in fleet.members.items() if one.model.recognizer is not None)
        if asked.model not in hearing:
            known = f"here are: {listed(hearing)}" if hearing else "none is served here"
            detail = f"There is no model {asked.model[:80]!r} that transcribes; {known}."
            raise Problem(404, "Model not found", detail, param="model")
        (answers,) = await _answers(engine, request, fleet, [asked.item], "audio", frozenset({asked.model}))
        return openai.response(asked, openai.heard_of(answers[asked.model]))


def _add_chat(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/chat/completions", **schemas.CHAT)
    async def complete(request: Request) -> Response:
        """The next turn of a conversation, as OpenAI's service answers."""
        asked = await chat.read_asked(request, engine.settings)
        chatbots = {name: one.model for name, one in engine.fleet.members.items() if one.model.talker is not None}
        if (model := chatbots.get(asked.model)) is None:
            known = f"here are: {listed(sorted(chatbots))}" if chatbots else "none is served here"
            detail = f"There is no model {asked.model[:80]!r} that chats; {known}."
            raise Problem(404, "Model not found", detail, param="model")
        reply = chat.Reply(model=asked.model, fingerprint=model.fingerprint, stopped=chat.Stopped(asked.stops))

        def late() -> Problem:
            return _refused(engine, "late", "The answer took too long", "No more of it came in time.")

        talk = Talk(lambda: reply.written(model.voice(), asked), engine.settings.answer_s, late)
        try:
            await _unless_gone(request, talk.begin(engine.talks))
        except BusyError as error:
            raise _refused(engine, "full", "The server is busy", str(error)) from None
        if asked.stream:
            return Streamed(talk, reply.events(talk.pieces(), asked.include_usage))
        return _as_json(reply.whole(await _unless_gone(request, talk.text())))

    @app.get("/v1/models", **schemas.OPENAI_MODELS)
    async def list_for_clients() -> Response:
        """What the routes under /v1 answer with."""
        served = [chat.about(name, engine.since) for name, one in engine.fleet.members.items() if _is_openai(one.model)]
        return _as_json({"object": "list", "data": served})


def _is_openai(model: Model) -> bool:
    """Whether a route under /v1 asks it."""
    return model.talker is not None or model.recognizer is not None


def _add_models(app: FastAPI, engine: Engine) -> None:
    @app.get("/models", **schemas.LIST)
    async def list_models() -> Response:
        """What is served."""
        return _as_json({"models": [schemas.about(one) for one in engine.fleet.members.values()]})

    @app.put("/models/{name}", **schemas.LOAD)
    async def load_model(name: schemas.Name, request: Request) -> Response:
        """Load a run under a new name, or in the place of another; no request in flight is dropped."""
        run = Path(parsed(Load, await read_json(request, engine.settings)).run)
        try:
            replaced = await asyncio.to_thread(engine.load, name, run)
        except ForbiddenError as error:
            raise Problem(403, "The run may not be loaded", str(error)) from None
        except BusyError as error:
            raise _refused(engine, "stopping", "The server is stopping", str(error)) from None
        except HeadstartError as error:
            raise Problem(422, "The run cannot be loaded", str(error)) from None
        return _as_json(schemas.about(engine.fleet.members[name]), 200 if replaced else 201)


def _add_health(app: FastAPI, engine: Engine) -> None:
    @app.get("/healthz", **schemas.HEALTH)
    async def is_alive() -> Response:
        """Whether the process answers."""
        return _as_json({"status": "ok"})

    @app.get("/readyz", **schemas.READY)
    async def is_ready() -> Response:
        """Whether it takes work."""
        if engine.batcher.closed:
            raise _refused(engine, "stopping", "The server is stopping", "It takes no more work.")
        return _as_json({"status": "ok"})

    @app.get("/metrics", **schemas.METRICS)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return PlainTextResponse(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _answers(
    engine: Engine, request: Request, fleet: Fleet, items: Sequence[Item], modality: str, names: frozenset[str]
) -> Answers:
    """What the models say. Problem: no room or too late (503), an item that cannot be read (422)."""
    try:
        ticket = engine.submit(fleet, items, modality, names)
    except BusyError as error:
        raise _refused(engine, "full", "The server is busy", str(error)) from None
    try:
        found: Answers = await _settled(engine, request, ticket.future)
        return found
    except UnreadableError as error:
        raise at_item(error.position, error.problem) from None


async def _settled(engine: Engine, request: Request, coming: Future[Any]) -> Any:
    """What comes of it. Problem where the client goes away, or it takes too long (503)."""
    future, gone = asyncio.wrap_future(coming), asyncio.ensure_future(_is_gone(request))
    either: list[asyncio.Future[Any]] = [future, gone]
    try:
        await asyncio.wait(either, timeout=engine.settings.answer_s, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if gone.done():
            raise Problem(499, "The client went away")
        raise _refused(engine, "late", "The answer took too long", f"It takes over {engine.settings.answer_s:g} s.")
    finally:
        future.cancel()  # what no one waits for is not run
        gone.cancel()


async def _unless_gone(request: Request, coming: Coroutine[Any, Any, Any]) -> Any:
    """What comes of it; it is cancelled where the client goes away (Problem)."""
    task, gone = asyncio.ensure_future(coming), asyncio.ensure_future(_is_gone(request))
    either: list[asyncio.Future[Any]] = [task, gone]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Problem(499, "The client went away")
    finally:
        for one in either:
            one.cancel()
        await asyncio.gather(*either, return_exceptions=True)


async def _is_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refused(engine: Engine, reason: str, title: str, detail: str) -> Problem:
    engine.metrics.shed.labels(reason).inc()
    return Problem(503, title, detail, headers={"retry-after": str(engine.settings.retry_s)})


def _as_json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False, allow_nan=False), status, media_type="application/json")


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.url.path)


async def _tell_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return of_status(error.status_code, error.headers).response(request.url.path)
