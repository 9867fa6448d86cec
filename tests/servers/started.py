"""Servers in processes of their own, for the time of a test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


@contextmanager
def started(script, *arguments, folder, environment=None):
    """Start ``tests/servers/SCRIPT ARGUMENTS PORT_FILE``; yield its port."""
    port_file = Path(folder) / f"port-{script}-{time.monotonic_ns()}"
    log = (Path(folder) / f"{script}.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, str(HERE / script), *map(str, arguments), str(port_file)],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not port_file.exists():
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        yield int(port_file.read_text())
    finally:
        process.kill()
        process.wait()
        log.close()


class Web:
    """A folder on a web server that can be told to fail."""

    def __init__(self, port, root):
        self.url, self.root, self.port = f"http://127.0.0.1:{port}", root, port

    def fault(self, kind, **told):
        request = urllib.request.Request(f"{self.url}/_fault", json.dumps({"kind": kind, **told}).encode())
        urllib.request.urlopen(request).close()

    def log(self):
        """The requests since the last call."""
        with urllib.request.urlopen(f"{self.url}/_log") as answer:
            return [one for one in json.load(answer) if not one["path"].startswith("/_")]


@contextmanager
def web_server(root, folder):
    with started("web.py", root, folder=folder) as port:
        yield Web(port, root)


@contextmanager
def s3_server(folder):
    """An empty ``bucket`` of moto; the environment that s3fs needs."""
    with started("s3.py", folder=folder) as port:
        environment = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }
        import s3fs

        system = s3fs.S3FileSystem(
            key="testing", secret="x", endpoint_url=environment["AWS_ENDPOINT_URL"], skip_instance_cache=True
        )
        system.mkdir("bucket")
        yield environment


@contextmanager
def hub_server(folder):
    """The port of a Hub, and the environment that huggingface_hub needs."""
    with started("hub.py", folder=folder) as port:
        yield (
            port,
            {
                "HF_ENDPOINT": f"http://127.0.0.1:{port}",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_TOKEN": "hf_secret",
                "HF_HOME": str(Path(folder) / "hf"),
            },
        )


def use_hub(environment, patch):
    """Let ``huggingface_hub`` of this process speak to a server; it reads the environment when it is imported."""
    from huggingface_hub import constants

    for name, value in environment.items():
        patch.setenv(name, value)
    template = environment["HF_ENDPOINT"] + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", environment["HF_ENDPOINT"])
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", environment["HF_HOME"] + "/hub")


@contextmanager
def sftp_server(root, folder):
    """The port of an SFTP server, and the environment (a home folder) in which its key is known and ours is used."""
    import asyncssh

    home = Path(folder) / "home"
    (home / ".ssh").mkdir(parents=True)
    keys = {}
    for name in ("host", "client"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        keys[name] = Path(folder) / f"{name}_key"
        key.write_private_key(str(keys[name]))
        keys[name].chmod(0o600)
        key.write_public_key(f"{keys[name]}.pub")
    with started("sftp.py", root, keys["host"], f"{keys['client']}.pub", folder=folder) as port:
        public = Path(f"{keys['host']}.pub").read_text().split()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
        (home / ".ssh" / "config").write_text(f"Host 127.0.0.1\n  User me\n  IdentityFile {keys['client']}\n")
        yield port, {"HOME": str(home)}
