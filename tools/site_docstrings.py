"""An extension of griffe: docstrings of this package, written for Sphinx and for people, as mkdocstrings reads them.

:func:`write` becomes a link where the reference has this name, and code otherwise. A section ``Example:`` becomes
``Examples:``, the name under which griffe knows it.
"""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`~?([\w.]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


def as_markdown(text):
    """A docstring as Markdown with links.

    >>> as_markdown("see :meth:`get` and ``mix``")
    'see `get` and ``mix``'
    >>> as_markdown("see :func:`lazygraph.write`")
    'see <autoref identifier="lazygraph.write" optional><code>lazygraph.write</code></autoref>'
    """
    return EXAMPLE.sub("Examples:", ROLE.sub(_link, text))


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
