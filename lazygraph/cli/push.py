"""The command ``lazygraph push``."""

from __future__ import annotations

import argparse

from lazygraph.cli.output import say
from lazygraph.sharing.push import push

SUMMARY = "Publish a dataset on a server or in a shared folder, in one step."
EXAMPLES = """\
examples:
  lazygraph push mp.lg s3://our-bucket/mp.lg
      send the files that are not there yet; the manifest comes last
  lazygraph push mp.lg hf://datasets/our-group/mp-graphs
      publish on the Hugging Face Hub, with a card; a new repository is private
  lazygraph push mp.lg hf://datasets/our-group/mp-graphs --public
      the same, but a new repository is public
  lazygraph push mp.lg sftp://cluster/data/shared/mp.lg
      copy to another machine by SSH

After an append, the same command sends the new files. Readers never see a half-published dataset.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("dataset", metavar="NAME.lg", help="the dataset directory")
    parser.add_argument("target", metavar="TARGET", help="a folder, or a URL of s3://, gs://, az://, sftp:// or hf://")
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace a published dataset, even if its graphs, labels or splits would be lost",
    )
    parser.add_argument(
        "--resend", action="store_true", help="send all files again, to replace damaged files on the server"
    )
    parser.add_argument("--public", action="store_true", help="make a new repository on the Hub public")
    parser.add_argument("--no-card", dest="card", action="store_false", help="write no card on the Hub")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress")


def run(arguments: argparse.Namespace) -> int:
    """Publish the dataset and print what was sent."""
    report = push(
        arguments.dataset,
        arguments.target,
        force=arguments.force,
        resend=arguments.resend,
        public=arguments.public,
        card=arguments.card,
        progress=arguments.progress,
    )
    done = f"{report.sent:,} bytes sent" if report.sent else "nothing to send"
    kept = f", {report.kept:,} bytes were there" if report.kept else ""
    say(f"{report.graphs:,} graphs at {report.url}: {done}{kept}", f"content id: {report.content_id}")
    if report.revision is not None:
        say(f"revision: {report.revision}")
    return 0
