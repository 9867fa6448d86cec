"""A limit on the time that reading one input, or building its graph, may take.

The limit counts processor time of the thread that works on the input. A busy machine, a slow disk or a suspended
process therefore does not count. How soon an exceeded limit is noticed depends on the input:

- Python code in the main thread of a process is interrupted. A system timer sends SIGPROF, and its handler raises the
  error.
- Code in C, which answers no signal, is checked when it returns. lazygraph bounds its work beforehand (``max_images``,
  sizes of texts). SIGVTALRM ends a process that may die (:func:`may_die`), such as a worker of the writer, if no Python
  code has run for more than twice the limit. The next process that makes the same shard finds a note of the input
  (:mod:`lazygraph.writing.crash_isolation`).
- In other threads, an input is checked when it is done.

Windows has neither these signals nor their timers. There a thread calls the handler in the main thread, and
``faulthandler`` ends a process that may die, after ten times the limit by the clock on the wall.
"""

from __future__ import annotations

import _thread
import faulthandler
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from lazygraph.errors import InputError, InputTimeout

__all__ = [
    "EXIT_STATUS",
    "HAS_TIMERS",
    "MAX_SECONDS",
    "check_seconds",
    "limit_child",
    "may_die",
    "one_input",
    "present_limit",
    "time_limit",
]

MAX_SECONDS = 60.0
"""The default processor time that an input may take, s."""
TICK = 1.0  # s of processor time between two checks of the clock; less for short limits
HAS_TIMERS = sys.platform != "win32"
"""Whether a timer of processor time can send a signal."""
EXIT_STATUS = 1
"""The exit status of a process that ``faulthandler`` ends."""


class _Clock(threading.local):
    """The present input of this thread, and its limit."""

    seconds = math.inf
    """The processor time that an input may take."""
    ticking = False
    """Whether a timer checks this clock, so that inputs need not check it."""
    inputs = 0
    """The number of inputs that were begun, which is also the number of the present one."""
    inside = False
    """Whether an input is being worked on."""
    begun = 0.0
    """The time at which the input was begun. With a timer, the time at which the timer first saw it."""
    seen = 0
    """The number of the input that a timer saw last."""
    late = False
    """Whether the input took too long."""


_clock = _Clock()
_mortal = False


def check_seconds(seconds: float) -> float:
    """Return the limit as a float.

    Raises:
        InputError: it is not positive.
    """
    if not seconds > 0:
        msg = f"found max_seconds={seconds}; required: more than 0 s for each input, or inf for no limit"
        raise InputError(msg)
    return float(seconds)


def may_die() -> None:
    """Allow that this process is ended if code in C does not return, because it has no other work."""
    global _mortal  # noqa: PLW0603 - it is so for the whole process
    _mortal = True


class one_input:  # noqa: N801 - a context manager, used like a function
    """Mark the work on one input, as ``with one_input():`` within a :func:`time_limit`. Blocks are not nested.

    Raises:
        InputTimeout: the input took too long. This replaces any other error of the input.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        clock = _clock
        clock.late = False
        clock.inputs += 1
        if not clock.ticking:
            clock.begun = time.thread_time()
        clock.inside = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        clock = _clock
        clock.inside = False
        if not clock.ticking and time.thread_time() - clock.begun > clock.seconds:
            clock.late = True
        if clock.late and (kind is None or (issubclass(kind, Exception) and not issubclass(kind, InputTimeout))):
            raise _timeout()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the processor time of each input that this thread works on within the block.

    In the main thread of a process, lazygraph uses the signal SIGPROF and its timer within the block, and restores them
    afterwards. An input costs less than 1 us.
    """
    before, _clock.seconds = _clock.seconds, seconds
    try:
        with _ticking(seconds):
            yield
    finally:
        _clock.seconds = before


def present_limit() -> float:
    """Return the processor time that each input of this thread may take now, s."""
    return _clock.seconds


def limit_child(seconds: float) -> None:
    """Limit the inputs of a child, which inherits no timers. The child may die.

    Args:
        seconds: the limit of its parent, s.
    """
    may_die()
    _clock.seconds = seconds
    if seconds != math.inf:
        _start_ticking(seconds)


@contextmanager
def _ticking(seconds: float) -> Iterator[None]:
    """Check the clock regularly, if this thread can be interrupted."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    # None is a handler that Python did not install, such as of a profiler in C. It could not be restored.
    if seconds == math.inf or not in_main_thread:
        yield
        return
    handler = signal.getsignal(_SIGNAL)
    if handler is None or _is_used():
        yield
        return
    _start_ticking(seconds)
    try:
        yield
    finally:
        _clock.ticking = False
        _stop_timers()
        signal.signal(_SIGNAL, handler)


def _start_ticking(seconds: float) -> None:
    signal.signal(_SIGNAL, _look_at_the_clock)
    _arm(seconds)
    _clock.ticking = True
    _start_timer(max(0.01, min(TICK, seconds / 4)))


def _look_at_the_clock(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as handlers are called
    clock = _clock
    _arm(clock.seconds)
    if not clock.inside:
        return
    if clock.seen != clock.inputs:
        clock.seen, clock.begun = clock.inputs, time.thread_time()
    elif clock.late or time.thread_time() - clock.begun > clock.seconds:
        clock.late = True
        raise _timeout()  # the next tick raises it again, if other code catches it and continues


if sys.platform == "win32":
    _SIGNAL = signal.SIGFPE  # which nothing sends: Python calls its handler when it is told so
    _PATIENCE = 10  # times the limit

    class _Timer(threading.Thread):
        """Calls the handler in the main thread every ``tick`` seconds, whatever that works on."""

        def __init__(self, tick: float) -> None:
            super().__init__(daemon=True, name="lazygraph-clock")
            self._tick, self._ended = tick, threading.Event()

        def run(self) -> None:
            while not self._ended.wait(self._tick):
                _thread.interrupt_main(_SIGNAL)

        def stop(self) -> None:
            self._ended.set()
            self.join()

    class _Timers:
        running: _Timer | None = None
        nowhere: TextIO | None = None

    def _is_used() -> bool:
        """Whether other code uses the timer."""
        return _Timers.running is not None

    def _start_timer(tick: float) -> None:
        _Timers.running = _Timer(tick)
        _Timers.running.start()

    def _stop_timers() -> None:
        if _mortal:
            faulthandler.cancel_dump_traceback_later()
        if _Timers.running is not None:
            _Timers.running.stop()
            _Timers.running = None

    def _arm(seconds: float) -> None:
        """End this process, if it may die, when it runs no Python code for so long."""
        if _mortal and seconds != math.inf:
            if _Timers.nowhere is None:
                _Timers.nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # as long as the process
            faulthandler.dump_traceback_later(_PATIENCE * seconds + 1, exit=True, file=_Timers.nowhere)

else:
    _SIGNAL = signal.SIGPROF

    def _is_used() -> bool:
        """Whether other code uses the timer."""
        return signal.getitimer(signal.ITIMER_PROF)[0] > 0

    def _start_timer(tick: float) -> None:
        signal.siginterrupt(_SIGNAL, False)
        if _mortal:
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, tick, tick)

    def _stop_timers() -> None:
        if _mortal:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _arm(seconds: float) -> None:
        """End this process, if it may die, when it runs no Python code for so long."""
        if _mortal and seconds != math.inf:
            signal.setitimer(signal.ITIMER_VIRTUAL, 2 * seconds + 1)


def _timeout() -> InputTimeout:
    return InputTimeout(
        f"it took more than {_clock.seconds:g} s of processor time on this machine, the limit (max_seconds)"
    )
