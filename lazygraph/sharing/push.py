"""The function ``push``, which publishes a dataset on a server or in a shared folder, in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lazygraph.errors import InputError, OutputExists
from lazygraph.format.manifest import Manifest
from lazygraph.format.store import Store
from lazygraph.sharing.card import updated_card
from lazygraph.sharing.contained import losses
from lazygraph.sharing.progress import transfer
from lazygraph.sharing.pull import copy_whole
from lazygraph.storage.base import is_url, open_storage
from lazygraph.storage.target import ChangedMeanwhile, Target
from lazygraph.storage.targets import open_target
from lazygraph.storage.transport import VersionedManifest, shown

__all__ = ["PushReport", "push"]

CARD = "README.md"
MOST_CONFLICTS = 10


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did.

    Attributes:
        url: the place of the published dataset, without credentials.
        graphs: number of its graphs.
        content_id: the identity of its graphs.
        sent: bytes of the files that were sent.
        kept: bytes of files that were there before.
        revision: the name of the new state, such as a commit of the Hub, or None.
    """

    url: str
    graphs: int
    content_id: str
    sent: int
    kept: int
    revision: str | None = None


def push(
    dataset: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    resend: bool = False,
    public: bool = False,
    card: bool = True,
    progress: bool = True,
) -> PushReport:
    """Publish a dataset on a server, or in another folder.

    ``push`` compares each file with its sha256, and sends the files that the target lacks. The manifest is replaced
    last, in one step, so a reader sees the old state or the new state. If a push was stopped, the next push sends the
    missing files. Files of earlier states stay, because readers may have them open.

    An existing dataset is replaced only if nothing is lost: its graphs must be the first graphs of the new dataset,
    with the same labels and splits. This condition holds after an append, and after labels were added.

    Args:
        dataset: the dataset directory.
        target: a folder, or a URL such as ``"s3://bucket/mp.lg"``, ``"sftp://host/data/mp.lg"`` or
            ``"hf://datasets/ORG/NAME/mp.lg"``. A repository of the Hub is created if it does not exist.
        force: replace a dataset even if graphs, labels or splits would be lost, or if somebody else publishes at the
            same time.
        resend: send all files again, to replace damaged files on the server (``lazygraph verify`` names them).
        public: make a new repository on the Hub public; it is private by default.
        card: write a card that describes the dataset, if the target shows cards, as the Hub does. In an existing card,
            only the part between the two marks is replaced.
        progress: show the progress on stderr.

    Returns:
        What was sent.

    Raises:
        DatasetNotFound, CorruptDataset: the dataset does not exist, or is damaged.
        OutputExists: something would be lost, or somebody else published at the same time.
        InputError: nothing can be published at the target.
        TransferError: the server cannot be reached, or refuses.

    Example:
        >>> import tempfile, lazygraph as lg
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = lg.write("prototypes:30?seed=0", folder.name + "/p.lg", workers=1)
        >>> push(folder.name + "/p.lg", folder.name + "/shared/p.lg", progress=False).graphs
        30
        >>> push(folder.name + "/p.lg", folder.name + "/shared/p.lg", progress=False).sent
        0
        >>> folder.cleanup()
    """
    if is_url(os.fspath(dataset)):
        msg = (
            f"the source {shown(os.fspath(dataset))} is a URL, but only a folder of this machine can be pushed; copy "
            "it here with 'lazygraph pull'"
        )
        raise InputError(msg)
    store = Store(Path(dataset))
    if not is_url(os.fspath(target)):
        if resend:
            msg = f"resend works only for servers; delete the damaged files in {os.fspath(target)} and push again"
            raise InputError(msg)
        return _to_folder(store, Path(target), force=force, public=public, progress=progress)
    return _to_server(store, os.fspath(target), force=force, resend=resend, public=public, card=card, progress=progress)


def _to_folder(store: Store, target: Path, *, force: bool, public: bool, progress: bool) -> PushReport:
    if public:
        msg = f"public works only for repositories of the Hub; {target} has the permissions of its folder"
        raise InputError(msg)

    def replace(final: Path) -> bool:
        if not force:
            _check_losses(Store(final), store)
        return True

    target.parent.mkdir(parents=True, exist_ok=True)
    report = copy_whole(store.storage, target, replace=replace, progress=progress)
    return PushReport(str(report.path), report.graphs, report.content_id, report.copied, report.kept)


def _to_server(
    store: Store, url: str, *, force: bool, resend: bool, public: bool, card: bool, progress: bool
) -> PushReport:
    target, manifest = open_target(url, public=public), store.manifest
    before = target.manifest()
    if before is not None and not force:
        _check_losses(_opened(url, before, target), store)
    files = list(dict.fromkeys(manifest.files()))
    present = set() if resend else target.present(files)
    missing = [file for file in files if file not in present]
    sent = sum(file.size for file in missing)
    with closing(transfer(sent, "pushing", show=progress)) as display:
        for file in missing:
            target.put(file, file.check(store.path))
            display.add(file.size)
    content = manifest.to_bytes()
    kept = sum(file.size for file in present)

    def extras() -> dict[str, bytes]:
        return _card(target, manifest, url) if card and target.takes_card else {}

    if before is not None and before.content == content and not missing and not extras():
        return PushReport(target.name, manifest.graphs, manifest.content_id, 0, kept)
    revision = _published(target, content, before, extras, force=force)
    return PushReport(target.name, manifest.graphs, manifest.content_id, sent, kept, revision)


def _published(
    target: Target,
    content: bytes,
    before: VersionedManifest | None,
    extras: Callable[[], dict[str, bytes]],
    *,
    force: bool,
) -> str | None:
    for _ in range(MOST_CONFLICTS):
        try:
            return target.publish(content, before, extras())
        except ChangedMeanwhile:
            if not force:
                msg = (
                    f"somebody else published {target.name} while this dataset was sent; nothing was replaced. Compare "
                    "with it (lazygraph diff) and push again, or replace it with --force (force=True)"
                )
                raise OutputExists(msg) from None
        before = target.manifest()
    msg = f"others published {target.name} {MOST_CONFLICTS} times while this dataset was sent; try again later"
    raise OutputExists(msg)


def _opened(url: str, before: VersionedManifest, target: Target) -> Store:
    storage = open_storage(url)
    if storage.manifest() != before.content:
        msg = f"somebody else is publishing {target.name} at this moment; push again afterwards"
        raise OutputExists(msg)
    store = Store(storage)
    store.manifest.check_writable(target.name)
    return store


def _check_losses(there: Store, new: Store) -> None:
    found = list(losses(there, new))
    if found:
        msg = (
            f"replacing the dataset at {there.name} would lose data: {'; '.join(found)}. Pull it and append to it, "
            "choose another name, or replace it with --force (force=True)"
        )
        raise OutputExists(msg)


def _card(target: Target, manifest: Manifest, url: str) -> dict[str, bytes]:
    """The card, if it differs from the one that is there."""
    old = target.read_text(CARD)
    new = updated_card(old, manifest, url)
    return {} if new == old else {CARD: new.encode()}
