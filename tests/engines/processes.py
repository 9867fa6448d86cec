"""What tests of engines do with processes: wait for them, and kill one that makes a shard."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import psutil

from lazygraph.writing.layout import Layout


def until(condition, process=None, seconds=120.0):
    """Wait for a condition; fail where a process ends before, or after a long time."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}:\n{process.log.read_text()[-4000:]}")
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def ended(process, seconds=240.0):
    """The exit code of a process, and what it printed."""
    code = process.wait(timeout=seconds)
    return code, process.log.read_text()


def finished(path):
    """How many shards of a dataset that is being made are finished."""
    rows = Layout.of(path).rows
    return len(list(rows.glob("*.msgpack"))) if rows.is_dir() else 0


def makers(partial):
    """The processes that make shards right now: whoever holds the note of a shard open."""
    found = []
    for process in psutil.process_iter(["pid"]):
        with suppress(psutil.Error, OSError):
            links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
            if any("/at/" in link and link.startswith(str(partial)) for link in links):
                found.append(process)
    return found


def kill_a_maker(path, process):
    """Kill one process that makes a shard of this dataset."""
    partial = Layout.of(path).partial
    victims = []

    def found():
        victims.extend(makers(partial))
        return bool(victims)

    until(found, process)
    victims[0].send_signal(signal.SIGKILL)
    return victims[0].pid
