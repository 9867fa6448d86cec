"""The function ``quiet``, which keeps Lightning's own messages, advice and adverts away from users."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

LOGGERS = ("lightning.pytorch", "lightning.fabric")
# Where warnings come from that speak of how lazygraph calls Lightning, or of how Lightning calls torch.
MODULES = r"lightning(_utilities)?(\.|$)"
ADVICE = (UserWarning, FutureWarning, DeprecationWarning)
# The beginning of a warning that a user can act on: a run was resumed without one of the user's callbacks.
KEPT = "Be aware that when using `ckpt_path`"


class _Marker(Warning):
    """The category of a filter that says: Lightning is quiet. Nothing raises it."""


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out Lightning's messages and advice within the block, or within a decorated function.

    These are the lines about available devices, "Tip:" and other adverts, advice such as "does not have many workers",
    and deprecations between Lightning and torch. A user of lazygraph does not call Lightning, so there is nothing to do
    about them. Everything else is shown: warnings of lazygraph, of torch, and of a model or callback of the user,
    ``RuntimeWarning`` of Lightning, and the warning that a run was resumed without one of its callbacks.

    The filters of ``warnings`` and the levels of two loggers are changed, for all threads, and are restored at the end
    of the block. A level that somebody has set, other than Lightning's own, stays as it is. A block within another one
    changes nothing, so that Python still shows equal warnings of both only once.

    Example:
        >>> with quiet():
        ...     warnings.warn_explicit("install litlogger", UserWarning, "x.py", 1, "lightning.pytorch.trainer")
    """
    if any(category is _Marker for _, _, category, *_ in warnings.filters):
        yield
        return
    loggers = [logger for logger in map(logging.getLogger, LOGGERS) if logger.level == logging.INFO]
    with warnings.catch_warnings():
        for category in ADVICE:
            warnings.filterwarnings("ignore", f"(?!{KEPT})", category, MODULES)
        warnings.filterwarnings("ignore", category=_Marker)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger in loggers:
                if logger.level == logging.WARNING:
                    logger.setLevel(logging.INFO)
