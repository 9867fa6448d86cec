"""The checklist of a release finds what is wrong, and the files that it reads agree now."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import lazygraph as lg

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)
TODAY = dt.date(2026, 6, 1)
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-05-30\n\n- It works.\n\n## [1.2.2] - 2026-01-01\n\n- Yes.\n"
)


def git(folder, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    """A project that is ready: a repository with one commit, whose commands write what they were called."""
    root = tmp_path / "project"
    (root / "lazygraph").mkdir(parents=True)
    (root / "tools").mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "lazygraph"\nversion = "1.2.3"\n')
    (root / "lazygraph" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (root / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.3\n")
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    for name in release.COMMANDS.values():
        command = root / "tools" / name
        command.write_text(f"#!/bin/sh\necho {name} >> ../called\n")
        command.chmod(0o755)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "All")
    return root


def faults(root, left_out=()):
    """Step -> what is wrong."""
    found, _ = release.checklist(root, TODAY, left_out)
    return {name: fault for name, fault in found.items() if fault is not None}


def edit(root, name, old, new):
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    git(root, "commit", "--all", "--quiet", "-m", "Edit")


def test_a_project_that_is_ready_passes_and_its_commands_run(project):
    assert faults(project) == {}
    assert (project.parent / "called").read_text().split() == ["wheels", "site", "test"]


@pytest.mark.parametrize(
    ("name", "old", "new", "step", "said"),
    [
        ("pyproject.toml", "1.2.3", "1.2.4", "one version", "the versions differ (pyproject.toml: 1.2.4"),
        ("lazygraph/__init__.py", "1.2.3", "1.2.4", "one version", "lazygraph/__init__.py: 1.2.4"),
        ("CITATION.cff", "1.2.3", "1.2.2", "one version", "CITATION.cff: 1.2.2"),
        ("CITATION.cff", "version: 1.2.3", "title: x", "one version", "CITATION.cff has 0 lines with a version"),
        ("CHANGELOG.md", "[1.2.3]", "[1.2.1]", "the changelog", "has no section 1.2.3"),
        ("CHANGELOG.md", " - 2026-05-30", "", "the changelog", "has no date"),
        ("CHANGELOG.md", "2026-05-30", "30 May", "the changelog", "has no date"),
        ("CHANGELOG.md", "2026-05-30", "2026-13-30", "the changelog", "has no date"),
        ("CHANGELOG.md", "2026-05-30", "2026-06-02", "the changelog", "has not come"),
        ("CHANGELOG.md", "- It works.\n", "", "the changelog", "is empty"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n- More.\n", "the changelog", "under Unreleased"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [2.0.0] - 2026-05-31\n\n- Two.\n", "the changelog", "is 2.0.0"),
        ("tools/test", "echo", "exit 3; echo", "tests", "tools/test failed with exit code 3"),
    ],
)
def test_what_is_wrong_is_found(name, old, new, step, said, project):
    edit(project, name, old, new)
    found = faults(project)
    assert set(found) == {step}
    assert said in found[step]


def test_a_file_that_is_not_committed_is_found(project):
    (project / "new.py").write_text("")
    (project / "CHANGELOG.md").write_text(CHANGELOG + "\n")
    assert faults(project) == {
        "a clean tree": "2 files are changed or new (CHANGELOG.md, new.py); commit them, or remove them"
    }


def test_a_version_that_was_released_is_found(project):
    git(project, "tag", "v1.2.3")
    assert faults(project) == {"a new tag": "the tag v1.2.3 exists, so this version was released; raise the version"}


def test_a_command_that_is_missing_is_found(project):
    git(project, "rm", "--quiet", "tools/wheels")
    git(project, "commit", "--quiet", "-m", "Remove")
    assert faults(project) == {"wheels": "there is no command tools/wheels"}


@pytest.mark.parametrize("version", ["1.2", "1.2.3.dev1", "v1.2.3", "1.2.3-rc1"])
def test_a_version_of_another_form_is_refused(version, project):
    for name in ("pyproject.toml", "lazygraph/__init__.py", "CITATION.cff"):
        edit(project, name, "1.2.3", version)
    assert "is not a version such as 1.2.3" in faults(project, ("tests",))["one version"]


def called(project, *arguments):
    """Run the tool of a project as a user does."""
    shutil.copyfile(ROOT / "tools" / "release.py", project / "tools" / "release.py")
    git(project, "add", "tools/release.py")
    git(project, "commit", "--quiet", "-m", "The tool")
    today = dt.datetime.now(dt.UTC).date()
    edit(project, "CHANGELOG.md", "2026-05-30", today.isoformat())
    git(project, "config", "user.name", "A")
    git(project, "config", "user.email", "a@example.org")
    command = [sys.executable, str(project / "tools" / "release.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def tags(project):
    done = subprocess.run(["git", "tag"], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_dry_run_makes_no_tag(project):
    done = called(project, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1.2.3 is ready" in done.stdout
    assert tags(project) == []


def test_a_release_makes_the_tag(project):
    done = called(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tags(project) == ["v1.2.3"]
    assert "git push origin v1.2.3" in done.stdout


def test_steps_are_left_out_only_in_a_dry_run(project):
    done = called(project, "--dry-run", "--leave-out", "tests", "--leave-out", "wheels")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: tests, wheels" in done.stdout
    assert "is ready" not in done.stdout
    assert (project.parent / "called").read_text().split() == ["site"]
    refused = subprocess.run(
        [sys.executable, str(project / "tools" / "release.py"), "--leave-out", "tests"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "a release goes through every step" in refused.stderr
    assert tags(project) == []


# ---- the files of this project ----


def test_the_version_of_this_project_is_one():
    assert release.check_version(ROOT) == lg.__version__


def test_the_citation_has_what_the_format_requires():
    """The keys of CFF 1.2.0 (https://citation-file-format.github.io) that are required, and those of the project."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert told["cff-version"] == "1.2.0"
    assert told["message"]
    assert told["title"]
    assert [author["name"] for author in told["authors"]] == [author["name"] for author in project["authors"]]
    assert told["license"] == project["license"]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_a_template_of_issues_is_a_form(name):
    """The keys that a form of GitHub requires; ids are unique."""
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in {"textarea", "dropdown", "input", "checkboxes", "markdown"}
        assert field["attributes"]["label"]
    if name == "bug":
        assert "lazygraph doctor" in json.dumps(form)


def test_the_hooks_of_commits_are_programs_of_the_extra_test():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]  # nothing is fetched
    entries = {hook["entry"].split()[0] for hook in hooks[0]["hooks"]}
    assert entries == {"ruff", "mypy", "lint-imports"}
    assert [entry for entry in entries if shutil.which(entry, path=str(Path(sys.executable).parent)) is None] == []
