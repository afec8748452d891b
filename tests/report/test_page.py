from __future__ import annotations

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from partc.bundle.manifest import Manifest
from partc.report import render_report
from tests.report import sample

Sample = Callable[[], tuple[Manifest, sample.Reads]]

SAMPLES: list[Sample] = [
    sample.chain, sample.branching, sample.device_only, sample.hostile, sample.with_engines,
]  # fmt: skip
VOID = {"meta", "br", "hr", "img", "link", "input"}
FIGURES = {"figure-request", "figure-strategies", "figure-bandwidth", "figure-sizes"}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rendered(make: Sample) -> str:
    manifest, reads = make()
    return render_report(manifest, reads=reads)


@pytest.mark.parametrize("make", SAMPLES)
def test_page_is_well_formed_and_has_every_figure(make: Sample) -> None:
    page = Page(rendered(make))
    assert {*FIGURES, "figure-graph"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    labelled = sum(name == "aria-label" and tag == "svg" for tag, name, _ in page.attributes)
    assert labelled >= 8


@pytest.mark.parametrize("make", SAMPLES)
def test_page_needs_nothing_from_outside(make: Sample) -> None:
    text = rendered(make)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    references = [v for _, name, v in page.attributes if name in ("href", "src", "xlink:href")]
    assert all(value.startswith("#") for value in references)
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "http:" not in text and "https:" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    text = rendered(sample.hostile)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert not set("\x00\x1b\u202e") & set(text)
    assert "<b>N</b>" not in text
    text.encode("utf-8")


def test_lone_surrogates_do_not_break_the_page() -> None:
    layers = sample.mobilenet_layers({"stem": "bad\ud800name"})
    render_report(sample.manifest_of(layers), reads=layers.reads).encode("utf-8")


def test_estimates_are_marked() -> None:
    assert '<span class="badge estimated">estimated</span>' in rendered(sample.hostile)
    assert '<span class="badge estimated">' not in rendered(sample.chain)


def test_cuts_are_labelled_in_the_graph() -> None:
    text = rendered(sample.branching)
    for number in range(1, 8):
        assert f">cut {number}: " in text
    assert 'class="edge cut"' in text


def test_the_same_manifest_gives_the_same_page() -> None:
    assert rendered(sample.chain) == rendered(sample.chain)


def test_without_verdict_and_sweep_there_is_no_bandwidth_figure() -> None:
    manifest, reads = sample.device_only(with_verdict=False)
    page = Page(render_report(manifest, reads=reads))
    assert "figure-bandwidth" not in page.ids
    assert "figure-sizes" in page.ids


def test_without_recorded_reads_the_page_says_so() -> None:
    manifest, _ = sample.chain()
    assert "does not record which block reads which tensor" in render_report(manifest, reads={})


def test_a_manifest_with_no_strategies_and_no_blocks_still_renders() -> None:
    manifest, _ = sample.device_only(with_verdict=False)
    Page(render_report(manifest.model_copy(update={"strategies": [], "blocks": []})))


def test_a_large_page_is_small_and_soon_there() -> None:
    rendered(sample.chain)
    start = time.perf_counter()
    text = rendered(sample.branching)
    assert time.perf_counter() - start < 5
    assert len(text.encode()) < 1_500_000


def cells(text: str, region: str) -> list[list[str]]:
    """Rows of a table of the page, as text."""
    table = text[text.index(f'aria-label="{region}"') :]
    body = re.search(r"<tbody>(.*?)</tbody>", table, re.DOTALL)
    assert body is not None
    return [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in body[1].split("</tr>")
        if "<t" in row
    ]


def test_engines_and_refused_ops_have_their_tables() -> None:
    manifest, reads = sample.with_engines(built_by="the agent of host 'server' at 10.0.0.2:8600")
    text = render_report(manifest, reads=reads)
    (file,) = manifest.hosts[sample.SERVER].engines["s1"].built
    assert cells(text, "Engines") == [
        ["s1", "server", "tensorrt-rtx", "fp16", "built", "tensorrt_rtx 1.7.1.2",
         "8.9, linux-x86_64", "4.77 MiB",
         "1.25 s", file.key.digest[:12], "cdcdcdcdcdcd"],
    ]  # fmt: skip
    by = "the agent of host &#39;server&#39; at 10.0.0.2:8600"
    assert f"Engines of server were built by {by}." in text
    assert "Engines of server: not for compute capability 7.5: no tactic." in text
    assert "1 segment runs as an engine, built with the bundle." in text
    assert cells(text, "Ops that a host cannot run") == [
        ["server", "2", "stem_conv, stem_clip", "backend", "no implementation of Stem", "camera"],
        ["server", "1", "features.0.depthwise_conv", "builder", "no tactic", "camera"],
    ]
    assert "the placement was solved again without it" in text


def test_engines_that_the_host_builds() -> None:
    manifest, reads = sample.with_engines()
    data = manifest.model_dump(mode="json", by_alias=True)
    entry = data["hosts"][sample.SERVER]["engines"]["s1"]
    entry |= {"state": "build_on_target", "built": [], "reason": "there is no GPU here"}
    text = render_report(Manifest.parse(data), reads=reads)
    assert cells(text, "Engines")[0][4:8] == ["to be built on the host", "tensorrt_rtx", "", ""]
    assert "Engines of server: there is no GPU here." in text
    assert "1 segment runs as an engine, to be built on the host." in text


def test_what_builders_and_agents_say_is_shown_and_not_obeyed() -> None:
    evil = "<script>alert(1)</script>\x1b[2J"
    manifest, reads = sample.with_engines(reason=evil, refused=evil, built_by=evil)
    text = render_report(manifest, reads=reads)
    assert "<script" not in text and "\x1b" not in text
    assert text.count("&lt;script&gt;alert(1)") == 3


def test_without_engines_there_is_no_section_of_them() -> None:
    page = Page(rendered(sample.chain))
    assert not {"engines", "refused"} & set(page.ids)
