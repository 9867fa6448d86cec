"""The checklist of a release: tools/release [--dry-run] [--leave-out STEP].

Every step prints ``ok`` or what is wrong and what to do. All steps run, so that one call shows everything.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
SECTION = re.compile(r"^## \[([^\]]+)\](?: - (.+?))?[ \t]*$", re.MULTILINE)
# Step that takes long -> the command that it runs.
COMMANDS = {"wheels": "wheels", "site": "site", "tests": "test"}


class Fault(Exception):
    """A step is not fulfilled. The text says what is wrong, and what to do."""


def versions(root):
    """Where the version stands -> what stands there."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "pyproject.toml": project["version"],
        "lazygraph/__init__.py": found(r'^__version__ = "(.+)"$', root / "lazygraph" / "__init__.py"),
        "CITATION.cff": found(r"^version: \"?([^\"\n]+)\"?$", root / "CITATION.cff"),
    }


def found(pattern, path):
    """The one text in a file that a pattern finds."""
    matches = re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if len(matches) != 1:
        raise Fault(f"{path.name} has {len(matches)} lines with a version; it must have one")
    return matches[0]


def check_version(root):
    """One version everywhere; it is returned."""
    told = versions(root)
    if len(set(told.values())) > 1:
        listed = ", ".join(f"{place}: {version}" for place, version in told.items())
        raise Fault(f"the versions differ ({listed}); set all to the version of the release")
    version = told["pyproject.toml"]
    if not VERSION.fullmatch(version):
        raise Fault(f"{version!r} is not a version such as 1.2.3 or 1.2.3rc1")
    return version


def check_changelog(root, version, today):
    """The newest section is that of the version, has a date that has come, and says something."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = list(SECTION.finditer(text))
    bodies = {
        match[1]: text[match.end() : following.start() if following else len(text)].strip()
        for match, following in zip(sections, [*sections[1:], None], strict=True)
    }
    if version not in bodies:
        raise Fault(f"CHANGELOG.md has no section {version}; name it: ## [{version}] - {today}")
    if bodies.get("Unreleased"):
        raise Fault(f"CHANGELOG.md has changes under Unreleased; move them to {version}")
    newest = next(match for match in sections if match[1] != "Unreleased")
    if newest[1] != version:
        raise Fault(f"the newest section of CHANGELOG.md is {newest[1]}, not {version}")
    if not bodies[version]:
        raise Fault(f"the section {version} of CHANGELOG.md is empty")
    try:
        date = dt.date.fromisoformat(newest[2] or "")
    except ValueError:
        raise Fault(f"the section {version} of CHANGELOG.md has no date; write ## [{version}] - {today}") from None
    if date > today:
        raise Fault(f"the section {version} of CHANGELOG.md has the date {date}, which has not come; today is {today}")


def git(root, *arguments):
    """What git prints."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fault(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def check_tree(root):
    """Everything is committed."""
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        shown = ", ".join(line[3:] for line in changed[:5]) + (" ..." if len(changed) > 5 else "")
        raise Fault(f"{len(changed)} files are changed or new ({shown}); commit them, or remove them")


def check_tag(root, version):
    """The version has no tag yet."""
    if git(root, "tag", "--list", f"v{version}").strip():
        raise Fault(f"the tag v{version} exists, so this version was released; raise the version")


def run(root, name):
    """Run a command of tools, whose output is shown."""
    command = root / "tools" / name
    if not os.access(command, os.X_OK):
        raise Fault(f"there is no command tools/{name}")
    code = subprocess.run([command], cwd=root, check=False).returncode
    if code:
        raise Fault(f"tools/{name} failed with exit code {code}; its output is above")


def checklist(root, today, left_out=()):
    """Step -> what is wrong, ``None`` if nothing is, or ``left out``; and the version."""
    result, version = {}, None

    def step(name, check, *arguments):
        try:
            value = check(*arguments)
        except Fault as fault:
            result[name] = str(fault)
            print(f"[wrong] {name}: {fault}", flush=True)
            return None
        result[name] = None
        print(f"[ok]    {name}", flush=True)
        return value

    version = step("one version", check_version, root)
    if version is not None:
        step("the changelog", check_changelog, root, version, today)
        step("a new tag", check_tag, root, version)
    step("a clean tree", check_tree, root)
    for name, command in COMMANDS.items():
        if name in left_out:
            result[name] = "left out"
            print(f"[none]  {name}: left out", flush=True)
        else:
            step(name, run, root, command)
    return result, version


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="go through the checklist, and make no tag")
    parser.add_argument(
        "--leave-out", action="append", default=[], choices=COMMANDS, metavar="STEP",
        help=f"leave out a step ({', '.join(COMMANDS)}); only with --dry-run",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.leave_out and not options.dry_run:
        parser.error("--leave-out needs --dry-run: a release goes through every step")

    today = dt.datetime.now(dt.UTC).date()
    result, version = checklist(ROOT, today, options.leave_out)
    wrong = [name for name, fault in result.items() if fault not in (None, "left out")]
    if wrong:
        print(f"\nnot ready: {', '.join(wrong)}")
        return 1
    if options.leave_out:
        print(f"\nnothing is wrong so far; left out: {', '.join(options.leave_out)}")
        return 0
    if options.dry_run:
        print(f"\n{version} is ready; tools/release makes the tag v{version}")
        return 0
    git(ROOT, "tag", "--annotate", f"v{version}", "--message", f"lazygraph {version}")
    print(
        f"\nThe tag v{version} is made. To publish:\n"
        f"  git push origin v{version}\n"
        f"  python -m twine upload dist/lazygraph-{version}*\n"
        "  copy build/site to the web server of the documentation"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
