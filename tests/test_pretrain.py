"""Going on without labels: losses against other code, what is frozen stays, a stopped run goes on, a whole folder."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import headstart
from headstart import pretraining, registry
from headstart.backbones import catalog
from headstart.data.windows import windows
from headstart.deploy.bundle import bundle
from headstart.engine import corpus as corpora
from headstart.engine import freeze, loop
from headstart.engine import pretraining as engine
from headstart.engine.corpus import Corpus, Steps
from headstart.engine.pretraining import go_on
from headstart.errors import BackboneError, DataError, HeadstartError, PlanError, RunError
from headstart.evidence.base import Score
from headstart.evidence.continued import Downstream, Gain, held_out, over_draws
from headstart.losses.base import Loss, View
from headstart.losses.mlm import MaskedLearner, Mlm, Tokens, masked
from headstart.losses.simcse import TEMPERATURE, ContrastiveLearner, Simcse
from headstart.losses.vicreg import EPSILON, Vicreg, vicreg
from headstart.progress import Progress
from tests.conftest import call, draw
from tests.test_backbones import TEXT_CONFIGS, WORDS, save_tiny, save_tokenizer

MASK = 19  # the token after the words
QUICK = {"labels": (16,), "draws": 2}


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")


def with_mask(folder: Path) -> Path:
    """The tiny tokenizer with a token for what is masked."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    assert tokenizer.mask_token_id == MASK
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_mask(save_tiny("bert", tmp_path_factory.mktemp("weights") / "bert"))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("resnet", tmp_path_factory.mktemp("weights") / "resnet")


def sentences(n: int = 100) -> tuple[list[str], list[str]]:
    """Distinct word salads, and whether a cat is in them."""
    rng = np.random.default_rng(0)
    texts = list({" ".join(rng.choice(WORDS, rng.integers(4, 12))) for _ in range(n)})
    return sorted(texts), ["cat" if "cat" in text else "none" for text in sorted(texts)]


def some_pictures(n: int = 60) -> tuple[list[Any], list[str]]:
    rng = np.random.default_rng(0)
    return [draw(rng, i % 2 == 0) for i in range(n)], ["striped" if i % 2 == 0 else "plain" for i in range(n)]


def corpus_of(folder: Path, loss: Loss, **known: Any) -> Corpus:
    """48 texts to learn from and 12 to measure on."""
    located = catalog.locate(str(folder), Progress())
    backbone = catalog.load(str(folder), Progress())
    items = sentences()[0][:60]
    return Corpus(
        backbone=backbone,
        located=located,
        modality=registry.modality("text"),
        items=items,
        learn=np.arange(48),
        held=np.arange(48, 60),
        **known,
    )


def test_a_sixth_of_the_tokens_is_masked_and_special_ones_never() -> None:
    tokens = Tokens(mask=4, special=(0, 1, 2, 4), n=1000)
    torch.manual_seed(0)
    ids = torch.randint(5, 1000, (400, 100))
    ids[:, 0], ids[:, -1] = 0, 2
    attention = torch.ones_like(ids)
    ids[:, 80:99], attention[:, 80:] = 1, 0
    changed, chosen = masked(ids, attention, tokens)
    free = attention.bool() & ~torch.isin(ids, torch.tensor(tokens.special))
    assert not chosen[~free].any()
    assert torch.equal(changed[~chosen], ids[~chosen])
    n = int(chosen.sum())

    def near(share: float, expected: float, of: int) -> bool:
        return abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / of)

    assert near(n / int(free.sum()), 0.15, int(free.sum()))
    became_mask, same = (changed == 4)[chosen], (changed == ids)[chosen]
    assert near(float(became_mask.float().mean()), 0.8, n)
    assert near(float(same.float().mean()), 0.1 + 0.1 / 1000, n)
    assert near(float((~same & ~became_mask).float().mean()), 0.1, n)


@pytest.fixture
def masked_bert(tmp_path: Path) -> Any:
    """transformers' own masked language model, saved to `tmp_path`, with a head that is not the one it starts with."""
    torch.manual_seed(0)
    network = transformers.BertForMaskedLM(TEXT_CONFIGS["bert"]()).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with_mask(tmp_path)
    return network


def test_the_loss_is_transformers_own_given_the_same_weights(masked_bert: Any, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, Mlm())
    learner = engine.build(Mlm(), corpus).eval()
    inputs = corpus.backbone.collate(sentences()[0][:20])
    torch.manual_seed(3)
    terms = learner([View(inputs)])
    torch.manual_seed(3)
    changed, chosen = masked(inputs["input_ids"], inputs["attention_mask"], learner.tokens)  # type: ignore[arg-type]
    labels = torch.where(chosen, inputs["input_ids"], -100)
    own = masked_bert(input_ids=changed, attention_mask=inputs["attention_mask"], labels=labels)
    assert terms.mean.item() == pytest.approx(own.loss.item(), rel=1e-5)
    everywhere = nn.functional.cross_entropy(own.logits.transpose(1, 2), inputs["input_ids"], reduction="none")
    torch.testing.assert_close(terms.sums, (everywhere * chosen).sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms.counts, chosen.sum(1).float())


def test_a_head_that_the_file_lacks_starts_as_the_identity(bert: Path) -> None:
    learner = engine.build(Mlm(), corpus_of(bert, Mlm()))
    assert isinstance(learner, MaskedLearner)
    assert torch.equal(learner.dense.weight, torch.eye(16))
    assert learner.words.data_ptr() == learner.upper.network.get_input_embeddings().weight.data_ptr()  # type: ignore[operator]


def test_the_bias_of_a_new_head_says_how_often_each_token_occurs(bert: Path) -> None:
    corpus = corpus_of(bert, Mlm())
    learner = engine.build(Mlm(), corpus)
    assert isinstance(learner, MaskedLearner)
    words = [word for row in corpus.learn for word in corpus.items[row].split()]
    odds = [1.0] * 30
    for word in words:
        odds[4 + WORDS.index(word)] += 1
    expected = np.log(np.array(odds) / sum(odds))
    np.testing.assert_allclose(learner.bias.detach().numpy(), expected, rtol=1e-5)


def test_nothing_masked_is_no_loss(bert: Path) -> None:
    corpus = corpus_of(bert, Mlm())
    learner = engine.build(Mlm(), corpus)
    learner.tokens = replace(learner.tokens, special=tuple(range(30)))  # type: ignore[arg-type]
    terms = learner([View(corpus.backbone.collate(["the cat", "sat"]))])
    assert terms.mean.item() == 0.0


def test_vicreg_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 0.7, (2, 6, 4))
    n, width = first.shape
    expected = 25 * sum((a - b) ** 2 for a, b in zip(first.flat, second.flat, strict=True)) / (n * width)
    for z in (first, second):
        for j in range(width):
            spread = math.sqrt(sum((v - z[:, j].mean()) ** 2 for v in z[:, j]) / (n - 1) + EPSILON)
            expected += 25 * max(0.0, 1 - spread) / width / 2
        for i, j in itertools.permutations(range(width), 2):
            joint = sum((z[k, i] - z[:, i].mean()) * (z[k, j] - z[:, j].mean()) for k in range(n)) / (n - 1)
            expected += joint**2 / width
    assert float(vicreg(torch.tensor(first), torch.tensor(second))) == pytest.approx(expected, rel=1e-9)


def test_simcse_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    runs = [rng.normal(size=(5, 3)), rng.normal(size=(5, 3))]

    class Answers(nn.Module):
        """Gives other embeddings each time that it is asked, as dropout does."""

        def forward(self, inputs: Any, activation: Any = None) -> Tensor:
            return torch.tensor(answers.pop(0))

    answers = list(runs)
    terms = ContrastiveLearner(Answers())([View({})])  # type: ignore[arg-type]
    a, b = (run / np.linalg.norm(run, axis=1, keepdims=True) for run in runs)
    for i in range(5):
        odds = [math.exp(float(a[i] @ b[j]) / TEMPERATURE) for j in range(5)]
        assert terms.sums[i].item() == pytest.approx(-math.log(odds[i] / sum(odds)), rel=1e-6)


def test_what_is_frozen_stays_to_the_last_bit(bert: Path) -> None:
    loss = Mlm(freeze=2, epochs=1, batch_size=16, learning_rate=1e-2)
    corpus = corpus_of(bert, loss)
    before = {name: tensor.clone() for name, tensor in corpus.backbone.network.state_dict().items()}
    outcome = go_on(loss, corpus, 3)
    assert all(torch.equal(before[name], now) for name, now in corpus.backbone.network.state_dict().items())
    changed = corpus.backbone.adapted(outcome.changes).network.state_dict()
    moved = {name for name, tensor in changed.items() if not torch.equal(tensor, before[name])}
    assert {name.partition(".layer.")[2][:1] for name in moved} == {"1", "2"}
    assert set(outcome.changes.tensors) == {
        name for name in before if name.startswith(("encoder.layer.1", "encoder.layer.2"))
    }


def test_a_domain_of_repeated_words_is_learnt(bert: Path) -> None:
    """What is masked can be read off its neighbours: the loss falls on sentences that were not learnt from."""
    repeated = [" ".join([word] * n) for word in WORDS for n in range(6, 14)]
    order = np.random.default_rng(0).permutation(len(repeated))
    loss = Mlm(freeze=0, batch_size=16, learning_rate=1e-2, head_rate=1e-2)
    corpus = corpus_of(bert, loss)
    corpus = replace(corpus, items=[repeated[i] for i in order], learn=np.arange(100), held=np.arange(100, 120))
    outcome = go_on(loss, corpus, 75)
    assert outcome.after.mean < 0.5 * outcome.before.mean


def test_the_head_learns_alone_at_first(bert: Path) -> None:
    loss = Mlm(warm_up=1.0, batch_size=16, epochs=1)
    corpus = corpus_of(bert, loss)
    with pytest.raises(AssertionError):  # it never comes to the network, and so not to what is measured before it
        go_on(loss, corpus, 3)


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("loss", [Mlm(batch_size=16, epochs=4), Simcse(batch_size=16, epochs=4, freeze=1)])
def test_a_stopped_run_goes_on_to_the_same_weights(
    loss: Loss, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "ROUND", 3)
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    whole = go_on(loss, corpus_of(bert, loss), 12)
    corpus, done = corpus_of(bert, loss, checkpoint=tmp_path / "run.ckpt"), 0

    def stop(n: int) -> None:
        nonlocal done
        done += n
        if done == 8:
            raise Stopped

    with pytest.raises(Stopped):
        go_on(loss, corpus, 12, stop)
    steps: list[int] = []
    again = go_on(loss, corpus, 12, steps.append)
    assert sum(steps) == 12
    assert steps[0] == 6  # two rounds were kept
    assert again.losses == whole.losses
    np.testing.assert_array_equal(again.before.sums, whole.before.sums)
    np.testing.assert_array_equal(again.after.sums, whole.after.sums)
    for name, tensor in whole.changes.tensors.items():
        assert torch.equal(tensor, again.changes.tensors[name]), name


def test_cached_equals_run_each_time(bert: Path) -> None:
    loss = Simcse(batch_size=16, freeze=2, learning_rate=1e-3)
    plain = corpus_of(bert, loss)
    digests = [plain.modality.examine(item).digest for item in plain.items]
    kept = freeze.activations(plain.backbone, plain.modality, plain.items, digests, 2, Progress())
    one, other = go_on(loss, plain, 6), go_on(loss, replace(plain, views=(kept,)), 6)
    for name, tensor in one.changes.tensors.items():
        torch.testing.assert_close(tensor, other.changes.tensors[name], rtol=1e-4, atol=1e-5)
    assert one.after.mean == pytest.approx(other.after.mean, rel=1e-5)


def test_every_example_is_seen_once_an_epoch_in_another_order(bert: Path) -> None:
    loss = Mlm(batch_size=16)
    steps = Steps(loss, corpus_of(bert, loss), 6)
    epochs = [np.concatenate([steps.rows(step) for step in steps_of]) for steps_of in ((0, 1, 2), (3, 4, 5))]
    assert all(sorted(epoch) == list(range(48)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_two_cached_views_are_never_the_same(resnet: Path) -> None:
    loss = Vicreg(views=3, batch_size=8)
    backbone = catalog.load(str(resnet), Progress())
    image = registry.modality("image")
    items = [image.store(picture, None) for picture in some_pictures(12)[0]]
    digests = [image.examine(item).digest for item in items]
    views = pretraining.cached_views(backbone, image, items, digests, loss, Progress())
    assert len(views) == 3
    corpus = Corpus(
        backbone=backbone,
        located=catalog.locate(str(resnet), Progress()),
        modality=image,
        items=items,
        learn=np.arange(10),
        held=np.arange(10, 12),
        views=views,
    )
    first, second = corpus.batch(loss, np.arange(10), 5)
    assert first.activation is not None
    assert second.activation is not None
    assert all(not torch.equal(a, b) for a, b in zip(first.activation, second.activation, strict=True))
    again = corpus.batch(loss, np.arange(10), 5)[0].activation
    assert again is not None
    assert torch.equal(first.activation, again)


def test_the_folder_is_a_backbone_with_its_history(bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = headstart.pretrain(headstart.read(*sentences()), backbone=str(bert), loss="mlm", epochs=2, out=out, **QUICK)
    located, loaded = catalog.locate(str(out), Progress()), catalog.load(str(out), Progress())
    parent = catalog.load(str(bert), Progress())
    assert loaded.provenance.sha256 == told.sha256 != parent.provenance.sha256
    assert loaded.provenance.name == str(out)
    assert "masked language modelling on" in loaded.provenance.source
    made = json.loads((out / catalog.CONTINUED).read_text())
    assert made["parent"]["sha256"] == parent.provenance.sha256
    assert (made["loss"], made["seed"], made["data"]) == ("mlm", 0, "data")
    assert made["n"] + made["n_held"] + made["n_kept_out"] == len(sentences()[0])
    assert located.licence == parent.provenance.licence
    assert told.verdict in (out / "README.md").read_text()
    assert "<h1>" in (out / "report.html").read_text()
    model = headstart.fit(
        headstart.read(*sentences()), backbone=str(out), strategy="probe", scratch=False, out=tmp_path / "run"
    )
    assert model.provenance.name == str(out)
    packed = bundle(model, tmp_path / "bundle")
    assert json.loads((packed / catalog.BUNDLED / catalog.COPY).read_text())["sha256"] == told.sha256
    texts = ["the cat sat", "dogs ran away"]
    whole, alone = (headstart.load(folder).predict_proba(texts) for folder in (tmp_path / "run", packed))
    np.testing.assert_allclose(whole, alone, atol=1e-6)


def test_what_was_measured_is_what_the_folder_gives(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    real = pretraining.measure
    monkeypatch.setattr(pretraining, "measure", lambda *given: measured.append(given[2]) or real(*given))  # type: ignore[func-returns-value]
    out = tmp_path / "out"
    headstart.pretrain(headstart.read(*sentences()), backbone=str(bert), epochs=1, out=out, **QUICK)
    loaded = catalog.load(str(out), Progress())
    assert loaded.fingerprint == measured[0].fingerprint
    inputs = loaded.collate(["the cat sat on a mat"])
    assert torch.equal(loaded.pooled(inputs)[-1], measured[0].pooled(inputs)[-1])


def test_a_repeat_gives_the_same_weights_and_another_seed_others(bert: Path, tmp_path: Path) -> None:
    shas = [
        headstart.pretrain(sentences()[0], backbone=str(bert), epochs=1, seed=seed, out=tmp_path / f"{i}").sha256
        for i, seed in enumerate((0, 0, 1))
    ]
    assert shas[0] == shas[1] != shas[2]


def test_pictures_go_on_above_a_cut(resnet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = headstart.read(*some_pictures())
    told = headstart.pretrain(data, backbone=str(resnet), epochs=2, freeze=4, out=out, labels=(16,), draws=1)
    assert (told.loss, told.cut, told.held_out.unit) == ("vicreg", 4, "batch")
    before, after = load_file(resnet / "model.safetensors"), load_file(out / "model.safetensors")
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("encoder.stages.3") for name in moved)
    assert not any("running" in name for name in moved)
    assert headstart.fit(data, backbone=str(out), strategy="probe", scratch=False).provenance.name == str(out)


def test_efficientnet_lite_is_written_by_its_published_names(tmp_path: Path) -> None:
    located = catalog.locate("efficientnet-lite0", Progress())
    lite = catalog.load("efficientnet-lite0", Progress())
    published = load_file(located.folder / "model.safetensors")
    own = lite.weights(located)
    assert own.keys() == published.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in published.items())
    loss, image = Vicreg(views=2, freeze=8, batch_size=4), registry.modality("image")
    items = [image.store(picture, None) for picture in some_pictures(8)[0]]
    domain = pretraining.Domain(name="parts", modality=image, items=items, n_kept_out=0)
    corpus = pretraining.make_corpus(domain, lite, located, loss, 0, Progress())
    outcome = go_on(loss, corpus, 2)
    weights, after = pretraining.continued(corpus, outcome, tmp_path)
    told = pretraining.tell(domain, loss, corpus, outcome, after)
    for name, content in pretraining.files_of(told, weights, located).items():
        (tmp_path / name).write_bytes(content)
    loaded, again = catalog.load(str(tmp_path), Progress()), catalog.locate(str(tmp_path), Progress())
    assert (type(loaded), again.variant, again.licence) == (type(lite), "efficientnet-lite0", "Apache-2.0")
    assert loaded.fingerprint == after.fingerprint
    moved = {name for name, tensor in loaded.weights(again).items() if not torch.equal(tensor, published[name])}
    assert moved == {"_conv_head.weight", "_bn1.weight", "_bn1.bias"}


def test_the_test_split_is_never_learnt_from(bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    real = pretraining.go_on
    monkeypatch.setattr(pretraining, "go_on", lambda *given: seen.append(given[1]) or real(*given))  # type: ignore[func-returns-value]
    texts, labels = sentences()
    told = headstart.pretrain(
        texts, measure_on=headstart.read(texts, labels), backbone=str(bert), epochs=1, out=tmp_path / "out", **QUICK
    )
    assert told.downstream is not None
    problem = pretraining.pose(headstart.read(texts, labels), 0, Progress())
    test = {texts[row] for row in problem.rows["test"]}
    assert told.n_kept_out == len(test) > 0
    assert not test & set(seen[0].items)
    assert set(seen[0].items) | test == set(texts)


def test_a_given_test_split_is_kept_out_without_labels_too(bert: Path) -> None:
    texts = sentences()[0]
    splits = ["test" if i % 4 == 0 else "train" for i in range(len(texts))]
    dataset = headstart.read(texts).with_splits(splits)
    domain = pretraining.gather(dataset, None, Progress())
    assert domain.items == [text for i, text in enumerate(texts) if i % 4]


def test_copies_count_once() -> None:
    texts = sentences()[0]
    domain = pretraining.gather(headstart.read([*texts, *texts]), None, Progress())
    assert domain.items == texts


def test_without_labels_nothing_is_claimed(bert: Path, tmp_path: Path) -> None:
    told = headstart.pretrain(sentences()[0], backbone=str(bert), epochs=1, out=tmp_path / "out")
    assert told.downstream is None
    assert told.verdict.startswith("Nothing was measured downstream: the data have no labels")


def test_a_budget_is_as_many_steps_as_fit_and_is_read_once(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(pretraining, "seconds_a_step", lambda *given: asked.append(1) or 2.0)  # type: ignore[func-returns-value]
    loss = Mlm(batch_size=16, epochs=100)
    corpus = corpus_of(bert, loss, checkpoint=tmp_path / "run.ckpt")
    for _ in range(2):
        assert pretraining.train(loss, corpus, "8s", Progress()).n_steps == 4
    assert len(asked) == 1
    pretraining.forget(corpus)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_is_an_error(bert: Path) -> None:
    loss = Mlm(batch_size=16, epochs=1, learning_rate=1e30, warm_up=0.0)
    with pytest.raises(RunError, match="broke down"):
        pretraining.train(loss, corpus_of(bert, loss), None, Progress())


@pytest.mark.parametrize(
    ("loss", "network", "change", "message"),
    [
        ("vicreg", "bert", {}, "VICReg is a loss for image backbones"),
        ("mlm", "resnet", {}, "masked language modelling is a loss for text backbones"),
        ("simcze", "bert", {}, "Did you mean 'simcse'"),
        ("mlm", "bert", {"freeze": 4}, "freeze=4, but this backbone has 4 stages.*0 to 3"),
        ("mlm", "bert", {"freeze": -1}, "freeze=-1"),
        ("mlm", "bert", {"epochs": 0}, "epochs must be at least 1"),
        ("mlm", "bert", {"budget": "soon"}, "is not a time"),
        ("mlm", "bert", {"labels": (2,)}, "at least 8 labels"),
    ],
)
def test_a_wrong_choice_says_what_to_do(
    loss: str, network: str, change: dict[str, Any], message: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = sentences()[0] if network == "bert" else some_pictures(24)[0]
    backbone = str(request.getfixturevalue(network))
    with pytest.raises(HeadstartError, match=message):
        headstart.pretrain(data, backbone=backbone, loss=loss, out=tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_a_mask_cannot_do_masked_language_modelling(tmp_path: Path) -> None:
    folder = save_tiny("distilbert", tmp_path / "weights")
    with pytest.raises(PlanError, match=r"no token for what is masked.*--loss simcse"):
        headstart.pretrain(sentences()[0], backbone=str(folder), loss="mlm", out=tmp_path / "out")


def test_simcse_lives_by_dropout(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = TEXT_CONFIGS["bert"]()
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    transformers.BertModel(config).save_pretrained(tmp_path / "weights")
    save_tokenizer(tmp_path / "weights")
    with pytest.raises(PlanError, match="no dropout"):
        headstart.pretrain(sentences()[0], backbone=str(tmp_path / "weights"), loss="simcse", out=tmp_path / "out")


def test_pictures_do_not_go_into_a_backbone_for_texts(bert: Path, resnet: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="takes texts, but the data are images"):
        headstart.pretrain(some_pictures(24)[0], backbone=str(bert), out=tmp_path / "out")
    with pytest.raises(PlanError, match="takes images, but the data are texts"):
        headstart.pretrain(sentences()[0], backbone=str(resnet), out=tmp_path / "out")


def test_too_few_or_no_items_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 distinct texts, too few"):
        headstart.pretrain(
            ["the cat sat", "dogs ran far away", "nobody saw them"], backbone=str(bert), out=tmp_path / "out"
        )
    table = tmp_path / "labels.csv"
    table.write_text("label\n" + "good\nbad\n" * 20)
    with pytest.raises(DataError):
        headstart.pretrain(table, backbone=str(bert), out=tmp_path / "out")


def test_nothing_is_overwritten(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(RunError, match="nothing was overwritten"):
        headstart.pretrain(sentences()[0], backbone=str(bert), out=tmp_path)


def test_what_is_measured_on_must_have_labels(bert: Path, tmp_path: Path) -> None:
    texts = sentences()[0]
    with pytest.raises(DataError, match="must hold texts with labels"):
        headstart.pretrain(texts, measure_on=headstart.read(texts), backbone=str(bert), out=tmp_path / "out")


@pytest.mark.parametrize("content", ["{", '{"family": "transformers"}', "[]"])
def test_a_damaged_history_is_refused(content: str, bert: Path, tmp_path: Path) -> None:
    for path in bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / catalog.CONTINUED).write_text(content)
    with pytest.raises(BackboneError, match="is damaged"):
        catalog.load(str(tmp_path), Progress())


def test_long_texts_are_parted_whole() -> None:
    def lengths(texts: Any) -> list[int]:
        return [min(50, 2 + sum(len(word) for word in text.split())) for text in texts]  # cut at 50, as networks do

    texts = ["a bb ccc", " ".join(["word"] * 40), "x" * 30, ""]
    parts = windows(texts, lengths, 20)
    assert parts[0] == ["a bb ccc"]
    assert parts[2] == ["x" * 30]
    assert parts[3] == [""]
    assert " ".join(parts[1]) == texts[1]
    assert all(lengths([piece])[0] <= 20 for piece in parts[1])
    sizes = [len(piece.split()) for piece in parts[1]]
    assert max(sizes) - min(sizes) <= 1


def test_the_interval_adds_both_reasons_to_vary() -> None:
    rng = np.random.default_rng(0)
    drawn, resampled = [0.01, 0.03, 0.02], rng.normal(0.02, 0.005, 4000)
    found = over_draws(drawn, resampled)
    half = math.hypot(4.302653 * 0.01 / math.sqrt(3), 1.959964 * resampled.std())
    assert (found.value, found.high - found.value) == pytest.approx((0.02, half), rel=1e-5)
    assert over_draws([0.02], resampled).high == pytest.approx(0.02 + 1.959964 * resampled.std())


def test_the_held_out_change_is_paired() -> None:
    rng = np.random.default_rng(0)
    sums, counts = rng.gamma(3, 2, 50), rng.integers(0, 9, 50).astype(float)
    found = held_out("x", "masked token", (sums, counts), (sums - 0.5 * counts, counts), 0)
    assert found.before.value == pytest.approx(sums.sum() / counts.sum())
    assert (found.difference.low, found.difference.high) == pytest.approx((-0.5, -0.5))
    assert found.before.low < found.before.value < found.before.high


@pytest.mark.parametrize(
    ("spans", "helped", "start"),
    [
        ([(0.01, 0.03), (-0.01, 0.02)], True, "It helped:"),
        ([(-0.03, -0.01), (0.01, 0.03)], False, "It did not help:"),
        ([(-0.01, 0.01)], None, "It cannot be told whether it helped:"),
    ],
)
def test_the_verdict_claims_what_the_intervals_say(
    spans: list[tuple[float, float]], helped: bool | None, start: str
) -> None:
    gains = tuple(
        Gain(n_labels=50 * (i + 1), before=(0.5,), after=(0.5,), difference=Score((low + high) / 2, low, high))
        for i, (low, high) in enumerate(spans)
    )
    found = Downstream(data="d", metric="m", metric_title="m", better="higher", n_test=9, gains=gains)
    assert found.helped is helped
    assert found.verdict.startswith(start)
    assert "with 50 labels" in found.verdict


def test_the_verb(reviews: Path, bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--backbone", bert, "--epochs", 1, "--labels", "16", "--draws", 1)
    assert call("pretrain", reviews, *words, "--out", tmp_path / "a", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["backbone"] == str(tmp_path / "a")
    assert told["downstream"]["gains"][0]["n_labels"] == 16
    assert call("pretrain", reviews, *words, "--out", tmp_path / "b", "--quiet") == 0
    assert "Use it: headstart fit DATA --backbone" in capsys.readouterr().out
    bare = tmp_path / "bare.csv"
    bare.write_text("text\n" + "\n".join(sentences()[0]))
    beside = ("--measure-on", reviews, "--label", "label", "--out", tmp_path / "d", "--json")
    assert call("pretrain", bare, *words, *beside) == 0
    assert json.loads(capsys.readouterr().out)["downstream"]["data"] == "reviews"
    assert call("pretrain", reviews, "--labels", "some", "--out", tmp_path / "c", "--quiet") == 1
    assert "Give them as 50,200" in capsys.readouterr().err
