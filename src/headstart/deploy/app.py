"""A page for people: give an item, see the answer, what drove it, what is like it, and the run's report.

Nothing is fetched from elsewhere: the fonts are the system's, Gradio's telemetry is off, and a Content-Security-Policy
forbids the browser all addresses but this one. Only this machine can reach the page, unless a password is set.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from headstart import registry
from headstart.deploy import answer, chat_page, forecast_page
from headstart.deploy.model import Model
from headstart.deploy.password import knows
from headstart.errors import MissingExtraError, PlanError, listed

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

TOKEN = "HEADSTART_TOKEN"  # environment variable with the password
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHOWN = ("image", "text", "audio")  # modalities that the page has an input for
PAPER = ("#fdfcf9", "#15171a")  # the report's, light and dark
BLUES = (  # light to dark around the report's accent
    *("#eff6fa", "#d9eaf3", "#b3d5e7", "#74bbea", "#3f8fbb"),
    *("#0a5a83", "#0a5a83", "#084a6c", "#063b56", "#052d42", "#031f2e"),
)
# Gradio's own scripts need the unsafe ones
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
CSS = Path(__file__).with_name("app.css")


def server(host: str = LOOPBACK[0]) -> FastAPI:
    """An empty server for pages, guarded; PlanError where others could reach it and no password is set."""
    password = os.environ.get(TOKEN, "")
    if host not in LOOPBACK and not password:
        raise PlanError(
            f"--host {host} lets other machines in, which needs a password: set {TOKEN} to one (any user name goes "
            f"with it), or stay on this machine with --host {LOOPBACK[0]}."
        )
    gradio()
    from fastapi import FastAPI
    from fastapi.responses import Response

    app = FastAPI(title="Headstart", docs_url=None, redoc_url=None, openapi_url=None)
    if not password:  # another site's page must not reach this one under a name of its own
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if password and not knows(request.headers.get("authorization", ""), password):
            return Response("A password is needed.", 401, {"WWW-Authenticate": 'Basic realm="Headstart"'})
        response = await call_next(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return app


def mount(app: FastAPI, models: Mapping[str, Model], path: str = "/") -> FastAPI:
    """The page of these models on a server, at `path`, and their reports at /report/NAME; a tab for each model.

    Who may reach it is the server's business. PlanError for a model that takes rows of a table.
    """
    for name, model in models.items():
        takes = registry.plugin_name(model.modality)
        if takes not in SHOWN and model.seer is None:
            known = listed((*SHOWN, "series"))
            raise PlanError(f"The run {name} takes {model.modality.noun[1]}; the page knows only {known}.")
    gr = gradio()
    add_reports(app, models)
    with gr.Blocks(title="Headstart", analytics_enabled=False) as page:
        if len(models) == 1:
            _model_page(*next(iter(models.items())))
        else:
            for name, model in models.items():
                with gr.Tab(name):
                    _model_page(name, model)
    return mount_page(app, page, path)


def mount_page(app: FastAPI, page: Any, path: str = "/", **settings: Any) -> FastAPI:
    """Gradio's Blocks in the house's colours, with no address of anybody else."""
    gr = gradio()
    system = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Arial", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "Menlo", "Consolas", "monospace")]
    blue = gr.themes.Color(*BLUES, name="headstart")
    theme = gr.themes.Default(font=system, font_mono=mono, primary_hue=blue, neutral_hue="stone", radius_size="sm")
    theme = theme.set(body_background_fill=PAPER[0], body_background_fill_dark=PAPER[1])
    quiet: dict[str, Any] = {"footer_links": [], "run_history": False, "ssr_mode": False, "pwa": False}
    return gr.mount_gradio_app(app, page, path=path, theme=theme, css_paths=[CSS], **quiet, **settings)


def add_reports(app: FastAPI, models: Mapping[str, Model]) -> None:
    """The reports of the models at /report/NAME; a model that comes later has one too."""
    from fastapi.responses import HTMLResponse

    @app.get("/report/{name}", response_class=HTMLResponse, response_model=None, include_in_schema=False)
    def report(name: str) -> HTMLResponse:
        found = models[name].files.get("report.html") if name in models else None
        if found is None:
            return HTMLResponse(answer.problem(f"There is no report of a run called {name!r}."), status_code=404)
        return HTMLResponse(found)


class Panel(NamedTuple):
    """Gradio's components to ask a model with."""

    picture: Any
    text: Any
    sound: Any
    button: Any
    shown: Any  # the answer, as HTML


def panel(model: Callable[[], Model | None], takes: str | None) -> Panel:
    """Input, button and answer, for the model that `model` gives when it is asked.

    `takes` is "image", "text" or "audio"; None is not known yet, and all inputs are hidden.
    """
    gr = gradio()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            picture: Any = gr.Image(
                label="A picture", type="filepath", height=320, visible=takes == "image", buttons=["fullscreen"]
            )
            sound: Any = gr.Audio(
                label="A sound",
                sources=["microphone", "upload"],
                type="filepath",
                visible=takes == "audio",
                buttons=["download"],
            )
            for one in (picture, sound):
                one.preprocess = lambda sent: sent.path if sent else None  # what is wrong with it, the modality says
            text = gr.Textbox(label="A text", lines=6, visible=takes == "text", placeholder="Write or paste a text")
            button = gr.Button("Ask the model", variant="primary", visible=takes is not None)
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML()

    def respond(*given: str | None) -> Iterator[str]:
        found = model()
        if found is not None:
            of_kind = dict(zip(SHOWN, given, strict=True))
            yield from answer.pages(found, of_kind[registry.plugin_name(found.modality)])

    how: dict[str, Any] = {"inputs": [picture, text, sound], "outputs": shown, "concurrency_id": "model"}
    for event in (button.click, picture.upload, text.submit, sound.stop_recording, sound.upload):
        event(respond, **how, show_progress="minimal", api_visibility="private")
    for one in (picture, sound):
        one.clear(lambda: "", None, shown, api_visibility="private")
    return Panel(picture, text, sound, button, shown)


def report_frame(name: str) -> str:
    """The report as HTML: a link and a frame."""
    address = f"/report/{quote(name)}"
    return (
        f'<p class="hs-small"><a href="{address}" target="_blank" rel="noopener">Open it in a tab of its own</a></p>'
        f'<iframe class="hs-report" src="{address}" title="Report of {escape(name)}"></iframe>'
    )


def listen(app: FastAPI, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until interrupted; PlanError when the port is taken."""
    import uvicorn

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that temporary folders are removed
    try:
        place = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PlanError(
            f"Port {port} of {host} cannot be used: {error.strerror}. Choose another with --port, or 0 for a free one."
        ) from error
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{place.getsockname()[1]}")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[place])


def gradio() -> Any:
    """The library, its telemetry off; MissingExtraError when it is not installed."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise MissingExtraError("gradio", "app") from error
    return gradio


def _model_page(name: str, model: Model) -> None:
    """What it is, the panel to try it, and its report."""
    gr = gradio()
    if model.seer is not None:
        takes = f"Takes {model.modality.noun[1]}; forecasts {model.task.horizon:,} steps ahead."  # type: ignore[attr-defined]
        gr.HTML(head(name, model, takes))
        forecast_page.panel(gr, model)
    elif model.talker is not None:
        gr.HTML(head(name, model, chat_page.REMARK))
        chat_page.panel(gr, model)
    else:
        _item_page(gr, name, model)
    with gr.Accordion("The whole report", open=False):
        gr.HTML(report_frame(name))


def _item_page(gr: Any, name: str, model: Model) -> None:
    """A model that answers one item."""
    answers = listed(model.task.score_names, 6) or ("a number" if model.recognizer is None else model.task.title)
    verb = "answers with" if model.detector is None else "finds"
    gr.HTML(head(name, model, f"Takes {model.modality.noun[1]}; {verb}: {answers}."))
    panel(lambda: model, registry.plugin_name(model.modality))


def head(name: str, model: Model, takes: str) -> str:
    """The name, the verdict and what the model takes, as HTML."""
    return (
        f'<div class="hs-head"><h1>{escape(name)}</h1><p class="hs-verdict">{escape(model.evidence.verdict)}</p>'
        f'<p class="hs-small">{escape(takes)}</p></div>'
    )
