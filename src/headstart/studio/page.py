"""The page of the studio: drop data, see how they were understood, fit, look, try, take home."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart import registry
from headstart.data.audit import class_counts
from headstart.deploy import answer
from headstart.deploy.app import add_reports, gradio, mount_page, panel, report_frame
from headstart.errors import HeadstartError
from headstart.evidence import words
from headstart.report.page import fill
from headstart.studio.workspace import Fit, Studio, Understood, without_options

if TYPE_CHECKING:
    from fastapi import FastAPI

    from headstart.deploy.model import Model

REFRESH_S = 0.5
MOST_UPLOAD = "4gb"
HEAD = (
    '<div class="hs-head"><h1>Headstart studio</h1><p class="hs-verdict">Teach a pretrained network your own classes. '
    "Drop your examples, and see whether it was worth it.</p></div>"
)
EMPTY = (
    '<div class="hs-part"><h4>What it takes</h4><ul>'
    "<li>A <strong>.zip</strong> with a folder for each class, and its pictures, sounds or .txt files in it.</li>"
    "<li>A <strong>table</strong> (.csv, .tsv, .jsonl, .parquet) with a column of texts and a column of labels or "
    "numbers.</li><li>A <strong>.zip</strong> of such a table with the pictures that it names.</li></ul>"
    '<p class="hs-small">At least 20 examples, better 50 for each class. Everything stays on this machine.</p></div>'
)


def mount(app: FastAPI, studio: Studio, path: str = "/") -> FastAPI:
    """The studio's page on a server, with the reports and the bundles of its runs."""
    from fastapi.responses import FileResponse, HTMLResponse

    add_reports(app, studio.models)

    @app.get("/download/{name}.zip", response_model=None)
    def download(name: str) -> FileResponse | HTMLResponse:
        try:
            return FileResponse(studio.bundle(name), media_type="application/zip", filename=f"{name}.zip")
        except KeyError:
            return HTMLResponse(answer.problem(f"The studio has made no run called {name!r}."), status_code=404)

    return mount_page(app, Page(studio).blocks, path, max_file_size=MOST_UPLOAD)


class Page:
    """Gradio's Blocks: whatever happens, one `view` says what every part of the page shows."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.gr = gradio()
        with self.gr.Blocks(title="Headstart studio", analytics_enabled=False) as self.blocks:
            self._lay_out()
            self._connect()

    def _lay_out(self) -> None:
        gr = self.gr
        gr.HTML(HEAD)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                self.upload = gr.File(label="A .zip of class folders, or a table", height=180)
                self.input = gr.Dropdown(label="Column with the texts or file names", visible=False)
                self.label = gr.Dropdown(label="Column to predict", visible=False)
                self.fit = gr.Button("Fit", variant="primary", interactive=False)
                self.stop = gr.Button("Stop", visible=False)
            with gr.Column(scale=3, min_width=320):
                self.data = gr.HTML(EMPTY)
        self.progress = gr.HTML()
        self.outcome = gr.HTML()
        with gr.Column(visible=False) as self.trial:
            gr.HTML('<div class="hs-part"><h4>Try it</h4></div>')
            self.panel = panel(lambda: self.studio.model, None)
        with gr.Accordion("The whole report", open=False, visible=False) as self.report:
            self.frame = gr.HTML()

    def _connect(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private"}
        quiet: dict[str, Any] = {**private, "concurrency_limit": None, "show_progress": "hidden"}
        shown = list(self.view())
        self.upload.upload(self.after(lambda path: self.studio.take(Path(path))), self.upload, shown, **private)
        self.upload.clear(self.after(self.studio.clear), None, shown, **private)
        for chooser in (self.input, self.label):
            chooser.input(self.after(self.studio.choose), [self.input, self.label], shown, **private)
        self.stop.click(self.studio.stop, **private)
        for event, act in ((self.fit.click, self.after(self.studio.start)), (self.blocks.load, self.view)):
            begun = event(act, None, shown, **quiet)
            begun.then(self.watch, None, self.progress, **quiet).then(self.view, None, shown, **quiet)

    def view(self, trouble: str = "") -> dict[Any, Any]:
        """What each part shows now; `trouble` is what stood in the way of the user's last act."""
        studio, update = self.studio, self.gr.update
        seen, fit, model = studio.understood, studio.fit, studio.model
        takes = registry.plugin_name(model.modality) if model is not None else None
        trouble = trouble or (fit.trouble if fit is not None else "")
        told = answer.problem(trouble) if trouble else ""
        emptied: dict[str, Any] = {} if model is not None else {"value": None}  # what an earlier model was asked
        return {
            self.input: self._chooser(seen, seen.input if seen is not None else None),
            self.label: self._chooser(seen, seen.label if seen is not None else None),
            self.fit: update(interactive=seen is not None and not seen.trouble and not studio.fitting),
            self.stop: update(visible=studio.fitting),
            self.data: data_html(seen) if seen is not None else EMPTY,
            self.progress: progress_html(fit) if fit is not None and studio.fitting else "",
            self.outcome: told + (outcome_html(model) if model is not None else ""),
            self.trial: update(visible=model is not None),
            self.panel.picture: update(visible=takes == "image", **emptied),
            self.panel.sound: update(visible=takes == "audio", **emptied),
            self.panel.text: update(visible=takes == "text", **emptied),
            self.panel.sound: update(visible=takes == "audio", **emptied),
            self.panel.button: update(visible=model is not None),
            self.panel.shown: update(**emptied),
            self.report: update(visible=model is not None),
            self.frame: report_frame(model.run.name) if model is not None and model.run is not None else "",
        }

    def after(self, act: Callable[..., None]) -> Callable[..., dict[Any, Any]]:
        """The view after an act of the user; what stands in its way is told."""

        def acted(*given: Any) -> dict[Any, Any]:
            try:
                act(*given)
            except HeadstartError as error:
                return self.view(str(error))
            return self.view()

        return acted

    def watch(self) -> Iterator[str]:
        """The progress of a fit for as long as it lasts."""
        while self.studio.fit is not None and self.studio.fitting:
            yield progress_html(self.studio.fit)
            time.sleep(REFRESH_S)
        yield ""

    def _chooser(self, seen: Understood | None, chosen: str | None) -> Any:
        """A dropdown of the columns; hidden where there is nothing to choose."""
        if seen is None or not seen.columns:
            return self.gr.update(visible=False)
        return self.gr.update(visible=True, choices=seen.columns, value=chosen)


def data_html(seen: Understood) -> str:
    """How an upload was understood."""
    problem = seen.problem
    dataset = problem.dataset if problem is not None else seen.dataset
    counts = class_counts(dataset) if problem is not None and dataset is not None else {}
    view = {
        "part": "data",
        "dataset": seen.dataset,
        "line": seen.line if seen.dataset is not None else "",
        "trouble": seen.trouble,
        "counts": counts,
        "splits": list(next(iter(counts.values()), {})),
        "crosswise": problem is not None and problem.crosswise,
        "findings": problem.findings if problem is not None else (),
        "notes": [without_options(note) for note in dataset.notes] if dataset is not None else [],
    }
    return fill("studio.html.j2", view)


def progress_html(fit: Fit) -> str:
    """What a fit does now, how far it is, and what it has said."""
    told = fit.progress
    view = {
        "part": "progress",
        "doing": told.doing,
        "elapsed": time.monotonic() - told.started,
        "share": told.share,
        "stopping": told.stopping,
        "lines": list(told.lines),
    }
    return fill("studio.html.j2", view)


def outcome_html(model: Model) -> str:
    """What the fit was worth: the verdict, and every score beside the baselines'."""
    evidence, run = model.evidence, model.run
    assert run is not None, "a fit saves its model"
    systems = {"this model": evidence.metrics, **evidence.baselines}
    view = {
        "part": "outcome",
        "evidence": evidence,
        "reason": "" if model.plan.ships == "classical" else model.plan.reason,  # the verdict says why
        "systems": list(systems),
        "cells": {
            metric: [words.score(scores[metric]) if metric in scores else "–" for scores in systems.values()]
            for metric in evidence.titles
        },
        "name": run.name,
        "run": run,
    }
    return fill("studio.html.j2", view)
