"""A clip's own length against filled up with silence: who is asked, and when padding pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstart.evidence import lengths
from headstart.evidence.lengths import compare_lengths
from headstart.progress import Progress
from headstart.registry import modality
from headstart.strategies.base import Part
from headstart.tasks.classification import Classification
from headstart.workshop import load_backbone
from tests.test_speech_backbones import save_tiny


@pytest.fixture
def some() -> Part:
    """Twenty clips of two speakers, low and high tones."""
    rng, audio = np.random.default_rng(0), modality("audio")
    y = np.arange(20) % 2
    time = np.arange(6_400) / 16_000
    clips = [np.sin(2 * np.pi * (400 + 900 * k) * time) * 0.3 + 0.02 * rng.standard_normal(6_400) for k in y]
    items = [audio.store(clip.astype(np.float32), None) for clip in clips]
    return Part(items, y, groups=np.arange(20) // 10)


def test_padding_must_be_better_beyond_chance(some: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = modality("audio")
    own = load_backbone(str(save_tiny("whisper", tmp_path / "whisper")), audio, Progress())
    padded = own.padded()
    assert padded is not None
    assert padded.dear
    assert not own.dear
    task = Classification(class_names=("low", "high"), positive="high")
    digests = [audio.examine(item).digest for item in some.features]
    asked = (task, task.metrics()[0], 0)
    same = compare_lengths(own, own, audio, some, digests, asked, Progress())
    assert same.own == same.padded
    assert not same.pays
    both = compare_lengths(own, padded, audio, some, digests, asked, Progress())
    again = compare_lengths(padded, own, audio, some, digests, asked, Progress())
    assert (both.own, both.padded) == (again.padded, again.own)
    for gain, pays in ((0.19, False), (0.21, True)):
        monkeypatch.setattr(lengths.Judge, "gain_over", lambda *_, gain=gain: (gain, 0.2 / 1.96))
        assert compare_lengths(own, padded, audio, some, digests, asked, Progress()).pays == pays
