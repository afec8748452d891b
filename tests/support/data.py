"""Trained models and real inputs for them, from the folder that PARTC_DATA names.

The folder is not part of the project. Where the variable is unset, tests that ask for it are
skipped; a folder that is named but incomplete makes them fail.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Feeds = dict[str, npt.NDArray[Any]]
Images = npt.NDArray[np.float32]

CIFAR_MEAN: Images = np.array([0.485, 0.456, 0.406], np.float32)
CIFAR_STD: Images = np.array([0.229, 0.224, 0.225], np.float32)

PHOTOS = {
    # file: top-1 class of MobileNetV2, where 0 is the background
    "images/parrot.jpg": 89,
    "images/cat_720p.jpg": 286,
    "images/hot_dog.jpg": 935,
    "images/grace_hopper.bmp": 653,
}


@dataclass(frozen=True)
class TrainedModel:
    """One model with trained weights; nothing is read before `path` or `sample` is called."""

    name: str
    file: str
    build_sample: Callable[[int], Feeds]
    dynamic_batch: bool = True

    def path(self) -> Path:
        """Where the model lies; skips the test when there is no data folder."""
        path = data_dir() / "models" / self.file
        if not path.is_file():
            pytest.fail(f"PARTC_DATA has no models/{self.file}")
        return path

    def sample(self, batch: int = 1) -> Feeds:
        """Real inputs for the model, `batch` of them."""
        if batch != 1 and not self.dynamic_batch:
            raise ValueError(f"{self.name} takes one sample at a time")
        return self.build_sample(batch)


def data_dir() -> Path:
    """The folder with trained models and labelled images, or skip the test."""
    folder = os.environ.get("PARTC_DATA")
    if not folder:
        pytest.skip("PARTC_DATA is not set: it names the folder with the trained models")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"PARTC_DATA names {folder}, which is not a folder")
    return path


def cifar_images(count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The first test images [count, 32, 32, 3], RGB from 0 to 255, and their classes [count]."""
    with np.load(data_dir() / "cifar10" / "cifar10_test_2000.npz") as archive:
        return archive["images"][:count], archive["labels"][:count]


def cifar_raw(count: int) -> Images:
    """CIFAR images without scaling, [count, 3, 32, 32]."""
    return cifar_images(count)[0].astype(np.float32).transpose(0, 3, 1, 2).copy()


def cifar_normalised(count: int) -> Images:
    """CIFAR images with mean and deviation removed, [count, 3, 32, 32]."""
    scaled = cifar_raw(count) / np.float32(255)
    return (scaled - CIFAR_MEAN[:, None, None]) / CIFAR_STD[:, None, None]


def photo(file: str, width: int, height: int, *, keep: float = 1.0) -> Images:
    """A photo squeezed to a size, [1, 3, height, width], RGB from 0 to 255.

    Of each side the middle `keep` is used; ImageNet models are usually rated with 0.875.
    """
    with Image.open(data_dir() / file) as image:
        margin_x, margin_y = ((1 - keep) / 2 * side for side in image.size)
        middle = (margin_x, margin_y, image.width - margin_x, image.height - margin_y)
        pixels = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR, middle)
    return np.asarray(pixels, np.float32).transpose(2, 0, 1)[None].copy()


def photos_from_minus_one_to_one(files: Sequence[str], size: int, *, keep: float = 1.0) -> Images:
    """Photos as MobileNetV2 and DeepLab want them, [len(files), 3, size, size]."""
    pixels = np.concatenate([photo(file, size, size, keep=keep) for file in files])
    return (pixels / 127.5 - 1).astype(np.float32)


def labelled_photos(count: int) -> list[tuple[str, int]]:
    """Photos of different ImageNet classes: file, class from 0 to 999 (without a background)."""
    folder = Path("images") / "imagenet_sample_200"
    with (data_dir() / folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    return [(str(folder / row["file"]), int(row["imagenet_index_0_999"])) for row in rows]


def spoken_vowel(samples: int) -> npt.NDArray[np.float32]:
    """A synthetic "ah" at 16 kHz, [samples]: a voice of 120 Hz with vibrato, in three formants."""
    seconds = np.arange(samples) / 16_000
    pitch = 120 + 20 * np.sin(2 * np.pi * 5 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    wave: npt.NDArray[np.float64] = np.zeros(samples)
    for harmonic in range(1, 33):
        formants = ((730, 90), (1090, 110), (2440, 170))
        loudness = sum(1 / (1 + ((120 * harmonic - f) / width) ** 2) for f, width in formants)
        wave += loudness * np.sin(harmonic * phase)
    loudest = float(np.abs(wave).max())
    return (0.3 / loudest * wave).astype(np.float32)


def _photo_sample(size: int) -> Callable[[int], Feeds]:
    def build(batch: int) -> Feeds:
        files = [list(PHOTOS)[i % len(PHOTOS)] for i in range(batch)]
        return {"input": photos_from_minus_one_to_one(files, size)}

    return build


def _face_sample(batch: int) -> Feeds:
    pixels = photo("images/grace_hopper.bmp", width=320, height=240)
    return {"input": (pixels - np.float32(127)) / np.float32(128)}


def _speech_sample(batch: int) -> Feeds:
    chunk = spoken_vowel(576 * batch).reshape(batch, 576)
    state = np.zeros((2, batch, 128), np.float32)
    return {"input": chunk, "state": state, "sr": np.array(16_000, np.int64)}


def _cifar(name: str, file: str, build: Callable[[int], Images]) -> TrainedModel:
    return TrainedModel(name, file, lambda batch: {"input": build(batch)})


TRAINED_MODELS = (
    _cifar("resnet8", "cifar10_resnet8.onnx", cifar_raw),
    _cifar("resnet8-loop", "cifar10_resnet8_loop.onnx", cifar_raw),
    _cifar("resnet20", "cifar10_resnet20.onnx", cifar_normalised),
    _cifar("resnet32-external", "cifar10_resnet32_external/model.onnx", cifar_normalised),
    _cifar("resnet56", "cifar10_resnet56.onnx", cifar_normalised),
    _cifar("tinyvit", "cifar10_tinyvit.onnx", cifar_normalised),
    TrainedModel("mobilenetv2", "mobilenetv2_1.0_224.onnx", _photo_sample(224)),
    TrainedModel("deeplabv3", "deeplabv3_mnv2_0.5_513.onnx", _photo_sample(513)),
    TrainedModel("ultraface", "ultraface_rfb320.onnx", _face_sample, dynamic_batch=False),
    TrainedModel("silero-vad", "silero_vad.onnx", _speech_sample),
)


def trained_model(name: str) -> TrainedModel:
    """The model of that name among TRAINED_MODELS."""
    for model in TRAINED_MODELS:
        if model.name == name:
            return model
    raise KeyError(f"no {name!r} among {[model.name for model in TRAINED_MODELS]}")
