"""Target files: every figure is read, and whatever is wrong is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from partc.errors import TargetError
from partc.targets.registry import load_target, preset_names

FULL = """\
backend = "onnxruntime"
description = "Our gateway"
optimization = "extended"
missing = "pip install it"
provider = "CUDAExecutionProvider"

[provider_options]
device_id = 0
use_tf32 = false
arena_extend_strategy = "kSameAsRequested"

[hardware]
vendor = "Ours"
product = "Gateway 3"
kind = "gpu"
processor = "A GPU"
architecture = "aarch64"
cores = 8
memory_mib = 2048
memory_type = "LPDDR4"
memory_bandwidth_bytes_per_s = 25e9
overflow_bandwidth_bytes_per_s = 1e9
precisions = ["fp32", "fp16"]
ops = ["Conv", "Relu"]
power_active_w = 10
power_idle_w = 1.5
power_tx_w = 2
power_rx_w = 1
price_usd = 100
recognised_by = ["Gateway"]

[hardware.peak_flop_s]
fp32 = 1e11
fp16 = 2e11
int8 = 4e11
"""


def target_of(folder: Path, text: str) -> str:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_may_say_all_there_is(tmp_path: Path) -> None:
    target = load_target(target_of(tmp_path, FULL))
    assert (target.name, target.backend, target.optimization) == (
        "gateway",
        "onnxruntime",
        "extended",
    )
    assert target.provider == "CUDAExecutionProvider"
    assert target.provider_options == (
        ("arena_extend_strategy", "kSameAsRequested"),
        ("device_id", "0"),
        ("use_tf32", "0"),
    )
    hardware = target.hardware
    assert hardware.peak_flop_s == {"fp32": 1e11, "fp16": 2e11, "int8": 4e11}
    assert hardware.computes_in == ("fp32", "fp16")
    assert (hardware.power_active_w, hardware.power_idle_w, hardware.price_usd) == (10, 1.5, 100)
    assert hardware.recognised_by == ("Gateway",)


def test_a_backend_is_all_that_a_file_needs(tmp_path: Path) -> None:
    target = load_target(target_of(tmp_path, 'backend = "onnxruntime"\n'))
    assert not target.hardware.has_rates
    assert target.provider == "" and target.optimization == "all"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'it needs backend = "NAME"'),
        ("backend = 3\n", "backend: Input should be a valid string (given: 3)"),
        ('backend = ""\n', "backend: "),
        ('backed = "onnxruntime"\n', "There is no key named 'backed'. Did you mean 'backend'?"),
        ('backend = "x"\n[hardware]\nvendr = "A"\n', "Did you mean 'vendor'?"),
        ('backend = "x"\n[hardware]\nkind = "toaster"\n', "hardware.kind: "),
        ('backend = "x"\n[hardware]\nmemory_mib = -1\n', "hardware.memory_mib: "),
        ('backend = "x"\n[hardware]\nmemory_mib = nan\n', "hardware.memory_mib: "),
        ('backend = "x"\n[hardware]\nprice_usd = inf\n', "hardware.price_usd: "),
        ('backend = "x"\n[hardware]\npower_idle_w = "1"\npower_active_w = []\n', "power_active_w"),
        ('backend = "x"\n[hardware]\npower_idle_w = 9\npower_active_w = 1\n', "swap them"),
        ('backend = "x"\n[hardware.peak_flop_s]\nfp33 = 1e9\n', "'fp32'"),
        ('backend = "x"\n[hardware.peak_flop_s]\nfp32 = 0\n', "hardware.peak_flop_s.fp32: "),
        (
            'backend = "x"\n[hardware]\nprecisions = ["fp16"]\n[hardware.peak_flop_s]\nfp32=1e9\n',
            "precisions names 'fp16'",
        ),
        (
            'backend = "x"\n[hardware]\noverflow_bandwidth_bytes_per_s = 1e9\n',
            "needs memory_mib",
        ),
        ('backend = "x"\n[provider_options]\na = 1\n', "without a provider"),
        ('backend = "x"\nprovider = "P"\n[provider_options]\na = [1]\n', "provider_options.a: "),
        ('backend = "x"\nhardware = 3\n', "hardware: "),
        ("backend = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(target_of(tmp_path, text))
    message = str(caught.value)
    assert said in message
    assert "gateway.toml" in message
    assert "\n" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be read: No such file"):
        load_target(str(tmp_path / "none.toml"))
    with pytest.raises(TargetError, match="cannot be read: Is a directory"):
        (tmp_path / "folder.toml").mkdir()
        load_target(str(tmp_path / "folder.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not valid TOML"):
        load_target(str(tmp_path / "bytes.toml"))


def test_an_unknown_preset_is_suggested() -> None:
    with pytest.raises(TargetError, match=r"Did you mean 'jetson-nano'\?"):
        load_target("jetson-nan")


PUBLISHED = {
    "intel-myriad-x": (2.5, "SRAM", 2.5, 59),
    "google-edge-tpu": (8, "SRAM", 2.0, 75),
    "jetson-nano": (4096, "LPDDR4", 10.0, 99),
    "jetson-tx2": (8192, "LPDDR4", 15.0, 399),
    "jetson-orin-nano": (8192, "LPDDR5", 15.0, 499),
    "jetson-orin-nx": (16384, "LPDDR5", 25.0, 899),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_memory_power_and_price(name: str) -> None:
    hardware = load_target(name).hardware
    figures = (
        hardware.memory_mib,
        hardware.memory_type,
        hardware.power_active_w,
        hardware.price_usd,
    )
    assert figures == PUBLISHED[name]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_what_cannot_be_measured_everywhere_has_rates(name: str) -> None:
    target = load_target(name)
    assert target.description
    if target.hardware.recognised_by or target.hardware.typical:
        assert target.hardware.has_rates
        text = target.origin.read_text(encoding="utf-8")
        assert "#" in text, "the source of each figure is in a comment"


@pytest.mark.parametrize("name", preset_names())
def test_ops_of_presets_are_onnx_ops(name: str) -> None:
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert set(load_target(name).hardware.ops) <= standard


@pytest.mark.parametrize("op", ["ArgMax", "DepthToSpace", "Expand"])
def test_an_edge_tpu_is_not_given_what_its_compiler_leaves_to_the_host(op: str) -> None:
    assert op not in load_target("google-edge-tpu").hardware.ops


def test_weights_of_a_myriad_x_do_not_arrive_with_each_request() -> None:
    """They stay in the memory of its package; only how fast that is has no source."""
    assert load_target("intel-myriad-x").hardware.overflow_bandwidth_bytes_per_s is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_of_the_paper_is_said_to_be(name: str) -> None:
    text = load_target(name).origin.read_text(encoding="utf-8")
    assert "# Memory, power and price are from table 1 of the paper" in text
