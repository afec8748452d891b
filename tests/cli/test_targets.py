"""partc targets: what is known of each, and what an unknown name ends in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.models import MODELS
from partc.targets.registry import preset_names
from tests.cli.support import partc

Capture = pytest.CaptureFixture[str]


def test_every_preset_is_listed_with_where_its_costs_come_from(capfd: Capture) -> None:
    rows = {
        row["name"]: row for row in json.loads(partc(capfd, "targets", "--json").out)["targets"]
    }
    assert set(rows) == set(preset_names())
    assert rows["onnxruntime-cpu"]["costs"] == "measured"
    assert rows["openvino-cpu"]["costs"] == "measured"
    assert rows["google-edge-tpu"]["costs"] == "estimated"
    assert rows["onnxruntime-cuda"]["provider"] == "CUDAExecutionProvider"
    hardware = rows["jetson-orin-nx"]["hardware"]
    assert (hardware["memory_mib"], hardware["power_active_w"]) == (16384, 25)
    assert set(hardware["peak_flop_s"]) == {"fp32", "fp16", "int8"}
    for row in rows.values():
        assert row["costs"] == "measured" or row["reason"] or row["not_this_machine"]


def test_the_list_is_a_table_and_a_sentence_each(capfd: Capture) -> None:
    out = partc(capfd, "targets").out
    for name in preset_names():
        assert out.count(name) >= 2
    assert "no backend named 'edge-tpu' is installed" in out
    assert "has no CoreMLExecutionProvider" in out


def test_one_target_is_shown_whole(capfd: Capture) -> None:
    out = partc(capfd, "targets", "jetson-nano").out
    for text in ("4.00 GiB LPDDR4", "99.0 USD", "active 10.0 W", "25.6 GB/s", "472 GFLOP/s"):
        assert text in out


def test_a_file_is_shown_like_a_preset(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "ours [bold].toml"
    path.write_text('backend = "acme"\nmissing = "ask [red]acme[/]"\ndescription = "Ours"\n')
    out = partc(capfd, "targets", path).out
    assert "ours [bold]" in out
    assert "no backend named 'acme' is installed: ask [red]acme[/]" in out


@pytest.mark.parametrize("command", ["targets", "passes"])
def test_an_unknown_name_ends_in_2_with_a_suggestion(command: str, capfd: Capture) -> None:
    close = {"targets": "jetson-nan", "passes": "partitio"}[command]
    done = partc(capfd, command, close)
    assert done.code == 2
    assert "Did you mean" in done.err


def test_an_unknown_target_ends_in_2_wherever_it_is_named(tmp_path: Path, capfd: Capture) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(MODELS["branching"](seed=0).SerializeToString())
    done = partc(capfd, "profile", model, "--target", "onnxruntime-cpuu", "--no-store")
    assert done.code == 2
    assert "Did you mean 'onnxruntime-cpu'" in done.err
