from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from partc.bundle.manifest import Manifest
from partc.report import render_report
from tests.report import sample
from tests.support.tiled_bundles import two_groups

CHROMIUM = next((p for n in ("chromium", "google-chrome") if (p := shutil.which(n))), None)


def tiled() -> tuple[Manifest, sample.Reads | None]:
    return two_groups(), None


SAMPLES: dict[str, Callable[[], tuple[Manifest, sample.Reads | None]]] = {
    "chain": sample.chain,
    "branching": sample.branching,
    "hostile": sample.hostile,
    "tiled": tiled,
    "engines": sample.with_engines,
}

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--hide-scrollbars",
    "--dump-dom",
]

FRAME = """<!DOCTYPE html><body>
<iframe src="page.html" style="width:{width}px;height:3000px;border:0"></iframe>
<p id="answer"></p><script>
document.querySelector("iframe").onload = event => {{
  const root = event.target.contentDocument.documentElement;
  document.getElementById("answer").textContent = "widths " + root.scrollWidth + " " +
    root.clientWidth + " " + root.querySelectorAll("script").length;
}};</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", SAMPLES)
def test_page_fits_and_logs_nothing(name: str, width: int, tmp_path: Path) -> None:
    manifest, reads = SAMPLES[name]()
    (tmp_path / "page.html").write_text(render_report(manifest, reads=reads), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    command = [
        str(CHROMIUM),
        *FLAGS,
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1400,900",
        frame.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"widths (\d+) (\d+) (\d+)", done.stdout)
    assert found is not None, done.stderr[-2000:]
    scroll_width, client_width, scripts = map(int, found.groups())
    assert client_width == width
    assert scroll_width <= client_width
    assert scripts == 0
    assert "CONSOLE" not in done.stderr
