"""README and docs say what is true: generated pages are current, links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from docs.generate import pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_pages_are_current(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_option_of_the_topology_example_is_accepted() -> None:
    from partc import Topology

    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/topology.md").read_text(), re.DOTALL)
    data = tomllib.loads(blocks[0])
    assert Topology.parse(data).hosts


def test_the_readme_shows_no_figure_without_its_benchmark() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- figures -->" not in text
    assert "<!-- demo -->" not in text
