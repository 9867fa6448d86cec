"""Disks that are full, read-only or forbidden, no descriptors, no shared memory: one clear error, nothing lost, and the
same command goes on.

Each test is a program of its own that mounts what it needs in a mount namespace of its own, and prints what it found.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import contextlib, errno, io, json, os, resource, shutil, subprocess, sys
from pathlib import Path
import lazygraph as lg
from lazygraph.cli.main import main, main_write
from lazygraph.errors import LazyGraphError, StorageError
from lazygraph.writing.edit import gc, set_labels, set_splits

SOURCE, MORE = "prototypes:96?seed=0", "prototypes:64?seed=1"

def mount(path, options, kind="tmpfs"):
    Path(path).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, "lazygraph", str(path)], check=True)

def command(program, *arguments):
    "Code and the lines of stderr."
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = program([str(a) for a in arguments])
    return code, said.getvalue().splitlines()

def write(path, *more, source=SOURCE, workers=1):
    return command(main_write, source, "-o", path, "--shard-size", "16", "--workers", workers, "--no-progress", *more)

def read(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}

def fill(folder, leave):
    "Take all room but this many bytes."
    state = os.statvfs(folder)
    with open(folder / "ballast", "wb") as file:
        for size in (1 << 16, 4096):
            with contextlib.suppress(OSError):
                while os.statvfs(folder).f_bavail * state.f_frsize > max(leave, 4095):
                    file.write(bytes(min(size, os.statvfs(folder).f_bavail * state.f_frsize - leave)))
                    file.flush()

def one_line(code, said, *words):
    assert code == 2 and len(said) == 1, (code, said)
    assert said[0].startswith("lazygraph: error: "), said
    assert all(word in said[0] for word in words), (words, said)

root = Path(sys.argv[1])
"""


@pytest.fixture
def confined(tmp_path, environment):
    """Run a program where it may mount file systems that nobody else sees."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here: that takes root, or user namespaces, on Linux")
    small = f"mount -t tmpfs -o size=1m lazygraph {tmp_path}"
    if subprocess.run([unshare, "-m", "sh", "-c", small], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")

    def run(code):
        program = PRELUDE + textwrap.dedent(code)
        done = subprocess.run(
            [unshare, "-m", sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True,
            env=environment, cwd=tmp_path, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
def test_a_write_stops_at_a_full_disk_and_goes_on_when_there_is_room(confined):
    stopped = confined("""
        disk = root / "disk"
        mount(disk, "size=20m")
        write(root / "undisturbed.lg")
        stopped = 0
        for leave in (0, 8192, 20480, 40960, 61440, 81920, 102400, 143360, 204800, 20 << 20):
            if leave < 20 << 20:
                fill(disk, leave)
            code, said = write(disk / "x.lg")
            if code:
                one_line(code, said, "no space left for", "x.lg.partial", "bytes are free", "same command again")
                assert not (disk / "x.lg").exists()
                made = {p.name: p.stat().st_mtime_ns for p in (disk / "x.lg.partial" / "done").glob("*")}
                stopped += 1
                subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
                assert write(disk / "x.lg") == (0, [])
            assert read(disk / "x.lg") == read(root / "undisturbed.lg")
            assert not (disk / "x.lg.partial").exists()
            shutil.rmtree(disk / "x.lg")
            (disk / "ballast").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        print(stopped)
    """)
    assert 5 <= stopped < 10


@pytest.mark.slow
def test_workers_stop_at_a_full_disk(confined):
    assert confined("""
        disk = root / "disk"
        mount(disk, "size=20m")
        write(root / "undisturbed.lg")
        fill(disk, 61440)
        one_line(*write(disk / "x.lg", workers=2), "no space left for", "run the same command again")
        (disk / "ballast").unlink()
        assert write(disk / "x.lg", workers=2) == (0, [])
        assert read(disk / "x.lg") == read(root / "undisturbed.lg")
        print("true")
    """)


@pytest.mark.slow
def test_a_pull_stops_at_a_full_disk_and_continues_when_there_is_room(confined):
    stopped = confined("""
        disk = root / "disk"
        mount(disk, "size=20m")
        write(root / "mp.lg")
        stopped, pull = 0, ("pull", root / "mp.lg", "-o", disk / "mp.lg", "--no-progress")
        for leave in (0, 20480, 61440, 102400, 20 << 20):
            fill(disk, leave)
            code, said = command(main, *pull)
            if code:
                one_line(code, said, "no space left for", "mp.lg.partial", "same command again")
                assert not (disk / "mp.lg").exists()
                stopped += 1
                (disk / "ballast").unlink()
                assert command(main, *pull) == (0, [])
            assert read(disk / "mp.lg") == read(root / "mp.lg")
            assert not (disk / "mp.lg.partial").exists()
            shutil.rmtree(disk / "mp.lg")
            (disk / "ballast").unlink(missing_ok=True)
        print(stopped)
    """)
    assert 2 <= stopped < 5


@pytest.mark.slow
@pytest.mark.parametrize("change", ["append", "overwrite", "labels", "split", "merge"])
def test_a_change_that_a_full_disk_stops_leaves_the_dataset_as_it_was(change, confined):
    stopped = confined(f"""
        change = {change!r}
        disk = root / "disk"
        mount(disk, "size=20m")
        write(root / "old.lg")
        (root / "t.csv").write_text("id,gap\\n" + "".join(f"prototype-{{n:07d}},{{n}}\\n" for n in range(96)))
        items = [(f"id-{{n}}", lg.Crystal([[4 + n, 0, 0], [0, 4, 0], [0, 0, 4]], [[0, 0, 0]], [11])) for n in range(40)]

        def work(path):
            if change == "append":
                lg.append(path, items, workers=1, shard_size=16, progress=False)
            elif change == "overwrite":
                lg.write(items, path, overwrite=True, workers=1, shard_size=16, progress=False)
            elif change == "labels":
                set_labels(path, {{f"prototype-{{n:07d}}": {{"gap": n}} for n in range(96)}})
            elif change == "split":
                set_splits(path, (0.5, 0.25, 0.25))
            else:
                lg.writing.write.finish(path)

        import lazygraph.writing.write
        def prepare(path):
            if change == "merge":
                lazygraph.writing.write.plan(SOURCE, path, shard_size=16)
                for task in range(6):
                    lazygraph.writing.worker.make_shard(path, task)
            else:
                shutil.copytree(root / "old.lg", path)

        prepare(root / "undisturbed.lg")
        work(root / "undisturbed.lg")
        new, old, stopped = read(root / "undisturbed.lg"), read(root / "old.lg"), 0
        for leave in (0, 4096, 8192, 16384, 32768, 65536, 1 << 20):
            path = disk / "x.lg"
            prepare(path)
            fill(disk, leave)
            try:
                work(path)
            except StorageError as error:
                stopped += 1
                assert error.errno == errno.ENOSPC and str(path.parent) in error.filename
                assert change == "merge" or read(path) == old
                assert not (change == "merge" and path.exists())
                (disk / "ballast").unlink()
                work(path)
            assert read(path) == new
            shutil.rmtree(path)
            shutil.rmtree(disk / "x.lg.partial", ignore_errors=True)
            (disk / "ballast").unlink(missing_ok=True)
        print(stopped)
    """)
    assert 1 <= stopped < 7


@pytest.mark.slow
def test_a_disk_that_may_not_be_written(confined):
    assert confined("""
        disk = root / "disk"
        mount(disk, "size=20m")
        write(disk / "old.lg")
        old = read(disk / "old.lg")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        one_line(*write(disk / "x.lg"), str(disk), "read-only")
        one_line(*write(disk / "old.lg", "--append", source=MORE), str(disk), "read-only")
        one_line(*command(main, "split", disk / "old.lg", "0.5,0.25,0.25"), str(disk), "read-only")
        one_line(*command(main, "gc", disk / "old.lg"), str(disk), "read-only")
        assert read(disk / "old.lg") == old and not (disk / "x.lg.partial").exists()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)

        folder = disk / "theirs"
        folder.mkdir(mode=0o755)
        for path in (root, *root.parents):
            os.chmod(path, os.stat(path).st_mode | 0o055) if path != Path("/") else None
        lg.LazyGraphDataset(disk / "old.lg")
        child = os.fork()
        if child == 0:  # root may write everywhere
            try:
                os.setgid(65534), os.setuid(65534)
                one_line(*write(folder / "x.lg"), "no permission", str(folder))
                one_line(*command(main, "split", disk / "old.lg", "0.5,0.25,0.25"), "no permission")
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert not any(folder.iterdir()) and read(disk / "old.lg") == old
        print("true")
    """)


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_and_on_their_number(confined):
    assert confined("""
        import signal
        write(root / "undisturbed.lg")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        one_line(*write(root / "x.lg"), "ulimit -f", "run the same command again")
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        reached = set()
        for spare in range(12):
            held = os.open(os.devnull, os.O_RDONLY)
            os.close(held)
            resource.setrlimit(resource.RLIMIT_NOFILE, (held + spare, hard))
            code, said = write(root / "x.lg")
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            reached.add(code)
            if code:
                one_line(code, said, "descriptors", "ulimit -n")
        assert reached == {0, 2}, reached
        assert write(root / "x.lg")[0] == 0
        assert read(root / "x.lg") == read(root / "undisturbed.lg")
        for spare in (2, 6, 10, 14):
            resource.setrlimit(resource.RLIMIT_NOFILE, (held + spare, hard))
            code, said = write(root / "y.lg", workers=2)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if code:
                one_line(code, said, "descriptors")
        assert write(root / "y.lg", workers=2)[0] == 0
        assert read(root / "y.lg") == read(root / "undisturbed.lg")
        print("true")
    """)


@pytest.mark.slow
def test_a_full_shared_memory(confined):
    assert confined("""
        write(root / "undisturbed.lg")
        mount("/dev/shm", "size=4k")
        fill(Path("/dev/shm"), 0)
        code, said = write(root / "x.lg", workers=2)
        one_line(code, said, "/dev/shm", "--workers 1")
        assert write(root / "x.lg", workers=1)[0] == 0
        assert read(root / "x.lg") == read(root / "undisturbed.lg")
        loader = lg.loader(lg.LazyGraphDataset(root / "x.lg"), batch_size=8, num_workers=2)
        try:
            graphs = sum(batch.num_graphs for batch in loader)
        except (LazyGraphError, OSError) as error:
            assert "/dev/shm" in str(error), error
        else:
            assert graphs == 96
        print("true")
    """)
