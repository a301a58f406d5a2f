"""The page of a run that forecasts: a file or the run's own series, how far ahead, a fan for each series, a table."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from headstart.data.tables import TABLE_SUFFIXES
from headstart.deploy.ahead import Ahead
from headstart.deploy.answer import problem
from headstart.deploy.forecasts import HISTORY
from headstart.deploy.model import Model
from headstart.deploy.predictions import in_digits, write_table
from headstart.errors import HeadstartError
from headstart.report import fans

FURTHEST = 4  # horizons that the slider goes to
MOST_SERIES = 500  # that one can choose from; the file has them all
FILES = [*(suffix for suffix in TABLE_SUFFIXES if suffix != ".npz"), ".gz"]


def panel(gr: Any, model: Model) -> None:
    """Gradio's components, put where the caller's layout is."""
    own: int = model.task.horizon  # type: ignore[attr-defined]
    has_own = HISTORY in model.files
    found = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            label = "Series, as a table" + ("; without one, those that the run learnt from" if has_own else "")
            file = gr.File(label=label, file_types=FILES, type="filepath", height=140)
            steps = gr.Slider(1, FURTHEST * own, value=own, step=1, label=f"Steps ahead (tested: {own:,})")
            button = gr.Button("Forecast", variant="primary")
        with gr.Column(scale=3, min_width=320):
            names = gr.Dropdown([], label="Series", visible=False)
            shown = gr.HTML()
            table = gr.DownloadButton("Download all as CSV", visible=False)

    def respond(path: str | None, horizon: float) -> tuple[Ahead | None, Any, str, Any]:
        try:
            ahead = model.ahead(path, int(horizon))
        except HeadstartError as error:
            said = str(error) if path is None else str(error).replace(path, Path(path).name)
            return None, gr.Dropdown(visible=False), problem(said), gr.DownloadButton(visible=False)
        ids = list(ahead.panel.ids)[:MOST_SERIES]
        choice = gr.Dropdown(ids, value=ids[0], visible=len(ids) > 1)
        return ahead, choice, picture(ahead, ids[0]), gr.DownloadButton(value=as_file(ahead), visible=True)

    def again(ahead: Ahead | None, name: str | None) -> str:
        return picture(ahead, name) if ahead is not None and name in ahead.panel.ids else ""

    quiet: Mapping[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
    button.click(respond, [file, steps], [found, names, shown, table], concurrency_id="model", **quiet)
    names.input(again, [found, names], shown, **quiet)


def picture(ahead: Ahead, name: str | None) -> str:
    """One series as HTML: the fan, what must be said of it, and its numbers."""
    row = ahead.panel.ids.index(name or ahead.panel.ids[0])
    fan = ahead.fan(row)
    source = base64.b64encode(fans.standalone(fan).encode()).decode()
    steps = in_digits(ahead.table().iloc[row * ahead.horizon : (row + 1) * ahead.horizon].drop(columns="series"))
    head = "".join(f"<th>{escape(str(one))}</th>" for one in steps.columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in one)}</tr>" for one in steps.to_numpy())
    warning = f'<p class="hs-small">Warning: {escape(ahead.warning)}.</p>' if ahead.warning else ""
    return (
        f'<img class="hs-fan" alt="{escape(fans.aloud(fan))}" src="data:image/svg+xml;base64,{source}">'
        '<p class="hs-small">On the left what was seen; in blue the median, with the 80 % and the 95 % band.</p>'
        f'{warning}<div class="hs-steps"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def as_file(ahead: Ahead) -> str:
    """All forecasts as a CSV file, which Gradio copies for the browser."""
    path = Path(tempfile.mkdtemp(prefix="headstart-")) / "forecasts.csv"
    write_table(ahead.table(), path)
    return str(path)
