"""A hosted model: checked, priced, agreed to, fine-tuned and asked, against a strict server that follows the schema."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from headstart import hosted_chat, places
from headstart.data.conversation import Conversation
from headstart.data.dataset import Dataset
from headstart.deploy import restore
from headstart.deploy.model import Model
from headstart.engine.voice import Sampling, Tally
from headstart.errors import DataError, HeadstartError, MissingExtraError, PlanError, RunError, ServiceError
from headstart.evidence.chat_verdict import UNTOUCHED
from headstart.hosted import cost, job, rules, service
from headstart.hosted.ledger import Bought, Ledger
from headstart.hosted.offer import personal_data
from headstart.hosted.voice import HostedTalker
from headstart.hosted.wishes import HostedWishes, is_hosted, model_of
from headstart.progress import Progress
from headstart.wishes import Wishes
from tests.hosting import ANSWER_TOKENS, BASE, KEY, PAGE, PROMPT_TOKENS, RefusalError, Service, serving

COLOURS, NOUNS = ("red", "green", "blue", "grey", "pink"), ("lamp", "chair", "book", "hotel", "song", "film")
THINGS = [f"{colour} {thing}" for colour in COLOURS for thing in NOUNS]
N_TRAIN, N_VAL, N_TEST = 12, 10, 8
BACKBONE = f"openai:{BASE}"


def truth(question: str) -> str:
    return f"the {question.split('the ')[-1].strip('?')} stands on shelf {len(question)}"


def said(question: str, tuned: bool) -> str:
    return truth(question) if tuned else "I cannot know that"


def talk(thing: str) -> Conversation:
    question = f"where is the {thing}?"
    messages = [{"role": "system", "content": "You keep a shop."}, {"role": "user", "content": question}]
    return Conversation.of([*messages, {"role": "assistant", "content": truth(question)}])


TALKS = [talk(thing) for thing in THINGS]
PARTS = ["train"] * N_TRAIN + ["val"] * N_VAL + ["test"] * N_TEST


class Heard(Progress):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    """The server, its address and key in the environment, a home of its own, and no pauses."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    for name in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *args, **kwargs: 0.0)
    with serving(said) as found:
        monkeypatch.setenv("OPENAI_BASE_URL", found.url)
        yield found


@pytest.fixture
def chats(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A chat data set, split."""
    columns = {
        "input": [one.to_text() for one in TALKS],
        "label": [[one.turns[i].text for i in one.answers] for one in TALKS],
        "split": PARTS,
    }
    monkeypatch.setattr("headstart.evidence.chats.by_encoder", lambda train, progress: None)  # no weights in this home
    return Dataset(
        table=datasets.Dataset.from_dict(columns), modality="text", task="chat", name="My Shop!", source="shop.jsonl"
    )


def fit(chats: Dataset, out: Path | None = None, progress: Progress | None = None, **asked: Any) -> Model:
    wishes = Wishes(hosted=HostedWishes(**{"yes": True, **asked}))
    return hosted_chat.fit(chats, wishes, backbone=BACKBONE, metric=None, seed=7, out=out, progress=progress or Heard())


def sent(content: bytes) -> list[Conversation]:
    return [Conversation.of(json.loads(line)["messages"]) for line in content.decode().splitlines()]


def test_a_model_is_fine_tuned_asked_and_weighed(shop: Service, chats: Dataset, tmp_path: Path) -> None:
    heard = Heard()
    model = fit(chats, tmp_path / "run", heard)
    (made,) = shop.created
    assert made["model"] == BASE
    assert made["seed"] == 7
    assert made["suffix"] == "my-shop"
    assert made["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 100 // N_TRAIN}}}
    assert set(sent(shop.files[made["training_file"]])) == set(TALKS[:N_TRAIN])
    assert set(sent(shop.files[made["validation_file"]])) == set(TALKS[N_TRAIN : N_TRAIN + N_VAL])
    # every answer of the tuned model is right, and the untouched one shares no word with them
    assert model.evidence.primary == "token_f1"
    assert set(model.evidence.metrics) == {"token_f1", "rouge_l"}
    assert model.evidence.metrics["token_f1"].value == pytest.approx(1)
    assert model.evidence.baselines[UNTOUCHED]["token_f1"].value == 0
    assert model.evidence.paid
    assert "paid" in model.evidence.verdict
    told = "\n".join(heard.lines)
    assert told.index("queued") < told.index("running") < told.index("succeeded")
    assert f"{len(TALKS[:N_TRAIN])} conversations of train and {N_VAL} of validation" in told
    card, report = ((tmp_path / "run" / name).read_text() for name in ("README.md", "report.html"))
    assert "no weights" in card
    assert shop.url in report
    assert not [text for text in (card, report) if "arameters" in text or "cut at" in text]
    answered = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert answered["prediction"].tolist() == answered["label"].tolist()
    assert set(answered["label"]) == {one.reference for one in TALKS[-N_TEST:]}


def test_a_run_talks_again_when_it_is_loaded(shop: Service, chats: Dataset, tmp_path: Path) -> None:
    made = fit(chats, tmp_path / "run")
    model = restore.load(tmp_path / "run")
    assert model.talker == made.talker
    assert model.talker is not None
    assert HostedTalker.restore(json.loads(json.dumps(model.talker.to_json()))) == model.talker
    assert model.talker.job in shop.jobs
    assert model.talker.trained_tokens == 12345
    voice = model.voice()
    prompt = Conversation.asking("where is the red boat?")
    tally = Tally()
    pieces = list(voice.stream(prompt, Sampling(), tally))
    assert (tally.n_prompt, tally.n_answer, tally.ended) == (PROMPT_TOKENS, ANSWER_TOKENS, True)
    assert len(pieces) > 1
    assert "".join(pieces) == truth("where is the red boat?")
    assert voice.answers([prompt, TALKS[0].before(2)], Sampling()) == [
        truth("where is the red boat?"),
        TALKS[0].reference,
    ]
    assert [m["role"] for m in shop.asked[-1]["messages"]] == ["system", "user"]  # the data's own, put before it
    assert math.isnan(voice.said(TALKS[:1])[0].nll)
    assert voice.nll(["a", "b"]).shape == (2, 2)
    voice.client.close()


def test_the_test_split_is_never_learnt_from_and_its_answers_never_leave(shop: Service, chats: Dataset) -> None:
    fit(chats)
    files = b"".join(shop.files.values()).decode()
    held = TALKS[-N_TEST:]
    assert not [one for one in held if one.question in files]
    asked = [Conversation.of(body["messages"]) for body in shop.asked]
    assert sorted(map(Conversation.to_text, asked)) == sorted(one.before(one.asked).to_text() for one in held * 2)
    everything = files + json.dumps(shop.asked)
    assert not [one for one in held if one.reference in everything]


def test_the_key_is_written_nowhere(
    shop: Service, chats: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = Heard()
    with caplog.at_level(logging.DEBUG):
        fit(chats, tmp_path / "run", heard)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"headstart.json", "job.json", "answers.jsonl"} <= {path.name for path in written}
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in caplog.text + "".join(capfd.readouterr()) + "".join(heard.lines)


def test_a_wrong_key_is_refused_and_not_repeated(
    shop: Service, chats: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another-one-9876543210")
    with pytest.raises(ServiceError, match="refused the key in OPENAI_API_KEY") as error:
        fit(chats)
    assert "9876543210" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    fit(chats)
    assert len(shop.created) == 1


def test_nothing_is_sent_without_consent(
    shop: Service, chats: Dataset, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PlanError, match="--yes"):
        fit(chats, yes=False)
    terminal = io.StringIO("n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(PlanError, match="Nothing was sent"):
        fit(chats, yes=False)
    assert not shop.requests
    shown = capfd.readouterr()
    assert "12 conversations of train" in shown.err
    assert not shown.out
    terminal = io.StringIO("y\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    fit(chats, yes=False)
    assert len(shop.created) == 1


def test_a_broken_off_fit_goes_on_and_pays_once(shop: Service, chats: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(pause: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", interrupt)
        with pytest.raises(RunError, match=r"ftjob-0001 goes on .* Run the same command again"):
            fit(chats)
    assert shop.jobs["ftjob-0001"]["status"] not in ("cancelled", "failed")
    model = fit(chats, yes=False)  # it was agreed to
    assert model.evidence.paid
    n_asked = len(shop.asked)
    assert (len(shop.files), len(shop.created), n_asked) == (2, 1, 2 * N_TEST)
    again = fit(chats, yes=False)
    assert (len(shop.files), len(shop.created), len(shop.asked)) == (2, 1, n_asked)
    assert again.evidence == model.evidence


def test_a_job_whose_creation_got_no_answer_is_found(shop: Service, chats: Dataset) -> None:
    shop.lost = True
    with pytest.raises(ServiceError, match="cannot be reached while creating the job"):
        fit(chats)
    assert len(shop.created) == 1  # by the server, which could not say so
    assert fit(chats).evidence.paid
    assert len(shop.created) == 1


@pytest.mark.parametrize("step", ["POST files", "POST fine_tuning/jobs", "POST chat/completions"])
def test_what_fails_in_passing_is_gone_on_with(shop: Service, chats: Dataset, step: str) -> None:
    no_credit = RefusalError(429, "You exceeded your current quota.", "insufficient_quota")
    shop.faults[step] = [no_credit] * 99
    with pytest.raises(ServiceError, match=r"no credit left .* Nothing is lost"):
        fit(chats)
    shop.faults.clear()
    fit(chats)
    assert (len(shop.files), len(shop.created), len(shop.asked)) == (2, 1, 2 * N_TEST)  # none twice


def test_a_busy_server_is_waited_for(shop: Service, chats: Dataset) -> None:
    shop.faults["GET fine_tuning/jobs/ftjob-0001"] = [RefusalError(503, "busy")] * 7
    shop.faults["POST chat/completions"] = [RefusalError(429, "slow down", "rate_limit_exceeded")] * 2
    heard = Heard()
    assert fit(chats, progress=heard).evidence.paid
    assert "Trying again" in "".join(heard.lines)


def test_a_job_that_fails_says_why_and_can_be_begun_anew(shop: Service, chats: Dataset) -> None:
    shop.script, shop.error = ("validating_files", "failed"), {"code": "bad_content", "message": "It breaks the rules."}
    with pytest.raises(RunError, match=r"failed: It breaks the rules. \(bad_content\)"):
        fit(chats)
    shop.script, shop.error = ("running", "cancelled"), None
    with pytest.raises(RunError, match="was cancelled"):
        fit(chats)
    with pytest.raises(PlanError, match="--yes"):  # another job is another payment
        fit(chats, yes=False)
    shop.script = ("succeeded",)
    fit(chats)
    assert len(shop.files) == 2
    assert len(shop.created) == 3


def test_a_model_that_is_not_there_is_named(shop: Service, chats: Dataset) -> None:
    wishes = Wishes(hosted=HostedWishes(yes=True))
    with pytest.raises(ServiceError, match=r"'gpt-9' does not exist .* Check the model's name"):
        hosted_chat.fit(chats, wishes, backbone=["openai:gpt-9"], metric=None, seed=0, out=None, progress=Heard())


def test_events_are_told_once_across_pages(shop: Service, chats: Dataset) -> None:
    heard = Heard()
    fit(chats, progress=heard)
    events = shop.events["ftjob-0001"]
    assert len(events) > PAGE
    lines = [line.strip() for line in heard.lines]
    messages = [one["message"] for one in events if one["type"] == "message"]
    assert [line for line in lines if line in messages] == messages
    steps = [line for line in lines if line.startswith("Step")]
    assert steps == [one["message"] for one in events if one["type"] == "metrics"][2::3]  # the latest of each look


def test_wishes_that_mean_nothing_are_refused(shop: Service, chats: Dataset) -> None:
    def asked(metric: str | None = None, data: Dataset = chats, **wishes: Any) -> None:
        hosted_chat.fit(data, Wishes(**wishes), backbone=BACKBONE, metric=metric, seed=0, out=None, progress=Heard())

    with pytest.raises(PlanError, match="--strategy, --freeze mean nothing"):
        asked(strategy="lora", freeze=2)
    with pytest.raises(PlanError, match="likelihoods"):
        asked(metric="perplexity")
    with pytest.raises(DataError, match="poses classification"):
        asked(data=replace(chats, task="classification"))
    assert not shop.requests


def test_the_way_to_the_service_is_checked_first(
    shop: Service, chats: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("HEADSTART_OFFLINE", "1")
        with pytest.raises(PlanError, match="HEADSTART_OFFLINE"):
            fit(chats)
    with monkeypatch.context() as patch:
        patch.delenv("OPENAI_API_KEY")
        with pytest.raises(PlanError, match="OPENAI_API_KEY"):
            fit(chats)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openai", None)
        with pytest.raises(MissingExtraError, match="hosted"):
            fit(chats)
    assert not shop.requests


def test_a_password_in_the_address_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:secret@models.example:8443/v1/")
    assert service.address() == "https://models.example:8443/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert service.address() == service.OPENAI


SHORT = Conversation.of(
    [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!!"},
    ]
)


def test_the_estimate_is_that_of_a_hand_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    counter = cost.counter_of(BASE)
    # 8, 2 and 7 bytes are 2, 1 and 2 tokens; the roles' 6, 4 and 9 bytes 2, 1 and 3; 3 a turn and 3 at the end
    assert counter.conversation(SHORT) == (2 + 1 + 2) + (2 + 1 + 3) + 3 * 3 + 3
    price = cost.price_of(BASE, "5,0.8,3.2")
    found = cost.estimate(counter, price, 4 * 100 * 23, [SHORT.before(2)] * 50, 256)
    # a prompt has 2 + 1 of text, 2 + 1 of roles, 2 turns of 3, and 3; two models are asked 50 each
    assert found.n_asked == 2 * 50 * (3 + 3 + 6 + 3)
    assert found.n_answered == 2 * 50 * 256
    assert found.dollars == pytest.approx((9200 * 5 + 1500 * 0.8 + 25600 * 3.2) / 1e6)
    assert "$0.13" in "".join(found.lines())


def test_tokens_are_counted_by_tiktoken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def encoding_for_model(name: str) -> Any:
        assert name == "gpt-4.1-mini"
        words = types.SimpleNamespace(name="words")
        words.encode = lambda text, disallowed_special: text.split()
        return words

    fake = types.ModuleType("tiktoken")
    fake.encoding_for_model = encoding_for_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiktoken", fake)
    counter = cost.counter_of(f"ft:{BASE}:org::1")
    assert counter.conversation(SHORT) == 4 + 3 + 3 * 3 + 3
    assert "tiktoken, words" in counter.told


def test_prices_are_dated_or_given_or_unknown() -> None:
    listed = cost.price_of("gpt-4.1-mini-2025-04-14", None)
    assert listed == cost.PRICES["gpt-4.1-mini"]
    assert cost.DATED in listed.told
    assert cost.price_of("gpt-4.1-maxi", None) is None
    unknown = cost.estimate(cost.Counter(len, "by length"), None, 10, [], 1)
    assert unknown.dollars is None
    assert "--price" in "".join(unknown.lines())
    assert cost.price_of("gpt-4.1-maxi", "7").training == 7  # type: ignore[union-attr]
    for wrong in ("cheap", "1,2", "-1", "nan", ""):
        with pytest.raises(PlanError, match="not understood"):
            cost.price_of(BASE, wrong)


@pytest.mark.parametrize(("n", "epochs"), [(10, 10), (33, 3), (40, 3), (8333, 3), (8334, 2), (30_000, 1)])
def test_epochs_follow_the_published_rule(n: int, epochs: int) -> None:
    assert cost.epochs_for(n) == epochs


def talks_with(last: list[dict[str, str]]) -> list[Conversation]:
    return [*TALKS[:11], Conversation.of(last)]


def test_what_the_api_would_refuse_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = cost.Counter(len, "a token a character")
    with pytest.raises(DataError, match="at least 10 conversations to learn from, and there are 9"):
        rules.prepare(TALKS[:9], [], BASE, counter)
    few = rules.prepare(TALKS[:10], TALKS[10:13], BASE, counter)
    assert few.val is None
    assert "validation has 3" in few.notes[0]
    user = {"role": "user", "content": "Hi"}
    for wrong, why in (
        ([user], "assistant's"),
        ([{"role": "critic", "content": "Hm"}, {"role": "assistant", "content": "Hm"}], "'critic' is not a role"),
        ([user, {"role": "assistant", "content": " "}], "turn 2 is empty"),
        ([user, {"role": "system", "content": "S"}, {"role": "assistant", "content": "A"}], "first only"),
    ):
        with pytest.raises(DataError, match=why):
            rules.prepare(talks_with(wrong), [], BASE, counter)
    ended = rules.prepare(talks_with([user, {"role": "assistant", "content": "A"}, user]), [], BASE, counter)
    assert json.loads(ended.train.splitlines()[-1])["messages"][-1] == {"role": "assistant", "content": "A"}
    long = [user, {"role": "assistant", "content": "é" * rules.CONTEXT["gpt-4.1-mini"]}]
    left = rules.prepare(talks_with(long), [], BASE, counter)
    assert left.n_train == 11
    assert "1 of train have more than 65,536 tokens" in left.notes[0]
    assert rules.prepare(talks_with(long), [], "another-model", counter).n_train == 12
    monkeypatch.setattr(rules, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="train file"):
        rules.prepare(TALKS[:10], [], BASE, counter)


def test_lines_come_back_as_they_were() -> None:
    odd = Conversation.of(
        [{"role": "user", "content": 'a\n"b"\u2028 é'}, {"role": "assistant", "content": "\U0001f600"}]
    )
    content = rules.lines([odd, odd])
    assert content.count(b"\n") == 2
    assert [Conversation.of(json.loads(line)["messages"]) for line in content.split(b"\n")[:2]] == [odd, odd]


def test_personal_data_are_counted() -> None:
    assert "no personal data" in personal_data(TALKS)
    mails = [Conversation.asking(f"write to {name}@example.org, please") for name in ("ann", "bob")]
    assert "2 e-mail addresses" in personal_data(mails)


def test_a_damaged_ledger_stops_rather_than_pays_again(shop: Service, chats: Dataset) -> None:
    fit(chats)
    (path,) = places.trials().glob("hosted-*/job.json")
    saved = json.loads(path.read_text())
    assert Bought(**saved).job == "ftjob-0001"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(RunError, match="cannot be read"):
        fit(chats)
    path.unlink()
    answers = path.with_name("answers.jsonl")
    answers.write_text(answers.read_text() + '{"request": "cut o')
    kept = Ledger(next(iter({body["metadata"]["headstart"] for body in shop.created})))
    before = kept.answers()
    kept.keep("x", "y")
    assert kept.answers() == before | {"x": "y"}


def test_names_of_hosted_models() -> None:
    assert is_hosted("openai:gpt-4o")
    assert is_hosted(["openai:gpt-4o"])
    assert not is_hosted(None)
    assert not is_hosted("minilm")
    assert model_of(["openai:gpt-4o "]) == "gpt-4o"
    with pytest.raises(PlanError, match="must be followed"):
        model_of("openai:")
    with pytest.raises(PlanError, match="alone"):
        model_of(["openai:a", "minilm"])
    with pytest.raises(HeadstartError, match="from 1 to 50"):
        HostedWishes(n_epochs=0)


def test_a_run_predicts_and_is_measured_on_new_chats(shop: Service, chats: Dataset) -> None:
    model = fit(chats)
    assert model.predict(["where is the red boat?"]) == [truth("where is the red boat?")]
    new = [talk(f"old {noun}") for noun in NOUNS]
    columns = {
        "input": [one.to_text() for one in new],
        "label": [[one.turns[i].text for i in one.answers] for one in new],
        "split": ["test"] * len(new),
    }
    found = model.evaluate(replace(chats, table=datasets.Dataset.from_dict(columns)))
    assert found.n == len(new)
    assert found.metrics["token_f1"].value == pytest.approx(1)
    assert "perplexity" not in found.metrics
    with pytest.raises(PlanError, match="weights are not here"):
        model.load_pretrained()
    model.voice().client.close()  # type: ignore[union-attr]
