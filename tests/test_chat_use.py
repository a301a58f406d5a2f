"""What chatbots are used for: the terminal, files of prompts, evaluation, exports, bundles, pushes, the page."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import peft
import pytest
import torch
import transformers
from fastapi.testclient import TestClient

import headstart
from headstart.backbones import gguf
from headstart.cli import chat as terminal
from headstart.data.conversation import ASSISTANT, SYSTEM, USER, Conversation, Turn
from headstart.data.prompts import conversations, read_prompts
from headstart.deploy import app, artifact, chat_page, hub, talk
from headstart.deploy.bundle import bundle
from headstart.deploy.export import export
from headstart.deploy.model import Model
from headstart.deploy.session import Session
from headstart.engine.talker import Talker
from headstart.engine.voice import Sampling
from headstart.errors import DataError, PlanError
from tests import talkers
from tests.conftest import call

pytestmark = [  # Gradio's own: what it imports, and event loops that it leaves open
    pytest.mark.usefixtures("gradio_loops"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]
QUESTION = "what is the number 4?"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talkers.save_run(tmp_path_factory.mktemp("chat"), system="be brief")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return headstart.load(run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A run that changed whole weights."""
    return headstart.load(talkers.save_run(tmp_path_factory.mktemp("whole"), low_rank=False))


# --- the run


def test_a_run_comes_back_as_it_was(model: Model, run: Path, tmp_path: Path) -> None:
    assert isinstance(model.talker, Talker)
    assert model.talker.system == "be brief"
    again = headstart.load(model.save(tmp_path / "again"))
    model.run = run
    assert again.talker is not None
    assert again.talker.to_json() == model.talker.to_json()
    assert again.predict([QUESTION]) == model.predict(QUESTION)
    changed = model.voice().backbone.network.state_dict()
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = talkers.changes(model.pretrained.network, True).tensors
    wanted = model.pretrained.network.state_dict()[name] + tensors[f"{name}.lora_B"] @ tensors[f"{name}.lora_A"]
    torch.testing.assert_close(changed[name], wanted)


def test_answers_are_those_of_transformers(model: Model) -> None:
    voice = model.voice()
    dialogue, network = voice.backbone.dialogue, voice.backbone.network
    text = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    ids = dialogue.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    wanted = []
    for _ in range(12):  # without a cache, one at a time
        ids = torch.cat([ids, network(ids).logits[:, -1:].argmax(-1)], dim=1)
        wanted.append(int(ids[0, -1]))
    assert model.answer("hi", Sampling(max_tokens=12)) == [dialogue.tokenizer.decode(wanted).strip()]


def test_what_a_chatbot_is_not_asked(model: Model) -> None:
    with pytest.raises(PlanError, match="answers, not probabilities"):
        model.predict_proba(["hi"])
    with pytest.raises(PlanError, match="labels and numbers"):
        _ = model.linear


# --- prompts


def test_prompts_and_conversations_are_taken_in_many_forms() -> None:
    asked = Conversation((Turn(USER, "a"), Turn(ASSISTANT, "b"), Turn(USER, "c")))
    messages = [*asked.messages, {"role": "assistant", "content": "known"}]
    sharegpt = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]
    assert conversations("c") == [Conversation.asking("c")]
    assert conversations(messages) == [asked]  # the answer that is there is left out
    assert conversations([messages, {"messages": messages}, {"conversations": sharegpt}]) == [asked] * 3
    assert conversations([{"prompt": "c"}, "d"]) == [Conversation.asking("c"), Conversation.asking("d")]
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "system", "content": "s"}]
    assert conversations(twice) == [Conversation((Turn(SYSTEM, "s"), Turn(USER, "a\n\nb")))]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "answers prompts and conversations"),
        ([7], "this is a int"),
        ([""], "nothing to answer"),
        ([{"role": "wizard", "content": "x"}], "wizard"),
        ([{"role": "assistant", "content": "x"}], "nothing to answer"),
    ],
)
def test_what_is_no_prompt_is_told(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        conversations(given)


def test_files_of_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "b.csv").write_text("Question,answer,system\nthree,x,\nfour,y,be kind\n")
    rows: list[dict[str, Any]] = [
        {"messages": talkers.talks(2)[1].messages},
        {"messages": talkers.talks(1)[0].messages},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("sys.stdin", io.StringIO("five\n"))
    found = read_prompts([str(tmp_path / name) for name in ("a.txt", "b.csv", "c.jsonl")] + ["-", "a b/c.d e"])
    assert [one.turns[-1].text for one in found] == [
        *("one", "two", "three", "four", "and then?", "what is the number 0?", "five", "a b/c.d e"),
    ]
    assert found[3].turns[0] == Turn(SYSTEM, "be kind")
    assert len(found[4].turns) == 3
    named = read_prompts([str(tmp_path / "b.csv")], "answer", "be quick")
    assert [one.turns[-1].text for one in named] == ["x", "y"]
    assert [one.turns[0].text for one in named] == ["be quick", "be kind"]
    (tmp_path / "d.csv").write_text("size,weight\n1,2\n")
    for name, column, said in (
        ("d.csv", None, "no column of prompts"),
        ("b.csv", "Answer", "Did you mean 'answer'"),
        ("b.cvs", None, "Did you mean 'b.csv'"),
    ):
        with pytest.raises(DataError, match=said):
            read_prompts([str(tmp_path / name)], column)


def test_predict_writes_answers(run: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.csv").write_text(f"prompt\n{QUESTION}\nhi\n{'long ' * 80}\n")
    how = ("--max-tokens", 9, "--quiet")
    assert call("predict", run, tmp_path / "prompts.csv", "--out", tmp_path / "out.csv", *how) == 0
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == ["input", "prediction", "problem"]
    assert list(table["prediction"][:2]) == model.answer([QUESTION, "hi"], Sampling(max_tokens=9))
    assert "tokens, and the network sees 256" in table["problem"][2]
    assert call("predict", run, "hi", "--out", tmp_path / "out.jsonl", "--system", "be long", *how) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["content"] for one in row["messages"]] == ["be long", "hi", row["prediction"]]
    capsys.readouterr()

    def drawn(seed: int) -> str:
        assert call("predict", run, "hi", "--json", "--temperature", 1, "--seed", seed, *how) == 0
        (only,) = json.loads(capsys.readouterr().out)["predictions"]
        return str(only["prediction"])

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert call("predict", run, "hi", "--temperature", 3) == 1
    assert call("predict", run, "hi", "--all-boxes") == 1
    assert call("predict", run) == 1


def test_evaluate_measures_what_was_not_learnt(run: Path, model: Model, tmp_path: Path) -> None:
    known, new = talkers.talks(8)[:4], talkers.talks(14)[8:]
    lines = [json.dumps({"messages": one.messages}) + "\n" for one in (*known, *new)]
    (tmp_path / "talks.jsonl").write_text("".join(lines))
    found = model.evaluate(str(tmp_path / "talks.jsonl"))
    assert found.n == len(new)
    assert any("4 that were used to fit" in note for note in found.notes)
    said = model.voice().said(new)
    wanted = torch.tensor(sum(one.nll for one in said) / sum(one.n_tokens for one in said)).exp()
    assert found.metrics["perplexity"].value == pytest.approx(float(wanted), rel=1e-5)
    assert 0 <= found.metrics["token_f1"].value <= 1
    assert call("evaluate", run, tmp_path / "talks.jsonl", "--json") == 0


# --- the terminal


class Lines:
    """What a user types, `KeyboardInterrupt` being Ctrl-C."""

    def __init__(self, *given: str | type[BaseException]) -> None:
        self.given = iter(given)

    def __call__(self, prompt: str) -> str:
        one = next(self.given, EOFError)
        if isinstance(one, str):
            return one
        raise one


def typed(run: Path, *lines: Any, options: tuple[Any, ...] = ()) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        patch.setattr("builtins.input", Lines(*lines))
        return call("chat", run, "--max-tokens", 8, "--quiet", *options)


def test_a_talk_in_the_terminal(run: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "talk.jsonl"
    lines = (
        "hi",
        "",
        "and you?",
        f"/save {path}",
        "/reset",
        "/system be long",
        KeyboardInterrupt,
        "hi",
        f"/save {path}",
    )
    assert typed(run, *lines, "/sav", "/save", "/help", "/exit", "never reached") == 0
    shown = capsys.readouterr().out
    first, second = (json.loads(line)["messages"] for line in path.read_text().splitlines())
    assert [one["role"] for one in first] == ["system", "user", "assistant", "user", "assistant"]
    asked = Conversation((Turn(USER, "hi"), Turn(ASSISTANT, first[2]["content"]), Turn(USER, "and you?")))
    assert [first[2]["content"], first[4]["content"]] == [
        model.voice().answer(one, Sampling(max_tokens=8)) for one in (Conversation.asking("hi"), asked)
    ]
    assert [one["content"] for one in second[:2]] == ["be long", "hi"]
    assert second[2]["content"] != first[2]["content"]
    for text in ("llama", "(4 turns saved", "(a new talk)", "Did you mean 'save'", "Say where: /save FILE", "Ctrl-D"):
        assert text in shown
    assert "never" not in shown


def test_ctrl_c_stops_the_answer_and_not_the_program(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(voice=model.voice(), how=Sampling(max_tokens=150, temperature=1.5, seed=5))
    pieces = session.say("hi")

    class Interrupted:
        def __iter__(self) -> Any:
            yield next(pieces)
            raise KeyboardInterrupt

        def close(self) -> None:
            pieces.close()  # type: ignore[attr-defined]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "say", lambda line: Interrupted())
        assert terminal.attend(session, "hi", print)
    assert "(stopped)" in capsys.readouterr().out
    assert [turn.role for turn in session.turns] == [USER, ASSISTANT]
    assert list(session.say("go on"))
    assert len(session.turns) == 4


def test_old_turns_are_left_out_and_it_is_said(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(voice=model.voice(), how=Sampling(max_tokens=10))
    for i in range(4):
        assert terminal.attend(session, f"{i} " + "word " * 9, print)
    assert "no longer fit" in capsys.readouterr().out
    assert len(session.turns) == 8  # the history has all
    kept, n = talk.fitting(session.voice, session.conversation.before(8), session.how)
    assert n == session.n_left_out > 0
    assert kept.turns[0] == Turn(SYSTEM, "be brief")
    assert kept.turns[1] == session.conversation.turns[1 + n]
    assert session.voice.count(kept) + 10 <= session.voice.context
    assert terminal.attend(session, "x" * 400, print)
    assert "sees 256 at once" in capsys.readouterr().out
    assert len(session.turns) == 8  # a question that cannot be asked is forgotten


def test_lines_that_are_piped_in_are_answered(
    run: Path, model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n\n/exit\nnever\n"))
    assert call("chat", run, "--max-tokens", 8, "--quiet") == 0
    assert capsys.readouterr().out.strip() == model.answer("hi", Sampling(max_tokens=8))[0]


def test_an_untouched_model_talks_too(
    run: Path, model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n"))
    assert call("chat", run.parent / "llama", "--max-tokens", 8, "--quiet") == 0
    untouched = Talker(changes=None, most_tokens=256).network(model.pretrained)
    wanted = untouched.answer(Conversation.asking("hi"), Sampling(max_tokens=8))
    assert capsys.readouterr().out.strip() == wanted != model.answer("hi", Sampling(max_tokens=8))[0]
    assert call("chat", "minilm", "--quiet") == 1
    assert "is no language model" in capsys.readouterr().err
    assert call("chat", "no-such-thing") == 1


# --- elsewhere


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's
def test_adapters_are_put_on_the_pretrained_model_by_peft(model: Model, tmp_path: Path) -> None:
    found = export(model, "peft", tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(model.origin.name)
    adapted: Any = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            adapted(ids).logits, model.voice().backbone.network(ids).logits, rtol=1e-4, atol=1e-4
        )
    merged = adapted.merge_and_unload().state_dict()
    for name, tensor in model.voice().backbone.network.state_dict().items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2
    assert model.origin.sha256 in (tmp_path / "adapter" / "README.md").read_text()
    assert found.parity.to_json()["n"] == 4


@pytest.mark.parametrize("kind", ["model", "whole"])
def test_a_merged_folder_says_the_same(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    given: Model = request.getfixturevalue(kind)
    export(given, "hf", tmp_path / "hf")
    network: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert network.config.use_cache
    system = given.talker.system if given.talker else None
    messages = Conversation.asking(QUESTION, system).messages
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = network.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert (
        tokenizer.decode(written, skip_special_tokens=True).strip()
        == given.answer(QUESTION, Sampling(max_tokens=20))[0]
    )


def test_a_gguf_file_is_read_again_with_the_same_probabilities(whole: Model, tmp_path: Path) -> None:
    export(whole, "gguf", tmp_path / "gguf")
    network, tokenizer = gguf.read_file(tmp_path / "gguf" / "model.gguf")
    own = whole.voice().backbone
    assert tokenizer.chat_template == own.dialogue.template
    assert tokenizer("the end of it\n12")["input_ids"] == own.dialogue.tokenizer("the end of it\n12")["input_ids"]
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(network(ids).logits, own.network(ids).logits, rtol=0.02, atol=0.02)
    q = network.state_dict()["model.layers.0.self_attn.q_proj.weight"]
    torch.testing.assert_close(
        q, own.network.state_dict()["model.layers.0.self_attn.q_proj.weight"], rtol=1e-3, atol=1e-3
    )


def test_a_file_that_says_something_else_is_not_kept(whole: Model, tmp_path: Path, monkeypatch: Any) -> None:
    from headstart.deploy.export import gguf as writer

    monkeypatch.setattr(writer, "_permuted", lambda name, tensor, config: tensor)
    with pytest.raises(headstart.HeadstartError, match="does not say what the model says"):
        export(whole, "gguf", tmp_path / "wrong")
    assert list(tmp_path.iterdir()) == []


def test_exports_that_make_no_sense_are_refused(model: Model, whole: Model, tmp_path: Path) -> None:
    for given, kind, int8, said in (
        (model, "onnx", False, "hf, peft, gguf"),
        (model, "hf", True, "8-bit"),
        (whole, "peft", False, "has no adapters: partial trains whole weights"),
    ):
        with pytest.raises(PlanError, match=said):
            export(given, kind, tmp_path / "no", int8=int8)
    assert call("export", model.run, "--out", tmp_path / "folder", "--quiet") == 0  # a chatbot's default is hf
    assert (tmp_path / "folder" / "config.json").exists()


def test_a_bundle_talks_without_its_backbone(run: Path, model: Model, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / "there")
    path = bundle(model, tmp_path / "bundle")
    assert "headstart chat" in (path / "USE.md").read_text()
    assert (path / "requirements.txt").read_text().startswith("headstart[chat]==")
    alone = headstart.load(path)
    alone.provenance = model.origin.__class__(**{**vars(model.origin), "name": "/gone"})
    assert alone.predict([QUESTION]) == model.predict([QUESTION])


def test_a_push_shows_no_conversation(model: Model) -> None:
    files = hub.public_files(model, "me/bot")
    assert "number" not in files["headstart.json"].decode()
    assert set(files) == {
        *("headstart.json", "model.safetensors", "seen.safetensors", "plan.json", "metrics.json", "README.md")
    }


def test_the_page_is_a_chat(model: Model) -> None:
    with TestClient(app.mount(app.server(), {"bot": model}), base_url="http://127.0.0.1") as client:
        page = client.get("/config").text
        assert client.get("/report/bot").text == "<p>report</p>"
    for text in (
        "Transfer paid",
        "need not be true",
        "what is the number 4?",
        "What the system says first",
        "be brief",
    ):
        assert text in page


def test_questions_of_the_test_stand_in_for_examples(model: Model) -> None:
    line = {"question": "q?", "truth": "t", "answer": "a"}
    other = replace(model, files={talk.ANSWERS: artifact.to_line(line).encode()})
    assert talk.samples(other) == [Conversation((Turn(USER, "q?"), Turn(ASSISTANT, "t")))]
    assert talk.samples(replace(model, files={})) == []


def test_the_page_answers_as_the_model_does(model: Model) -> None:
    how = ("be brief", 0.0, 1.0, 8, 0)
    history: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "hello"},
    ]
    *_, last = chat_page.answer(model, "and you?", history, how)
    asked = Conversation((Turn(USER, "hi"), Turn(ASSISTANT, "hello"), Turn(USER, "and you?")))
    assert last.strip() == model.voice().answer(asked, Sampling(max_tokens=8))
    (problem,) = chat_page.answer(model, " ", [], how)
    assert "write something" in problem
    assert chat_page.questions(model) == [f"what is the number {i}?" for i in range(4, 8)]
