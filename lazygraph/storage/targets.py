"""Where datasets can be published: the class of each scheme of URLs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazygraph.errors import InputError
from lazygraph.storage.target import Target
from lazygraph.storage.transport import shown

__all__ = ["TARGETS", "open_target"]


def _bucket(url: str, **options: Any) -> Target:
    from lazygraph.storage.bucket import BucketTarget

    return BucketTarget(url, **options)


def _hub(url: str, **options: Any) -> Target:
    from lazygraph.storage.hub_target import HubTarget

    return HubTarget(url, **options)


def _sftp(url: str, **options: Any) -> Target:
    from lazygraph.storage.sftp import SftpTarget

    return SftpTarget(url, **options)


TARGETS: dict[str, Callable[..., Target]] = {
    **dict.fromkeys(("s3", "gs", "gcs", "az", "abfs"), _bucket),
    "hf": _hub,
    "sftp": _sftp,
}
"""Scheme of a URL -> what publishes there."""


def open_target(url: str, *, public: bool = False) -> Target:
    """Return the place of a URL; nothing is sent yet.

    Args:
        url: such as ``"s3://bucket/mp.lg"``.
        public: let a repository that is made on the Hub be public.

    Raises:
        InputError: nothing can be published there.
    """
    scheme = url.partition("://")[0]
    if scheme not in TARGETS:
        places = ", ".join(f"{name}://" for name in TARGETS)
        msg = f"nothing can be pushed to {shown(url)}; give a folder, or a URL that begins with {places}"
        raise InputError(msg)
    if public and scheme != "hf":
        msg = f"public works only for repositories of the Hub; the server of {shown(url)} decides who has access"
        raise InputError(msg)
    return TARGETS[scheme](url, **({"public": True} if public else {}))
