"""The sample inputs are prepared as the models were trained: their answers are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.data import (
    PHOTOS,
    TRAINED_MODELS,
    TrainedModel,
    cifar_images,
    cifar_normalised,
    cifar_raw,
    data_dir,
    labelled_photos,
    photos_from_minus_one_to_one,
    spoken_vowel,
    trained_model,
)
from tests.support.oracle import run_whole


@pytest.mark.parametrize("model", TRAINED_MODELS, ids=lambda model: model.name)
def test_every_model_runs_on_its_sample(model: TrainedModel) -> None:
    for batch in (1, 2) if model.dynamic_batch else (1,):
        answers = run_whole(model.path(), model.sample(batch))
        for values in answers.values():
            assert np.isfinite(values).all()
            assert values.size > 0


@pytest.mark.parametrize("file, label", PHOTOS.items())
def test_mobilenetv2_recognises_the_photos(file: str, label: int) -> None:
    image = photos_from_minus_one_to_one([file], 224)
    logits = run_whole(trained_model("mobilenetv2").path(), {"input": image})["logits"]
    assert logits.shape == (1, 1001)
    assert logits.argmax() == label


def test_mobilenetv2_recognises_labelled_photos() -> None:
    files, labels = zip(*labelled_photos(50), strict=True)
    images = photos_from_minus_one_to_one(files, 224, keep=0.875)
    logits = run_whole(trained_model("mobilenetv2").path(), {"input": images})["logits"]
    assert (logits.argmax(axis=1) - 1 == labels).mean() > 0.7


@pytest.mark.parametrize(
    "name, least",
    [("resnet8", 0.8), ("resnet20", 0.85), ("resnet32-external", 0.85), ("resnet56", 0.85)],
)
def test_cifar_models_recognise_test_images(name: str, least: float) -> None:
    images = cifar_raw(200) if name == "resnet8" else cifar_normalised(200)
    logits = run_whole(trained_model(name).path(), {"input": images})["logits"]
    assert (logits.argmax(axis=1) == cifar_images(200)[1]).mean() > least


def test_ultraface_finds_the_face() -> None:
    model = trained_model("ultraface")
    answers = run_whole(model.path(), model.sample())
    best = answers["scores"][0, :, 1].argmax()
    assert answers["scores"][0, best, 1] > 0.9
    left, top, right, bottom = answers["boxes"][0, best]
    assert 0.2 < (left + right) / 2 < 0.8
    assert 0 < top < bottom < 0.7


def test_silero_tells_a_voice_from_silence() -> None:
    def chance_of_speech(wave: npt.NDArray[np.float32]) -> float:
        feeds = trained_model("silero-vad").sample()
        for start in range(0, len(wave) - 576 + 1, 512):
            feeds["input"] = wave[None, start : start + 576]
            answers = run_whole(trained_model("silero-vad").path(), feeds)
            feeds["state"] = answers["stateN"]
        return float(answers["output"][0, 0])

    assert chance_of_speech(spoken_vowel(12 * 512 + 64)) > 0.5
    assert chance_of_speech(np.zeros(12 * 512 + 64, np.float32)) < 0.1


def test_without_the_variable_a_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PARTC_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="PARTC_DATA is not set"):
        trained_model("resnet8").path()


def test_a_wrong_folder_fails_instead_of_skipping(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARTC_DATA", str(tmp_path / "missing"))
    with pytest.raises(pytest.fail.Exception, match="not a folder"):
        data_dir()
    monkeypatch.setenv("PARTC_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="has no models/"):
        trained_model("resnet8").path()
