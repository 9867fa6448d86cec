"""An extension of griffe: docstrings of this package, written for Sphinx and for people, as mkdocstrings reads them.

:func:`write` becomes a link where the reference has this name, and code otherwise. A section ``Example:`` becomes
``Examples:``, the name under which griffe knows it, and its code without prompts a block of code.
"""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`~?([\w.]+)`")
EXAMPLE = re.compile(r"^Example:\n((?: {4}.*(?:\n|\Z)|\n)+)", re.MULTILINE)


def as_markdown(text):
    """A docstring as Markdown with links.

    >>> as_markdown("see :meth:`get` and ``mix``")
    'see `get` and ``mix``'
    >>> as_markdown("see :func:`lazygraph.write`")
    'see <autoref identifier="lazygraph.write" optional><code>lazygraph.write</code></autoref>'
    >>> print(as_markdown("One.\\n\\nExample:\\n    class A: ..."))
    One.
    <BLANKLINE>
    Examples:
        ```python
        class A: ...
        ```
    <BLANKLINE>
    """
    return EXAMPLE.sub(_examples, ROLE.sub(_link, text))


def _examples(match):
    code = match[1].rstrip()
    if ">>>" not in code:
        code = f"    ```python\n{code}\n    ```"
    return f"Examples:\n{code}\n"


def _link(match):
    name = match[1]
    if not name.startswith("lazygraph."):
        return f"`{name}`"
    return f'<autoref identifier="{name}" optional><code>{name}</code></autoref>'


class Roles(griffe.Extension):
    """Changes every docstring once, when griffe has read it."""

    def on_object(self, *, obj, **_):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
