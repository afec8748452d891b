"""Suggestions for names that somebody mistyped."""

from __future__ import annotations

import pytest

from partc.suggest import unknown_name


@pytest.mark.parametrize("given", ["Server", "SERVER", "sever", "Sevrer", "SERVER1"])
def test_case_does_not_hide_a_name(given: str) -> None:
    assert "Did you mean 'server'?" in unknown_name("host", given, ["camera", "server"])


def test_the_known_spelling_is_suggested() -> None:
    said = unknown_name("op", "conv_0", ["Conv_0", "Relu_1"])
    assert said == "There is no op named 'conv_0'. Did you mean 'Conv_0'? Known: Conv_0, Relu_1."


def test_names_that_differ_by_case_alone() -> None:
    assert "Did you mean 'convs'?" in unknown_name("op", "conv", ["Convs", "convs"])
    assert "Did you mean 'CONVS'?" in unknown_name("op", "CONV", ["CONVS", "convs"])


def test_nothing_is_close() -> None:
    assert unknown_name("host", "gpu", ["camera"]) == (
        "There is no host named 'gpu'. Known: camera."
    )
    assert unknown_name("host", "gpu", []) == "There is no host named 'gpu'. None are known."
