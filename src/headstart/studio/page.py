"""The page of the studio: drop data, see how they were understood, fit, look, try, take home."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart import registry
from headstart.data.audit import class_counts
from headstart.deploy import answer
from headstart.deploy.app import add_reports, gradio, mount_page, panel, report_frame
from headstart.errors import HeadstartError
from headstart.evidence import words
from headstart.report.page import fill
from headstart.studio.workspace import Fit, Studio, Understood

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
    "<li>A <strong>.zip</strong> with a folder for each class, and the pictures or .txt files of that class in it.</li>"
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

    return mount_page(app, blocks(studio), path, max_file_size=MOST_UPLOAD)


def blocks(studio: Studio) -> Any:
    """Gradio's Blocks: one `view` says what every part of the page shows, for whatever happened last."""
    gr = gradio()
    with gr.Blocks(title="Headstart studio", analytics_enabled=False) as page:
        gr.HTML(HEAD)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                upload = gr.File(label="A .zip of class folders, or a table", height=180)
                input = gr.Dropdown(label="Column with the texts or file names", visible=False)
                label = gr.Dropdown(label="Column to predict", visible=False)
                fit = gr.Button("Fit", variant="primary", interactive=False)
                stop = gr.Button("Stop", visible=False)
            with gr.Column(scale=3, min_width=320):
                data = gr.HTML(EMPTY)
        progress = gr.HTML()
        outcome = gr.HTML()
        with gr.Column(visible=False) as trial:
            gr.HTML('<div class="hs-part"><h4>Try it</h4></div>')
            picture, text, button = panel(lambda: studio.model, None)
        with gr.Accordion("The whole report", visible=False) as report:
            frame = gr.HTML()
    shown = [input, label, fit, stop, data, progress, outcome, trial, picture, text, button, report, frame]

    def view(trouble: str = "") -> list[Any]:
        seen, model = studio.understood, studio.model
        takes = registry.plugin_name(model.modality) if model is not None else None
        trouble = trouble or (studio.fit.trouble if studio.fit is not None else "")
        told = answer.problem(trouble) if trouble else ""
        return [
            *_choosers(gr, seen),
            gr.update(interactive=seen is not None and not seen.trouble and not studio.fitting),
            gr.update(visible=studio.fitting),
            data_html(seen) if seen is not None else EMPTY,
            progress_html(studio.fit) if studio.fit is not None and studio.fitting else "",
            told + (outcome_html(model) if model is not None else ""),
            gr.update(visible=model is not None),
            gr.update(visible=takes == "image"),
            gr.update(visible=takes == "text"),
            gr.update(visible=model is not None),
            gr.update(visible=model is not None),
            report_frame(model.run.name) if model is not None and model.run is not None else "",
        ]

    def after(act: Any) -> Any:
        """The view after an act of the user; what stands in its way is told."""

        def acted(*given: Any) -> list[Any]:
            try:
                act(*given)
            except HeadstartError as error:
                return view(str(error))
            return view()

        return acted

    def watch() -> Iterator[str]:
        while studio.fit is not None and studio.fitting:
            yield progress_html(studio.fit)
            time.sleep(REFRESH_S)
        yield ""

    private: dict[str, Any] = {"api_visibility": "private"}
    watching: dict[str, Any] = {**private, "concurrency_limit": None, "show_progress": "hidden"}
    upload.upload(after(lambda path: studio.take(Path(path))), upload, shown, **private)
    for chooser in (input, label):
        chooser.input(after(studio.choose), [input, label], shown, **private)
    fit.click(after(studio.start), None, shown, **private).then(watch, None, progress, **watching).then(
        view, None, shown, **private
    )
    stop.click(studio.stop, **private)
    page.load(view, None, shown, **private).then(watch, None, progress, **watching).then(view, None, shown, **private)
    return page


def _choosers(gr: Any, seen: Understood | None) -> list[Any]:
    """The dropdowns of the input and of the label; hidden where there is nothing to choose."""
    if seen is None or not seen.columns:
        return [gr.update(visible=False), gr.update(visible=False)]
    dataset = seen.dataset
    input = dataset.input_name if dataset is not None else None
    label = dataset.label_name if dataset is not None and dataset.task is not None else None
    return [gr.update(visible=True, choices=seen.columns, value=value) for value in (input, label)]


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
        "notes": dataset.notes if dataset is not None else (),
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
        "reason": model.plan.reason,
        "systems": list(systems),
        "cells": {
            metric: [words.score(scores[metric]) if metric in scores else "–" for scores in systems.values()]
            for metric in evidence.titles
        },
        "name": run.name,
        "run": run,
    }
    return fill("studio.html.j2", view)
