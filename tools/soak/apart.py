"""One call in a process of its own, with a deadline and bounds: what it returned, or how it died."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import traceback

MEMORY = 2**30  # bytes beyond what the process has mapped already


def apart(call, *arguments, seconds=60, memory=MEMORY, compiled=True):
    """Call in a forked child.

    Returns:
        ``("returned", value)`` with a value that JSON can hold, ``("raised", traceback)``, ``("signal", name)``,
        ``("exit", status)`` or ``("hung", seconds)``.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _run(writing, call, arguments, memory, compiled=compiled)
    os.close(writing)
    answer, end = b"", time.monotonic() + seconds
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(end - time.monotonic(), 0))[0]:
            if not (part := pipe.read(2**16)):
                break
            answer += part
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung", seconds
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "signal", signal.Signals(os.WTERMSIG(status)).name
    return tuple(json.loads(answer)) if answer else ("exit", os.WEXITSTATUS(status))


def _run(writing, call, arguments, memory, *, compiled):
    status = 1
    try:
        if not compiled:
            from lazygraph.native import kernels

            os.environ["LAZYGRAPH_NATIVE"] = "0"
            kernels.cache_clear()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm") as statm:
            mapped = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)
        try:
            answer = ("returned", call(*arguments))
        except BaseException:  # noqa: BLE001 - whatever it is, it is the answer
            answer = ("raised", traceback.format_exc())
        content = json.dumps(answer).encode()
        while content:
            content = content[os.write(writing, content) :]
        status = 0
    finally:
        os._exit(status)  # nothing of the parent's may run twice
