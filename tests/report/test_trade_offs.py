"""The Pareto front and the portfolio, on the page and on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from partc.bundle.manifest import Manifest
from partc.ir.topology import Topology
from partc.report import render_report
from partc.report.facts import codec_text, facts_of, simulation_sentence, verification_sentence
from partc.report.plan_tables import print_plans
from partc.report.tables import print_inspection
from partc.report.trade_offs import pareto_sentence, portfolio_sentence, ruling_plans
from tests.report import sample
from tests.support.narrowing import OPS, Seconds, bundled

COSTS: Seconds = {
    "camera": {op: 0.0005 if op.startswith("/stem") else 0.02 for op in OPS},
    "server": 0.0002,
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """With a front, a portfolio and an encoded transfer."""
    topology = Topology.parse(
        {
            "hosts": {"camera": {"power_active_w": 3.0}, "server": {"power_active_w": 30.0}},
            "links": [{"between": ["camera", "server"], "bandwidth_mbit_s": 20, "rtt_ms": 2}],
            "constraints": {"codecs": ["int8"], "loss_budget": 0.05, "private_blocks": 2},
            "conditions": {"bandwidth_mbit_s": [0.05, 1000], "device_slowdown": [1, 5]},
        }
    )
    folder = tmp_path_factory.mktemp("trade") / "bundle"
    return bundled(topology, COSTS, folder, pareto="latency/energy").manifest


def shown(manifest: Manifest, width: int = 100) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width)
    print_inspection(console, manifest)
    print_plans(console, manifest)
    return text.getvalue()


def test_the_page_draws_who_rules_where(manifest: Manifest) -> None:
    page = render_report(manifest)
    assert manifest.portfolio is not None and manifest.pareto is not None
    for part in ('id="figure-conditions"', 'id="figure-pareto"', 'href="#conditions"'):
        assert part in page
    for plan in manifest.portfolio.plans:
        assert plan.name in page
    assert portfolio_sentence(manifest.portfolio) in page
    assert pareto_sentence(manifest.pareto) in page
    drawings = page.count("<title>The best plan over the range:")
    assert drawings == 2, "one for each width"


def test_shares_add_up_and_follow_the_map(manifest: Manifest) -> None:
    found = ruling_plans(facts_of(manifest))
    assert sum(plan.share for plan in found) == pytest.approx(1.0)
    assert sum(plan.share > 0 for plan in found) >= 2
    assert all(" on camera" in plan.what or " on server" in plan.what for plan in found)


def test_the_terminal_shows_the_same(manifest: Manifest) -> None:
    text = shown(manifest)
    assert manifest.portfolio is not None
    assert all(plan.name in text for plan in manifest.portfolio.plans)
    assert "within 5.0 % of the optimum" in text
    assert "blocks on camera" in text


def test_encoded_transfers_show_from_what_size(manifest: Manifest) -> None:
    encoded = [t for t in manifest.plan.transfers if t.codec == "int8"]
    assert encoded
    said = codec_text(facts_of(manifest), encoded[0])
    assert said.startswith("int8, from ")
    assert said in render_report(manifest)
    assert "int8, from" in shown(manifest)


def test_the_loss_is_beside_the_budget(manifest: Manifest) -> None:
    said = verification_sentence(facts_of(manifest))
    assert "Encoding on the way loses " in said
    assert said.endswith("5.0 % was allowed.")
    plain, _ = sample.chain()
    assert "Encoding" not in verification_sentence(facts_of(plain))


def test_side_by_side_is_said_where_it_saves_something(manifest: Manifest) -> None:
    proof = manifest.certificate
    assert simulation_sentence(facts_of(manifest)) is None, "one thing after the other"
    faster = proof.model_copy(update={"simulated_s": 0.5 * (proof.latency_s or 0.0)})
    said = simulation_sentence(facts_of(manifest.model_copy(update={"certificate": faster})))
    assert said is not None and "instead of" in said


def test_partly_certified_is_said(manifest: Manifest) -> None:
    assert manifest.portfolio is not None
    less = manifest.portfolio.model_copy(update={"certified_fraction": 0.42})
    assert "in 42 % of the declared range" in portfolio_sentence(less)


def test_a_front_of_one_plan(manifest: Manifest) -> None:
    assert manifest.pareto is not None
    one = manifest.pareto.model_copy(update={"points": manifest.pareto.points[:1]})
    page = render_report(manifest.model_copy(update={"pareto": one}))
    assert "in latency and in energy at once" in page
    assert 'id="figure-pareto"' not in page


def test_without_either_nothing_is_shown(tmp_path: Path) -> None:
    plain, reads = sample.chain()
    page = render_report(plain, reads=reads)
    assert "figure-conditions" not in page
    assert "figure-pareto" not in page
    text = io.StringIO()
    print_plans(Console(file=text), plain)
    assert text.getvalue() == ""
