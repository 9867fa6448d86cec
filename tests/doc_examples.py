"""The Python examples of a page of documentation, run one after another in one namespace."""

from __future__ import annotations

import re

__all__ = ["run_examples"]


def run_examples(page):
    """Run every block of Python of a page in the current folder; the names that they leave."""
    text = page.read_text(encoding="utf-8")
    namespace = {}
    for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        line = text[: block.start()].count("\n") + 1  # so that a traceback shows the line of the page
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)
    return namespace
