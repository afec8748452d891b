"""Code that a page of the documentation shows, as a module."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


def python_of(page: str) -> str:
    """The one complete module that a page shows."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (module,) = (block for block in blocks if block.startswith('"""'))
    return str(module)


def module_of(page: str, name: str) -> ModuleType:
    """That module, executed under a name."""
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(python_of(page), page, "exec"), module.__dict__)
    return module
