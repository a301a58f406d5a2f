"""Push a run to the Hugging Face hub: what a stranger may see of it."""

from __future__ import annotations

import json
from typing import Any

from headstart import places
from headstart.backbones import catalog
from headstart.deploy import artifact
from headstart.deploy.model import Model
from headstart.errors import PlanError, RunError
from headstart.progress import Progress

KEPT_BACK = {  # what holds the user's own examples: never pushed
    "examples.parquet": "train and val examples",
    "predictions.parquet": "test examples",
    "history.parquet": "the end of the series",
    "unlabelled.parquet": "rows of a table without a label",
    "report.html": "pictures, sounds or texts of mistakes",
}
# of metrics.json: they quote examples, name speakers and folders
PRIVATE = ("findings", "command", "speech", "chat", "samples")


def push(model: Model, name: str, *, private: bool = True, progress: Progress | None = None) -> str:
    """Put a saved run on the hub as "org/name", private unless said otherwise; gives its address.

    Left out is what shows examples (`KEPT_BACK`). The backbone stays where it is and is named by its sha256. PlanError
    for a name that is none, or without a network; RunError when the hub refuses.
    """
    import huggingface_hub

    progress = progress or Progress()
    if not artifact.HUB_NAME.fullmatch(name):
        raise PlanError(f"{name!r} is not a name on the hub. Give it as ORG/NAME, such as 'clinic/scan-triage'.")
    if model.run is None:
        raise PlanError("This model is not saved. Save it with model.save(FOLDER), and push that.")
    if model.seer is not None and model.seer.network is not None and (model.run / catalog.BUNDLED).is_dir():
        raise PlanError(
            "This run stands on a network that was pretrained on a source of your own, which lies in its folder and "
            "nowhere else; a push leaves it out. Use `headstart bundle`."
        )
    if places.offline():
        raise PlanError("Nothing can be pushed while HEADSTART_OFFLINE or HF_HUB_OFFLINE is set. Unset it, and push.")
    hub = huggingface_hub.HfApi(library_name="headstart")
    files = public_files(model, name)
    try:
        with progress.step("push"):
            hub.create_repo(name, private=private, exist_ok=True)
            done = hub.create_commit(
                name,
                [huggingface_hub.CommitOperationAdd(file, content) for file, content in files.items()],
                commit_message=f"Add {model.run.name}",
            )
    except Exception as error:  # network, HTTP and hub errors share no base class
        first = next(iter(str(error).strip().splitlines()), "")
        raise RunError(
            f"The hub did not take {name}: {type(error).__name__}: {first}. "
            "Check the network; sign in with `hf auth login`, or set HF_TOKEN to a token that may write there; then "
            "push again."
        ) from error
    return str(done.repo_url)


def public_files(model: Model, name: str) -> dict[str, bytes]:
    """File name -> content of what a push sends."""
    assert model.run is not None
    public = {file: (model.run / file).read_bytes() for file in sorted(artifact.OWN | {"metrics.json", "README.md"})}
    told: dict[str, Any] = json.loads(public["metrics.json"])
    shown = {key: value for key, value in told.items() if key not in PRIVATE}
    if "forecasts" in shown:  # its fans hold values, and series have names
        shown["forecasts"] |= {"fans": [], "best": [], "worst": []}
        card: dict[str, Any] = json.loads(public[artifact.CARD])
        card["seer"]["panel"] |= {
            "source": "",
            "ids": [],
            "static": {key: [] for key in card["seer"]["panel"]["static"]},
        }
        public[artifact.CARD] = artifact.to_bytes(card)
    public["metrics.json"] = artifact.to_bytes(shown)
    readme = public["README.md"].decode().replace('headstart.load("RUN")  # this folder', f'headstart.load("{name}")')
    public["README.md"] = readme.replace("headstart predict RUN ", f"headstart predict {name} ").encode()
    return public
