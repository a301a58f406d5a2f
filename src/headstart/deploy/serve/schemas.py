"""What the OpenAPI page says of each route: examples, answers, and every way in which it can fail."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from headstart.deploy.serve.chat import ChatRequest
from headstart.deploy.serve.engine import NAME
from headstart.deploy.serve.items import Items, Load
from headstart.deploy.serve.members import Member
from headstart.deploy.serve.openai_schemas import (
    ChatCompletion,
    ModelList,
    OpenAIErrors,
    Transcript,
    TranscriptionForm,
    in_openai_shape,
)
from headstart.deploy.serve.problems import MEDIA_TYPE
from headstart.deploy.serve.series import Series
from headstart.deploy.serve.settings import Settings
from headstart.tasks.coco import MOST

Name = Annotated[str, Path(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]  # told here, checked by the engine
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="


class Box(BaseModel):
    """An object: its class, and its top left corner and size in pixels of the upright picture."""

    name: str
    x: float
    y: float
    width: float
    height: float
    confidence: float


class Word(BaseModel):
    """A word, and when it is said (seconds)."""

    text: str
    start: float
    end: float
    confidence: float


class Prediction(BaseModel):
    """A class, labels, a number, boxes in a picture of this size (the surest first), or a text with its words."""

    label: str | None = None
    confidence: float | None = None
    labels: list[str] | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None
    width: int | None = None
    height: int | None = None
    boxes: Annotated[list[Box] | None, Field(max_length=MOST)] = None
    text: str | None = None
    words: list[Word] | None = None


class Predictions(BaseModel):
    """One for each item, in their order."""

    predictions: list[Prediction]


class AllPredictions(BaseModel):
    """By the model's name."""

    models: dict[str, Predictions]


class Forecast(BaseModel):
    """One series: times of the steps ahead, the median, and all quantiles by their level, as many numbers each."""

    times: list[str]
    median: list[float]
    quantiles: dict[str, list[float]]


class Forecasts(BaseModel):
    """By the series' name; the model was tested for the first `measured` of the steps."""

    horizon: int
    measured: int
    warnings: list[str]
    forecasts: dict[str, Forecast]


class AllForecasts(BaseModel):
    """By the model's name."""

    models: dict[str, Forecasts]


class About(BaseModel):
    """A model that is served."""

    name: str
    modality: str
    task: str
    classes: list[str]
    backbone: str | None
    strategy: str
    shared_stages: int
    horizon: int | None = None
    run: str | None


class Models(BaseModel):
    """All that is served."""

    models: list[About]


class Status(BaseModel):
    """Health."""

    status: str


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] = []


PROBLEMS = {
    400: "The body is not JSON, or the request cannot be read.",
    401: "The token is missing or wrong.",
    403: "The run lies where this server may not look.",
    404: "There is no such model, or no such route.",
    405: "The route takes other methods.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is of a kind that is not taken.",
    422: "The request was read and cannot be carried out; `errors` points to what is wrong.",
    500: "The server is at fault, and its log says why.",
    503: "Too much waits, or the answer took too long: try again after `Retry-After` seconds.",
}
BODY = (400, 401, 408, 413, 415, 422, 500, 503)


def _route(summary: str, answer: type[BaseModel] | None, fails: tuple[int, ...], **more: Any) -> dict[str, Any]:
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": PROBLEMS[status], "content": {MEDIA_TYPE: {"schema": _ref("ProblemDetails")}}}
        for status in fails
    }
    if answer is not None:
        responses[200] = {"description": "Done.", "content": _json(answer)}
    return {"summary": summary, "responses": responses, "response_model": None, **more}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(kind: type[BaseModel], **examples: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _ref(kind.__name__)}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


ITEMS = _body(
    {
        **_json(
            Items,
            texts={"items": ["what a lovely film", "never again"]},
            pictures={"items": [{"base64": PIXEL}]},
        ),
        "audio/*": {"schema": {"type": "string", "format": "binary"}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    }
)
PREDICT_ONE = _route("Predict with one model", Predictions, (*BODY, 404, 405), openapi_extra=ITEMS)
PREDICT_ALL = _route("Predict with every model that takes such items", AllPredictions, BODY, openapi_extra=ITEMS)
SERIES: dict[str, Any] = _body(
    {
        **_json(Series, monthly={"series": {"sales": [*range(100, 124)]}, "horizon": 3}),
        "text/csv": {"schema": {"type": "string"}},
    }
)
SERIES["parameters"] = [
    {
        "name": "horizon",
        "in": "query",
        "required": False,
        "description": "Steps ahead; overrules that of a JSON body.",
        "schema": {"type": "integer", "minimum": 1},
    }
]
FORECAST_ONE = _route("Forecast series with one model", Forecasts, (*BODY, 404, 405), openapi_extra=SERIES)
FORECAST_ALL = _route("Forecast series with every model that forecasts", AllForecasts, BODY, openapi_extra=SERIES)
TRANSCRIBE = _route(
    "Transcribe a sound (compatible with OpenAI's)",
    Transcript,
    (400, 401, 404, 405, 408, 413, 415, 422, 500, 503),
    openapi_extra=_body({"multipart/form-data": {"schema": _ref("TranscriptionForm")}}),
)
HELLO = {"model": "my-run", "messages": [{"role": "user", "content": "How do I reset my password?"}]}
CHAT = _route(
    "Go on with a conversation (compatible with OpenAI's)",
    ChatCompletion,
    (400, 401, 404, 405, 408, 413, 415, 500, 503),
    openapi_extra=_body(_json(ChatRequest, question=HELLO)),
)
CHAT["responses"][200]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
OPENAI_MODELS = _route("List the models that the routes under /v1 ask", ModelList, (401, 500))
for _compatible in (TRANSCRIBE, CHAT, OPENAI_MODELS):
    in_openai_shape(_compatible)
for _kind in ("text/plain", "application/x-subrip", "text/vtt"):
    TRANSCRIBE["responses"][200]["content"][_kind] = {"schema": {"type": "string"}}
LIST = _route("List the models", Models, (401, 500))
HEALTH = _route("Whether the process answers", Status, (500,))
READY = _route("Whether it takes work", Status, (500, 503))
METRICS = _route("Counters for Prometheus", None, (401, 500))
METRICS["responses"][200] = {"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}}
LOAD = _route(
    "Load a run, or replace a model",
    About,
    (400, 401, 403, 404, 405, 408, 413, 415, 422, 500, 503),
    openapi_extra=_body(_json(Load, run={"run": "runs/reviews-2"})),
)
LOAD["responses"][201] = {"description": "A new model is served.", "content": _json(About)}
COMPONENTS = (
    *(Items, Load, Predictions, AllPredictions, About, Models, Status, ProblemDetails),
    *(TranscriptionForm, Transcript, ChatRequest, ChatCompletion, ModelList, OpenAIErrors),
    *(Series, Forecasts, AllForecasts),
)


def openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The page, made once."""
    if app.openapi_schema is None:
        page = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = page.setdefault("components", {}).setdefault("schemas", {})
        for kind in COMPONENTS:
            schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[kind.__name__] = schema
        for one in schemas["Items"]["properties"]["items"]["anyOf"]:
            one["maxItems"] = settings.items
        schemas["Series"]["properties"]["series"]["maxProperties"] = settings.items
        if settings.token is not None:
            page["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            page["security"] = [{"token": []}]
            for path in ("/healthz", "/readyz"):
                page["paths"][path]["get"]["security"] = []
        app.openapi_schema = page
    return app.openapi_schema


def about(member: Member) -> dict[str, Any]:
    """What is told of a model."""
    model = member.model
    classical = model.classical is not None or (model.seer is not None and model.seer.network is None)
    return {
        "name": member.name,
        "modality": member.modality,
        "task": type(model.task).__name__.lower(),
        "classes": list(model.task.score_names),
        "backbone": None if classical else model.origin.name,
        "strategy": model.plan.ships if classical else model.plan.strategy,
        "shared_stages": member.n_shared,
        "horizon": getattr(model.task, "horizon", None),
        "run": None if model.run is None else str(model.run),
    }
