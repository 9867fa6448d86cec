"""docs/sharing.md: its commands and examples run, in order, against servers in processes of their own."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import s3fs

from tests.servers.started import hub_server, s3_server, web_server

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "sharing.md"
SCRIPTS = Path(sys.executable).parent


@pytest.mark.slow
def test_the_recipes_run(tmp_path, tmp_path_factory):
    if shutil.which("lazygraph", path=SCRIPTS) is None:
        pytest.skip("lazygraph is not installed in this environment: pip install -e .")
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)
    assert [kind for kind, _ in blocks].count("python") == 4
    folder = tmp_path_factory.mktemp("servers")
    with s3_server(folder) as s3, hub_server(folder) as (_, hub), web_server(tmp_path, folder) as web:
        system = s3fs.S3FileSystem(
            key=s3["AWS_ACCESS_KEY_ID"], secret=s3["AWS_SECRET_ACCESS_KEY"], endpoint_url=s3["AWS_ENDPOINT_URL"]
        )
        system.mkdir("our-bucket")
        variables = os.environ | s3 | hub | {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "LAZYGRAPH_CACHE": str(tmp_path / "cache"),
        }  # fmt: skip
        for kind, block in blocks:
            script = block.replace("https://data.example.org", web.url)
            if kind == "python":
                script = script if "import lazygraph" in script else f"import lazygraph as lg\n{script}"
            command = [sys.executable, "-c", script] if kind == "python" else ["bash", "-ec", script]
            done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (script, done.stdout, done.stderr)
        address = f"{hub['HF_ENDPOINT']}/datasets/our-group/prototypes/resolve/main/README.md"
        with urllib.request.urlopen(address) as answer:
            card = answer.read().decode()
    assert "Made-up prototypes" in card
    assert "license: cc0-1.0" in card
