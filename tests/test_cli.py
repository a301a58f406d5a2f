"""The command line as a user meets it: what it prints, what it writes, and what it says when something is wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import PROBE, call, draw, review_rows, write_csv


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run it, and give back (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = call(*arguments)
        return code, *capsys.readouterr()

    return run


def test_fit_prints_one_json_object_with_all_that_is_promised(say: Any, reviews: Path, tmp_path: Path) -> None:
    code, out, _ = say("fit", reviews, *PROBE, "--freeze", 7, "--out", tmp_path / "run", "--json")
    assert code == 0
    told = json.loads(out)
    promised = {"task", "modality", "backbone", "strategy", "cut", "n", "metrics", "baselines", "seconds", "run"}
    assert promised <= told.keys()
    assert (told["task"], told["modality"], told["backbone"]) == ("classification", "text", "minilm")
    assert (told["strategy"], told["cut"]) == ("probe", 7)
    assert told["n"] == {"train": 72, "val": 24, "test": 24}
    accuracy = told["metrics"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert all(told["metrics"].keys() == scores.keys() for scores in told["baselines"].values())
    assert Path(told["run"]) == tmp_path / "run"


def test_the_run_folder_is_whole(text_run: Path) -> None:
    assert {path.name for path in text_run.iterdir()} == {
        "headstart.json",
        "model.safetensors",
        "seen.safetensors",
        "plan.json",
        "metrics.json",
        "examples.parquet",
        "predictions.parquet",
        "report.html",
        "README.md",
    }
    assert (text_run / "model.safetensors").stat().st_size < 10_000  # the head alone
    assert len(pd.read_parquet(text_run / "predictions.parquet")) == 24
    assert json.loads((text_run / "headstart.json").read_text())["backbone"]["sha256"].startswith("53aa51172d142c89")


def test_a_second_fit_runs_no_backbone(reviews: Path, tmp_path: Path, text_run: Path, monkeypatch: Any) -> None:
    from headstart.backbones.base import Backbone

    def fail(*_: Any) -> None:
        raise AssertionError("the backbone ran again")

    monkeypatch.setattr(Backbone, "pooled", fail)
    assert call("fit", reviews, *PROBE, "--out", tmp_path / "again", "--quiet") == 0
    first, again = (json.loads((run / "metrics.json").read_text()) for run in (text_run, tmp_path / "again"))
    assert first["metrics"] == again["metrics"]


def test_freeze_takes_another_stage(say: Any, reviews: Path, tmp_path: Path) -> None:
    code, out, _ = say("fit", reviews, *PROBE, "--freeze", 3, "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["cut"] == 3
    code, out, _ = say("predict", tmp_path / "run", "a superb lamp", "--json")
    assert json.loads(out)["predictions"][0]["prediction"] == "good"


def test_predict_takes_texts_tables_and_standard_input(
    say: Any, text_run: Path, reviews: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    _, out, _ = say("predict", text_run, "what a wonderful game", "an awful, dull book", "--json")
    rows = json.loads(out)["predictions"]
    assert [row["prediction"] for row in rows] == ["good", "bad"]
    assert rows[0]["p(bad)"] + rows[0]["p(good)"] == pytest.approx(1)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a superb meal\n\na terrible hotel\n"))
    _, out, _ = say("predict", text_run, "-", "--jsonl")
    assert [json.loads(line)["prediction"] for line in out.splitlines()] == ["good", "bad"]
    for name, read in (("p.csv", pd.read_csv), ("p.parquet", pd.read_parquet)):
        assert say("predict", text_run, reviews, "--out", tmp_path / name)[0] == 0
        assert (read(tmp_path / name)["prediction"] == [label for _, label in review_rows()]).mean() > 0.9


def test_predict_takes_pictures_and_folders_and_says_which_cannot_be_read(
    say: Any, image_run: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    draw(np.random.default_rng(9), striped=True).save(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "b.jpg").write_text("not a picture")
    code, out, _ = say("predict", image_run, tmp_path / "new", pictures / "plain" / "00.png", "--json")
    assert code == 0
    striped, broken, plain = json.loads(out)["predictions"]
    assert (striped["prediction"], plain["prediction"]) == ("striped", "plain")
    assert broken["prediction"] is None
    assert "not a picture" in broken["problem"]


def test_evaluate_agrees_with_the_fit(say: Any, text_run: Path, reviews: Path) -> None:
    code, out, _ = say("evaluate", text_run, reviews, "--json")
    assert code == 0
    told = json.loads(out)
    assert told["n"] == 24
    assert told["notes"] == ["left out 96 that were used to fit the model"]
    assert told["metrics"] == json.loads((text_run / "metrics.json").read_text())["metrics"]


def test_report_models_and_doctor_answer(say: Any, text_run: Path) -> None:
    code, out, _ = say("report", text_run)
    assert code == 0
    assert "ROC AUC" in out
    assert "report.html" in out
    code, out, _ = say("models", "--json")
    assert {row["name"] for row in json.loads(out)["models"]} >= {"minilm", "efficientnet-lite0"}
    code, out, _ = say("doctor", "--json")
    assert code == 0
    assert json.loads(out)["ok"]


def fails(say: Any, *arguments: object) -> str:
    """The message of a call that must fail: exit code 1, nothing on standard output, no traceback."""
    code, out, error = say(*arguments)
    assert code == 1
    assert out == ""
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def test_an_empty_folder(say: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(say, "fit", tmp_path / "empty", "--out", tmp_path / "run", "-q")
    assert not (tmp_path / "run").exists()


def test_one_class_only(say: Any, tmp_path: Path) -> None:
    rows = [[text, "good"] for text, _ in review_rows()]
    data = write_csv(tmp_path / "one.csv", ["text", "label"], rows)
    message = fails(say, "fit", data, "--out", tmp_path / "run", "-q")
    assert "'good'" in message or "good" in message
    assert "two" in message


def test_a_table_without_the_label_column(say: Any, reviews: Path, tmp_path: Path) -> None:
    message = fails(say, "fit", reviews, "--label", "lable", "--out", tmp_path / "run", "-q")
    assert "Did you mean 'label'" in message
    assert "text" in message


def with_extra(pictures: Path, tmp_path: Path) -> Path:
    """The pictures' folder with room for bad files."""
    folder = tmp_path / "parts"
    for name in ("plain", "striped"):
        (folder / name).mkdir(parents=True)
        for path in (pictures / name).iterdir():
            (folder / name / path.name).symlink_to(path)
    return folder


def test_bad_pictures_are_listed_and_left_out(say: Any, pictures: Path, tmp_path: Path) -> None:
    folder = with_extra(pictures, tmp_path)
    whole = io.BytesIO()
    draw(np.random.default_rng(1), striped=False).save(whole, "JPEG")
    (folder / "plain" / "truncated.jpg").write_bytes(whole.getvalue()[:-200])
    (folder / "plain" / "words.jpg").write_text("these are words")
    Image.new("1", (30_000, 30_000)).save(folder / "plain" / "huge.png")
    code, out, _ = say("fit", folder, *PROBE, "--out", tmp_path / "run", "--json")
    assert code == 0
    told = json.loads(out)
    assert sum(told["n"].values()) == 60
    unreadable = next(finding for finding in told["findings"] if finding["kind"] == "unreadable")
    shown = " ".join(unreadable["examples"]) + unreadable["text"]
    assert all(name in shown for name in ("truncated.jpg", "words.jpg", "huge.png"))
    assert "megapixels" in shown


def test_labels_with_trailing_spaces_are_one_class(say: Any, tmp_path: Path) -> None:
    rows = [[text, label + " " * (i % 3 == 0)] for i, (text, label) in enumerate(review_rows())]
    data = write_csv(tmp_path / "spaces.csv", ["text", "label"], rows)
    code, out, _ = say("fit", data, *PROBE, "--out", tmp_path / "run", "--json")
    assert code == 0
    told = json.loads(out)
    assert set(told["data"]["class_counts"]) == {"good", "bad"}
    assert any("space" in finding["text"] for finding in told["findings"])


def test_labels_of_mixed_types(say: Any, tmp_path: Path) -> None:
    rows = [[text, i / 7 if i % 3 else label] for i, (text, label) in enumerate(review_rows())]
    data = write_csv(tmp_path / "mixed.csv", ["text", "label"], rows)
    message = fails(say, "fit", data, "--out", tmp_path / "run", "-q")
    assert "--task classification" in message
    assert "--task regression" in message


def test_a_missing_run(say: Any, text_run: Path) -> None:
    message = fails(say, "predict", text_run.parent / "review", "a fine day")
    assert "no run" in message
    assert "reviews" in message


def test_a_damaged_run(say: Any, text_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in text_run.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    assert "damaged" in fails(say, "predict", broken, "a fine day")
    content = bytearray((text_run / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    assert "sha256" in fails(say, "predict", broken, "a fine day")
    for card, why in (("[]", "another format"), ('{"format": 1}', "another format"), ('{"format": 2}', "is damaged")):
        (broken / "headstart.json").write_text(card)
        assert why in fails(say, "report", broken)


def test_predictions_never_overwrite(say: Any, text_run: Path, reviews: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_bytes(reviews.read_bytes())
    assert "nothing was overwritten" in fails(say, "predict", text_run, mine, "--out", mine)
    assert mine.read_bytes() == reviews.read_bytes()
    assert "no folder" in fails(say, "predict", text_run, mine, "--out", tmp_path / "none" / "p.csv")
    assert "end the name in" in fails(say, "predict", text_run, mine, "--out", tmp_path / "p.xlsx")


def test_one_word_is_a_text_and_a_missing_file_is_not(say: Any, text_run: Path) -> None:
    assert json.loads(say("predict", text_run, "superb", "--json")[1])["predictions"][0]["prediction"] == "good"
    assert "no file or folder" in fails(say, "predict", text_run, "review.csv")


def test_a_run_reads_new_data_with_its_own_columns(say: Any, tmp_path: Path) -> None:
    """Fitted on `body`, not on the `title` that the reader would choose: so are predict and evaluate."""
    rows = [[f"note number {i} on the matter", text, label] for i, (text, label) in enumerate(review_rows())]
    data = write_csv(tmp_path / "all.csv", ["text", "body", "label"], rows)
    assert say("fit", data, *PROBE, "--input", "body", "--out", tmp_path / "run", "-q")[0] == 0
    told = json.loads(say("evaluate", tmp_path / "run", data, "--json")[1])
    assert told["metrics"]["accuracy"]["value"] > 0.9
    predictions = json.loads(say("predict", tmp_path / "run", data, "--json")[1])["predictions"]
    assert predictions[0]["input"] == review_rows()[0][0]
    grouped = tmp_path / "grouped"
    rows = [[*row, f"p{i % 30}"] for i, row in enumerate(rows)]
    patients = write_csv(tmp_path / "patients.csv", ["text", "body", "label", "patient"], rows)
    assert say("fit", patients, *PROBE, "--input", "body", "--group", "patient", "--out", grouped, "-q")[0] == 0
    without = json.loads(say("predict", grouped, data, "--json")[1])["predictions"]  # no patient column there
    assert without[0]["input"] == review_rows()[0][0]
    other = write_csv(tmp_path / "other.csv", ["text"], [["what a superb book"], ["a clumsy chair"]])
    told = json.loads(say("predict", tmp_path / "run", other, "--json")[1])["predictions"]
    assert [row["prediction"] for row in told] == ["good", "bad"]


def test_a_run_whose_backbone_is_not_on_this_disk(say: Any, text_run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    message = fails(say, "predict", text_run, "a fine day")
    assert "headstart models pull minilm" in message


def test_a_run_whose_backbone_has_other_weights(say: Any, text_run: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in text_run.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    card = json.loads((changed / "headstart.json").read_text())
    card["backbone"]["fingerprint"] = "0" * 64
    (changed / "headstart.json").write_text(json.dumps(card))
    assert "original backbone" in fails(say, "predict", changed, "a fine day")


def test_a_read_only_output_folder(say: Any, reviews: Path, tmp_path: Path, monkeypatch: Any) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    if os.geteuid() == 0:  # root writes everywhere: let the file system say no instead

        def refuse(self: Path, *_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "touch", refuse)
    else:
        locked.chmod(0o555)
    message = fails(say, "fit", reviews, "--out", locked / "run", "-q")
    assert "not writable" in message
    assert "--out" in message


def test_the_current_folder_is_no_run_folder(say: Any, reviews: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert "current folder" in fails(say, "fit", reviews, "--out", ".", "-q")


def test_a_cache_that_cannot_be_written(say: Any, reviews: Path, tmp_path: Path, monkeypatch: Any) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "weights").symlink_to(os.environ["HEADSTART_HOME"] + "/weights")
    (home / "features").write_text("a file in the way")
    monkeypatch.setenv("HEADSTART_HOME", str(home))
    assert "HEADSTART_HOME" in fails(say, "fit", reviews, "--out", tmp_path / "run", "-q")


def test_a_table_without_any_label(say: Any, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "texts.csv", ["text"], [[text] for text, _ in review_rows()])
    assert "--label" in fails(say, "fit", data, "--out", tmp_path / "run", "-q")


def test_an_output_folder_that_is_in_use_is_not_touched(say: Any, reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "nothing was overwritten" in fails(say, "fit", reviews, "--out", tmp_path / "mine", "-q")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_unknown_backbone_suggests_the_nearest(say: Any, reviews: Path, tmp_path: Path) -> None:
    message = fails(say, "fit", reviews, "--backbone", "minilmm", "--out", tmp_path / "run", "-q")
    assert "Did you mean 'minilm'" in message


def test_a_backbone_for_other_inputs(say: Any, reviews: Path, tmp_path: Path) -> None:
    message = fails(say, "fit", reviews, "--backbone", "efficientnet-lite0", "--out", tmp_path / "run", "-q")
    assert "takes images" in message


def test_a_freeze_out_of_range(say: Any, reviews: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run", "-q")
    assert "0 to 7" in fails(say, "fit", reviews, "--freeze", 8, *out)
    assert "1 to 7" in fails(say, "fit", reviews, "--freeze", 8, "--strategy", "probe", *out)
    assert "1 to 6" in fails(say, "fit", reviews, "--freeze", 7, "--strategy", "partial", *out)
    assert "--strategy partial" in fails(say, "fit", reviews, "--freeze", 3, "--strategy", "full", *out)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--strategy", "partail", "Did you mean 'partial'"),
        ("--budget", "soon", "not a time"),
        ("--class-weight", "even", "'balanced' or 'none'"),
        ("--plan", "nothing.json", "not a plan"),
        ("--learning-rate", "fast", "'find'"),
        ("--backbone", "minilmm", "Did you mean 'minilm'"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled(
    say: Any, reviews: Path, tmp_path: Path, monkeypatch: Any, option: str, value: str, words: str
) -> None:
    """Said before the long pass, not after it."""
    from headstart.backbones.base import Backbone

    def fail(*_: Any) -> None:
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(Backbone, "outputs", fail)
    assert words in fails(say, "fit", reviews, option, value, "--out", tmp_path / "run", "-q")


def test_an_unknown_metric(say: Any, reviews: Path, tmp_path: Path) -> None:
    message = fails(say, "fit", reviews, "--metric", "acuracy", "--out", tmp_path / "run", "-q")
    assert "Did you mean 'accuracy'" in message


def test_an_error_is_one_json_object_too(say: Any, tmp_path: Path) -> None:
    code, out, _ = say("fit", tmp_path / "nothing.csv", "--json")
    assert code == 1
    assert json.loads(out)["error"]["kind"] == "DataError"


def test_a_wrong_option_has_exit_code_1(say: Any) -> None:
    code, out, error = say("fit", "--bad")
    assert code == 1
    assert "--bad" in error
    assert out == ""


def test_offline_fit_reaches_no_network(reviews: Path, tmp_path: Path) -> None:
    """In a process of its own in which every connection is an error; training included."""
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('the network was reached')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from headstart.cli import main; main()"
    )
    wishes = ["--strategy", "partial", "--freeze", "6", "--no-scratch"]
    arguments = ["fit", str(reviews), *wishes, "--out", str(tmp_path / "run"), "--quiet"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(say: Any) -> None:
    from headstart import __version__

    assert say("--version")[:2] == (0, f"{__version__}\n")


def test_an_empty_input_is_not_the_current_folder(say: Any, text_run: Path) -> None:
    assert "empty input" in fails(say, "predict", text_run, "")


def test_offline_the_demo_and_the_doctor_say_what_is_missing(say: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("HEADSTART_OFFLINE", "1")
    code, out, error = say("demo", "text")
    assert code == 1
    assert "network may not be used" in error
    code, out, _ = say("doctor", "--json")
    assert code == 1
    minilm = next(check for check in json.loads(out)["checks"] if check["name"] == "backbone minilm")
    assert not minilm["ok"]
    assert "headstart models pull minilm" in minilm["advice"]
