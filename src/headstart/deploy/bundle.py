"""One folder with everything inside, backbone included: it works where there is no network and no weights cache."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from headstart import __version__, registry
from headstart.backbones import catalog
from headstart.deploy import artifact, examples
from headstart.deploy.model import Model
from headstart.errors import PlanError, RunError
from headstart.hosted.voice import HostedTalker
from headstart.progress import Progress

HOW = """# How to use this bundle

Everything is inside: the model, its backbone and its report. No network and no weights cache is needed once
Headstart {version} itself is installed with the extra `{extra}` (until it is on the package index: from a checkout,
with `pip install ".[{extra}]"`). Unpack the bundle first where it is a zip.

    headstart predict THIS-FOLDER INPUT…
    headstart app THIS-FOLDER             # a page to try it on (extra app)
    headstart serve THIS-FOLDER           # HTTP (extra serve)

`README.md` is the model card, `report.html` the evidence.
"""


HOW_CHAT = """# How to use this bundle

Everything is inside: the chatbot, the language model that it stands on, and its report. No network and no weights cache
is needed once Headstart {version} itself is installed with the extra `chat` (until it is on the package index: from a
checkout, with `pip install ".[chat]"`). Unpack the bundle first where it is a zip.

    headstart chat THIS-FOLDER                    # talk to it in the terminal
    headstart predict THIS-FOLDER PROMPTS.csv     # answer a file of prompts
    headstart app THIS-FOLDER                     # a page to talk to it (extra app)
    headstart serve THIS-FOLDER                   # HTTP, as OpenAI's clients ask (extra serve)

`README.md` is the model card, `report.html` the evidence.
"""


HOW_TABLE = """# How to use this bundle

Everything is inside: the model and its report. Headstart {version} itself is all that is needed (until it is on the
package index: from a checkout, with `pip install .`). Unpack the bundle first where it is a zip.

    headstart predict THIS-FOLDER TABLE.csv

`README.md` is the model card, `report.html` the evidence.
"""


HOW_SERIES = """# How to use this bundle

Everything is inside: the model, its network where it has one, the end of the series that it learnt from, and its
report. No network connection is needed once Headstart {version} itself is installed, with `pip install "{wanted}"`
(until it is on the package index: from a checkout). Unpack the bundle first where it is a zip.

    headstart predict THIS-FOLDER                           # the steps after the series that it learnt from
    headstart predict THIS-FOLDER SERIES.csv --horizon 20   # those after a newer file of the same layout
    headstart evaluate THIS-FOLDER SERIES.csv               # how it does on what came since
    headstart app THIS-FOLDER                               # a page to try it on (extra app)
    headstart serve THIS-FOLDER                             # HTTP (extra serve)

`README.md` is the model card, `report.html` the evidence.
"""


def bundle(model: Model, out: str | Path, progress: Progress | None = None) -> Path:
    """Write the run of `model` with its backbone into the new folder `out`, or into one file where that ends in .zip.

    The examples that it keeps lose their files, and get small pictures of their own. HeadstartError, and nothing is
    left, when the run is not saved or its backbone is not here.
    """
    out, progress = Path(out), progress or Progress()
    if model.run is None:
        raise PlanError("This model is not saved. Save it with model.save(FOLDER), and bundle that.")
    if isinstance(model.talker, HostedTalker):
        raise PlanError("This chatbot is run by others, and its weights are not here. Copy the run folder as it is.")
    is_zip = out.suffix.lower() == ".zip"
    artifact.check_writable(out)
    making = out.absolute().parent / f".{out.stem}.{uuid.uuid4().hex[:8]}"
    try:
        with progress.step("bundle"):
            _fill(model, making / out.stem if is_zip else making, progress)
            if is_zip:
                packed = shutil.make_archive(str(making / out.stem), "zip", making, out.stem)
                Path(packed).rename(out)
            else:
                making.rename(out)
    except OSError as error:
        raise RunError(f"The bundle could not be written to {out}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return out


def _fill(model: Model, folder: Path, progress: Progress) -> None:
    """The run's files, with the backbone beside them."""
    assert model.run is not None
    shutil.copytree(model.run, folder)
    if model.examples is not None:
        (folder / examples.FILE).write_bytes(model.examples.shrunk(model.modality).to_bytes())
    if needs_backbone(model) and not (folder / catalog.BUNDLED).exists():
        catalog.copy(catalog.locate(model.moved_to or model.origin.name, progress), folder / catalog.BUNDLED)
    wanted, how = _how(model)
    (folder / "requirements.txt").write_text(f"{wanted}=={__version__}\n")
    (folder / "USE.md").write_text(how, encoding="utf-8")


def needs_backbone(model: Model) -> bool:
    """Whether a pretrained network is run to answer."""
    return model.provenance is not None and (model.seer is None or model.seer.network is not None)


def _how(model: Model) -> tuple[str, str]:
    """(what is installed, how it is used)."""
    if model.seer is not None:
        wanted = "headstart" if model.seer.network is not None else "headstart[forecasting]"
        return wanted, HOW_SERIES.format(version=__version__, wanted=wanted)
    if model.talker is not None:
        return "headstart[chat]", HOW_CHAT.format(version=__version__)
    if model.provenance is None:
        return "headstart", HOW_TABLE.format(version=__version__)
    extra = registry.plugin_name(model.modality if model.detector is None else model.task)
    return f"headstart[{extra}]", HOW.format(extra=extra, version=__version__)
