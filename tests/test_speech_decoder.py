"""Whisper's own decoder: against transformers' search, adapted from cache as without, kept and restored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

import headstart
from headstart import decoder_workshop, speech_workshop
from headstart.backbones import catalog
from headstart.backbones.changes import DOWN, UP
from headstart.backbones.spelling import END, SILENT_CLOCK, START, TRANSCRIBE, Spelling
from headstart.backbones.whisper_decoder import decoder_of, spelling_of
from headstart.decoder_workshop import DecoderWorkshop
from headstart.engine.decoder import AdaptedDecoder, OnDecoder, Spelled, adapting, as_written, factors, greedy, timed
from headstart.engine.lesson import resumable
from headstart.engine.maps import whole_maps
from headstart.engine.utterances import Texts
from headstart.errors import BackboneError, PlanError
from headstart.evidence.plan import Plan
from headstart.progress import Progress
from headstart.strategies.lora import Lora
from headstart.tasks.heard import Heard, Word
from tests.test_speech_backbones import clips, load, save_tiny
from tests.test_transcription import data, open_shop

__all__ = ["data"]  # a fixture
LANGUAGES = ["<|en|>", "<|es|>"]


def save_tokenizer(folder: Path, languages: bool = False) -> Path:
    """Bytes as tokens, one pair of them merged, and Whisper's special tokens after these."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {one: index for index, one in enumerate([*letters, "Ġa"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, START, *(LANGUAGES if languages else []), TRANSCRIBE, SILENT_CLOCK])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Whisper with its decoder and tokenizer."""
    return save_tokenizer(save_tiny("whisper", tmp_path_factory.mktemp("complete") / "whisper"))


@pytest.fixture(scope="module")
def backbone(whisper: Path) -> Any:
    return load_again(whisper)


def load_again(folder: Path) -> Any:
    return catalog.load(str(folder), Progress())


# --- tokens


def test_texts_come_back_in_any_script(whisper: Path) -> None:
    spelling = Spelling.of(whisper, 100)
    texts = ["a b", "señor ¿qué?", "શું છે", "日本 語", ""]
    spelling.covers(texts)
    assert [spelling.text(spelling.ids(text)) for text in texts] == texts
    assert spelling.ids("a")[-1] == spelling.end
    assert spelling.ids("a" * 200) == spelling.ids("a" * 300)
    assert len(spelling.ids("a" * 200)) == spelling.longest == 99


def test_a_tokenizer_that_cannot_write_the_texts_is_refused(whisper: Path, tmp_path: Path) -> None:
    saved = json.loads((whisper / "tokenizer.json").read_text())
    saved["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(PlanError, match="cannot write 1 of 2 transcripts, such as 'A'"):
        Spelling.of(tmp_path, 100).covers(["a", "A"])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BackboneError, match="cannot be read"):
        Spelling.of(tmp_path, 100)


def test_the_prompt_names_a_language_only_where_it_is_known(tmp_path: Path) -> None:
    def prompt(**settings: Any) -> tuple[list[str], bool]:
        (tmp_path / "generation_config.json").write_text(json.dumps(settings))
        found = Spelling.of(tmp_path, 100)
        return [found.tokenizer.id_to_token(one) for one in found.prompt], found.as_trained

    spanish = ([START, "<|es|>", TRANSCRIBE, SILENT_CLOCK], True)
    save_tokenizer(tmp_path)
    assert prompt() == ([START, SILENT_CLOCK], True)  # English only
    save_tokenizer(tmp_path, languages=True)
    assert prompt() == ([START, SILENT_CLOCK], False)
    assert prompt(language="es") == spanish
    assert prompt(language="<|es|>") == spanish
    place = Spelling.of(tmp_path, 100).tokenizer.token_to_id("<|es|>")
    assert prompt(forced_decoder_ids=[[1, place], [2, 7]]) == spanish
    assert prompt(forced_decoder_ids=[[1, None], [2, 7]]) == ([START, SILENT_CLOCK], False)
    assert prompt(is_multilingual=False) == ([START, SILENT_CLOCK], True)


def test_only_the_untouched_decoder_suppresses_what_its_settings_say(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"suppress_tokens": [3, 5]}))
    spelling = Spelling.of(tmp_path, 100)
    adapted, untouched = spelling.allowed(300), spelling.allowed(300, untouched=True)
    assert np.flatnonzero(adapted & ~untouched).tolist() == [3, 5]
    assert adapted.sum() == 256 + 1 + 1  # bytes, a merged pair, the end
    assert adapted[spelling.end]
    assert not adapted[list(spelling.prompt)].any()


def test_words_are_as_sure_as_the_geometric_mean_of_their_tokens(whisper: Path) -> None:
    spelling = Spelling.of(whisper, 100)
    ids = spelling.ids("añ b")[:-1]
    probabilities = np.linspace(0.2, 0.9, len(ids))
    found = spelling.words(ids, np.log(probabilities))
    assert [word for word, _ in found] == ["añ", "b"]
    first = len(spelling.ids("añ")) - 1
    assert found[0][1] == pytest.approx(np.prod(probabilities[:first]) ** (1 / first))
    assert found[1][1] == pytest.approx(np.prod(probabilities[first:]) ** (1 / (len(ids) - first)))


def test_words_share_the_recording_by_their_lengths() -> None:
    words = timed(Spelled((("a", 0.5), ("abc", 0.9)), 3.0))
    assert [(one.text, one.start, one.end) for one in words] == [("a", 0.0, 1.0), ("abc", 1.0, 3.0)]
    assert timed(Spelled((), 3.0)) == ()


def test_the_untouched_decoder_is_written_as_the_transcripts_are() -> None:
    heard = Heard.of((Word("Hola,", 0, 1, 0.5), Word("...", 1, 2, 0.5), Word("Señor", 2, 3, 0.5)))
    assert as_written(heard, tuple(" aehloñrs")).text == "hola señor"
    assert as_written(heard, tuple(" AEHLOÑRS")).text == "HOLA SEÑOR"
    assert as_written(heard, tuple(" Haeloñrs,S")).text == "Hola, Señor"


# --- the decoder


@pytest.fixture(scope="module")
def theirs(whisper: Path) -> Any:
    return transformers.WhisperForConditionalGeneration.from_pretrained(whisper).eval()


def frames_of(backbone: Any, some: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    network = OnDecoder(None, decoder_of(backbone), spelling_of(backbone), backbone.n_stages - 1)
    inputs = backbone.collate(some)
    return network.frames(backbone, inputs, whole_maps(backbone, inputs, network.stages))


def test_it_writes_what_transformers_writes_alone_and_in_batches(backbone: Any, theirs: Any) -> None:
    spelling, decoder = spelling_of(backbone), decoder_of(backbone)
    some = clips()
    allowed = spelling.allowed(51_864)
    together = greedy(decoder, spelling, frames_of(backbone, some), [12] * len(some), allowed)
    forbidden = np.flatnonzero(~allowed).tolist()
    lengths = set()
    for clip, found in zip(some, together, strict=True):
        frames, _ = frames_of(backbone, [clip])
        wanted = GenerationMixin.generate(
            theirs,
            encoder_outputs=BaseModelOutput(frames),
            decoder_input_ids=torch.tensor([spelling.prompt]),
            generation_config=transformers.GenerationConfig(
                do_sample=False,
                max_new_tokens=12,
                suppress_tokens=forbidden,
                eos_token_id=spelling.end,
                pad_token_id=spelling.end,
                decoder_start_token_id=spelling.prompt[0],
            ),
        )[0, len(spelling.prompt) :].tolist()
        wanted = wanted[: wanted.index(spelling.end)] if spelling.end in wanted else wanted
        assert found[:, 0].astype(int).tolist() == wanted
        logits = theirs(
            encoder_outputs=BaseModelOutput(frames), decoder_input_ids=torch.tensor([[*spelling.prompt, *wanted]])
        ).logits[0, len(spelling.prompt) - 1 : -1]
        logits[:, forbidden] = -torch.inf
        sure = logits.log_softmax(-1)[range(len(wanted)), wanted]
        np.testing.assert_allclose(found[:, 1], sure.detach(), atol=1e-4)
        lengths.add(tuple(wanted))
    assert len(lengths) > 1  # the clips make a difference


def test_the_loss_is_that_of_transformers(backbone: Any, theirs: Any) -> None:
    spelling = spelling_of(backbone)
    network = OnDecoder(None, decoder_of(backbone), spelling, backbone.n_stages - 1)
    texts = ["a b", "ab ab b"]
    ids = [torch.tensor(spelling.ids(text)) for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    some = clips()[:1] * 2
    own = network.loss(frames_of(backbone, some), Texts(padded, torch.tensor([len(one) for one in ids])))
    prompt = torch.tensor([spelling.prompt] * 2)
    labels = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100)
    logits = theirs(
        encoder_outputs=BaseModelOutput(frames_of(backbone, some)[0]),
        decoder_input_ids=torch.cat([prompt, padded[:, :-1]], 1),
    ).logits[:, len(spelling.prompt) - 1 :]
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(own, wanted, atol=1e-5, rtol=1e-5)


def test_a_loop_ends(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Spelling, "allowed", lambda spelling, n, untouched: np.arange(n) < spelling.end
    )  # so it would never end
    network = OnDecoder(None, decoder_of(backbone), spelling_of(backbone), backbone.n_stages - 1)
    network.tokens_a_frame = 0.1
    inputs = backbone.collate(clips()[:2])
    found = network.hears(backbone, inputs, whole_maps(backbone, inputs, network.stages))
    assert [len(one) for one in found] == [8 + 2, 8 + 1]  # of 25 and 17 frames
    network.tokens_a_frame = 1e9
    assert {len(one) for one in network.hears(backbone, inputs, whole_maps(backbone, inputs, network.stages))} == {18}


def without_decoder(folder: Path) -> None:
    kept = {name: one for name, one in load_file(folder / "model.safetensors").items() if ".decoder." not in name}
    save_file(kept, folder / "model.safetensors")


def with_a_piece_missing(folder: Path) -> None:
    kept = load_file(folder / "model.safetensors")
    del kept["model.decoder.layers.0.fc1.weight"]
    save_file(kept, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_decoder, "holds no decoder"),
        (with_a_piece_missing, "lack 1 of the decoder's tensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json cannot be read"),
    ],
)
def test_a_folder_without_a_decoder_is_refused(
    damage: Callable[[Path], None], said: str, tmp_path: Path, data: Path
) -> None:
    folder = save_tokenizer(save_tiny("whisper", tmp_path / "whisper"))
    damage(folder)
    with pytest.raises(BackboneError, match=said):
        headstart.fit(data, backbone=str(folder), strategy="lora")


def test_other_encoders_have_no_decoder(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="has no decoder"):
        decoder_of(load("hubert", tmp_path / "hubert"))


# --- learning


def test_cached_outputs_give_the_adapters_that_sounds_give(
    data: Path, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_PRECISION", "float32")
    shop = open_shop(data, whisper, 6, DecoderWorkshop)
    rows, way = shop.problem.rows["train"], Lora(decoder=True, epochs=2, batch_size=2, rank=2, learning_rate=1e-2)
    lessons = [shop.lesson_for(way, rows, cache) for cache in (True, False)]
    assert [bool(lesson.views) for lesson in lessons] == [True, False]
    cached, uncached = (shop.teach(way, lesson) for lesson in lessons)
    assert (
        cached.head.keys()
        == uncached.head.keys()
        == {
            f"layers.{layer}.{kind}_attn.{one}_proj.weight{factor}"
            for layer in range(2)
            for kind in ("self", "encoder")
            for one in ("q", "k", "v", "out")
            for factor in (DOWN, UP)
        }
    )
    assert all(one.abs().max() > 0 for one in cached.head.values())
    for name, tensor in cached.head.items():
        np.testing.assert_allclose(tensor, uncached.head[name], atol=1e-5, err_msg=name)
    assert cached.changes is None


def test_a_padded_encoder_hands_on_all_its_frames_from_cache_too(data: Path, whisper: Path) -> None:
    shop = open_shop(data, whisper, 4, DecoderWorkshop)
    shop.backbone = shop.backbone.padded()
    way = Lora(decoder=True, rank=2)
    batch = shop.lesson_for(way, shop.problem.rows["train"], True).batch([*shop.problem.rows["train"][:2]])
    assert batch.maps is not None
    assert batch.maps[3].shape == (2, 60, 16)
    assert (batch.inputs["attention_mask"].sum(1) < 60).any()


def test_folded_factors_are_the_adapters_that_were_trained(data: Path, whisper: Path) -> None:
    shop = open_shop(data, whisper, 4, DecoderWorkshop)
    way = Lora(decoder=True, rank=2, alpha=6)
    lesson = shop.lesson_for(way, shop.problem.rows["train"], True)
    network = adapting(resumable(way, lesson), way, shop.spelling)
    with torch.no_grad():
        for one in network.head.values():
            one.copy_(torch.randn_like(one))
    folded = decoder_of(shop.backbone, factors(network.head, way))
    frames, there = frames_of(shop.backbone, clips()[:2])
    tokens = torch.tensor([[3, 5, 7], [3, 9, 4]])
    torch.testing.assert_close(
        folded(tokens, frames, there), network.decoder(tokens, frames, there), atol=1e-4, rtol=1e-4
    )


@pytest.fixture(scope="module")
def run(data: Path, whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of adapters on the decoder, beside a head alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speech_workshop, "PROFILE_STEPS", 6)
        patch.setattr(speech_workshop, "FEWEST_STEPS", 6)
        patch.setattr(speech_workshop, "STEPS", 6)
        patch.setattr(decoder_workshop, "FEWEST_EPOCHS", 2)
        patch.setattr(decoder_workshop, "MOST_EPOCHS", 3)
        out = tmp_path_factory.mktemp("runs") / "run"
        headstart.fit(data, backbone=str(whisper), strategy="lora", out=out)
    return out


def test_a_fit_tells_what_the_decoder_is_worth(run: Path) -> None:
    metrics, plan = json.loads((run / "metrics.json").read_text()), Plan.read(run)
    assert (plan.strategy, plan.settings["decoder"], plan.cut, plan.reads) == ("lora", True, 4, (3,))
    assert {one.strategy for one in plan.candidates} == {"frozen", "lora"}
    assert all(one.score is not None for one in plan.candidates)
    assert [one.outcome for one in plan.candidates] == ["better, but another way was asked for", "chosen"]
    wanted = {"the usual transcript", "a head on log-mel frames", "the decoder as it was pretrained"}
    assert metrics["baselines"].keys() == wanted
    report = (run / "report.html").read_text()
    assert "low-rank adapters on the decoder" in report
    assert "the pretrained decoder, with trained low-rank adapters" in report
    assert "the decoder as it was pretrained" in report


def test_a_run_comes_back_as_it_was(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)  # prediction does not need it
    model = headstart.load(run)
    assert isinstance(model.recognizer, AdaptedDecoder)
    tested = pd.read_parquet(run / "predictions.parquet")
    heard = model.predict_proba(list(tested["input"]))
    assert model.task.decode(heard) == list(tested["prediction"])
    np.testing.assert_allclose([one.confidence for one in heard], tested["confidence"], atol=1e-4)
    kept = json.loads((run / "metrics.json").read_text())["metrics"]
    assert model.evaluate(data).metrics["cer"].value == pytest.approx(kept["cer"]["value"])
    assert any(one.words for one in heard)
    for one in heard:
        assert all(0 <= word.start < word.end for word in one.words)


def test_another_tokenizer_is_noticed(run: Path, whisper: Path, tmp_path: Path) -> None:
    model = headstart.load(run)
    assert isinstance(model.recognizer, AdaptedDecoder)
    other = load_again(save_tokenizer(save_tiny("whisper", tmp_path / "whisper"), languages=True))
    with pytest.raises(BackboneError, match="another than the one"):
        model.recognizer.network(other)


def test_a_plan_is_done_again(run: Path, data: Path, whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_workshop, "STEPS", 6)  # of the head on log-mel frames
    first, again = headstart.load(run).recognizer, headstart.fit(data, plan=run, backbone=str(whisper)).recognizer
    assert isinstance(first, AdaptedDecoder)
    assert isinstance(again, AdaptedDecoder)
    assert again.to_json() == first.to_json()
    for name, tensor in first.head.items():
        np.testing.assert_allclose(tensor, again.head[name], atol=1e-6)


def test_adapters_on_a_decoder_freeze_every_stage() -> None:
    assert Lora(decoder=True).cut(5) == 5
    with pytest.raises(PlanError, match="LoRA on this backbone"):
        Lora(freeze=5).cut(5)
