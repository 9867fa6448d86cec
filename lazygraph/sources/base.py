"""The protocol of sources. A source is scanned once, and then read in ranges by any number of workers.

A source never stops at a bad entry. It yields one :class:`Entry` per input, in order. If an input cannot become a
crystal, its entry holds the reason instead of the crystal. A source that cannot be read at all raises
:class:`~lazygraph.errors.UnreadableInput` from ``scan``, before any work begins.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, LabelError, UnreadableInput
from lazygraph.sources.time_limit import one_input
from lazygraph.storage.positioned import open_file

LabelType: TypeAlias = Literal["bool", "int64", "float32", "float64", "text"]

__all__ = [
    "ID_KEYS",
    "MAX_TEXT",
    "MISSING",
    "NOT_STORED",
    "NO_LABELS",
    "Cut",
    "Entry",
    "ImpliedUnits",
    "InputFile",
    "Label",
    "LabelType",
    "Remark",
    "Scan",
    "Source",
    "attempt",
    "default_id",
    "label_value",
    "open_regular",
    "read_entry",
    "readable",
    "require_length",
    "shown",
    "too_long",
]

# The keys under which the common data sets keep their ids, in the order in which they are tried.
ID_KEYS: tuple[str, ...] = ("jid", "material_id", "mptrj_snapshot_id", "alexandria_id")
NOT_STORED: Mapping[str, bool] = MappingProxyType({"stored": False})
"""The metadata of a source's field that the JSON form leaves out: ``read`` finds what it held in the spool."""
MAX_TEXT = 1 << 28
"""Bytes of the text of one input, 256 MiB: some two million atoms. A longer one is not held, and quarantined."""
# How the common data sets write a missing label (JARVIS writes "na").
MISSING: frozenset[str] = frozenset({"", "na", "n/a", "nan", "none", "null"})
# How tables write booleans (pandas writes "True").
TRUTH: dict[str, bool] = {"true": True, "false": False}
NO_LABELS: Mapping[str, Any] = MappingProxyType({})


class Remark(NamedTuple):
    """A remark for the report about an input that is kept.

    The report counts the inputs that share ``what``, and names the first few with their ``detail``.
    """

    what: str
    """The rest of the sentence "3 inputs ...", such as ``contradict their formula and were kept``."""
    detail: str
    """The detail of this input."""


class Entry(NamedTuple):
    """One input: its id, its crystal or the reason why it has none, and all labels found beside it."""

    id: str
    crystal: Crystal | InputError
    labels: Mapping[str, Any]
    """Name -> raw value, for everything beside the structure. Numbers, booleans, numeric texts and (nested) lists
    or arrays of them can become labels. The report names columns that cannot be kept."""
    split: str | None = None
    """The split that the source puts this input in, if it has splits."""
    remarks: tuple[Remark, ...] = ()
    atom_labels: Mapping[str, Any] = NO_LABELS
    """Name -> one value or row per atom, if the format says that the values belong to the atoms."""
    other_splits: Mapping[str, str] = NO_LABELS
    """Column of splits -> the split in it, for columns other than the one of ``split``, such as folds."""


class InputFile(NamedTuple):
    """One file that a data set was made of, as the manifest's provenance names it."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Label:
    """One label: a number, a text or a fixed-size array per crystal (``graph``), or a row per atom (``node``)."""

    name: str
    level: Literal["graph", "node"]
    shape: tuple[int, ...] = ()
    unit: str | None = None
    dtype: LabelType = "float64"
    """The type of the values that were examined. If a label of the crystal later has other numbers, or is missing for
    some crystals, it gets a type that holds all values. A text stays a text."""
    per: str | None = None
    """``cell`` or ``atom``: whether a number is per cell or per atom; None if it is unknown or has no meaning."""
    description: str | None = None
    """One line of text that describes the label."""
    required: bool = False
    """Whether an input without this label is quarantined."""
    symprec: float | None = None
    """If the writer computes the label as the prototype of each crystal: the distance by which an atom may miss its
    ideal position, A."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form in a plan."""
        return asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Label:
        """Read the JSON form."""
        return cls(**{**data, "shape": tuple(data["shape"])})


@dataclass(frozen=True, slots=True)
class ImpliedUnits:
    """Units that a source implies without writing them, and their origin."""

    origin: str
    """The origin of the convention, for the report."""
    units: Mapping[str, str]
    """Name of a label -> unit."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of one pass over a source, from which it can be cut into independent ranges."""

    entries: int
    """The number of inputs, including bad ones."""
    marks: tuple[int, ...]
    """The beginning of entry ``k * every``, k = 0, 1, ... (a byte offset or an ordinal, depending on the source)."""
    files: tuple[InputFile, ...]
    """The files read, by bare name."""
    notes: tuple[str, ...] = ()
    """Sentences for the summary, such as structure files that no row of ``id_prop.csv`` names."""
    labels: tuple[Label, ...] = ()
    """The labels that the input itself declares; all others are recognised by the values of the first entries."""
    implied: ImpliedUnits | None = None
    """The units that labels have by the convention of the source."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column of splits -> its splits in order, if the input declares them. ``split`` is the default column."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The description of the input, with the keys of ``lazygraph.write(about=)``."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A range of one source: ``count`` entries from entry ``start`` on, beginning at ``mark``."""

    mark: int
    start: int
    count: int


@runtime_checkable
class Source(Protocol):
    """One input format: a frozen dataclass of paths and options that can be pickled, saved as JSON, and read again."""

    kind: ClassVar[str]
    """The name that ``--format`` takes."""

    @property
    def name(self) -> str:
        """Short name for ids, notes and quarantine rows: the file's name without folders and suffixes."""

    def scan(self, every: int, spool: Path) -> Scan:
        """Read the input once: count, hash and mark it.

        A source that cannot be read from the middle (zip, gzip, a Python iterator) unpacks itself into the file
        ``spool`` here, and reads from there later. Memory stays bounded for any size of the input.

        Raises:
            UnreadableInput: the input as a whole cannot be read.
        """

    def read(self, cut: Cut, spool: Path) -> Iterator[Entry]:
        """Yield exactly ``cut.count`` entries, in order; never raises for a bad entry."""


def attempt(convert: Callable[..., Crystal], *args: Any) -> Crystal | InputError:
    """Return the crystal from ``convert(*args)``, or the error that it raised."""
    try:
        return convert(*args)
    except Exception as error:  # noqa: BLE001  # a parser's own failure is a reason to quarantine, whatever its class
        return _reason(error)


def read_entry(default: str, make: Callable[..., Entry], *args: Any) -> Entry:
    """Return the entry that ``make(*args)`` reads within the time limit; any error becomes a bad entry.

    Every source reads each entry with this function, so that no input ends the work on the others.

    Args:
        default: the id of an entry of which only the position is known.
        make: reads one entry.
        *args: its arguments.
    """
    try:
        with one_input():
            return make(*args)
    except Exception as error:  # noqa: BLE001  # MemoryError among them: what it was out of is free again
        return Entry(default, _reason(error), {})


def _reason(error: Exception) -> InputError:
    return error if isinstance(error, InputError) else UnreadableInput(f"{type(error).__name__}: {error}")


def require_length(text: bytes) -> None:
    """Refuse a text that was cut because it is too long.

    Raises:
        UnreadableInput: it has more than ``MAX_TEXT`` bytes.
    """
    if len(text) > MAX_TEXT:
        raise too_long()


def too_long() -> UnreadableInput:
    """Return the error of an input whose text has more than ``MAX_TEXT`` bytes."""
    return UnreadableInput(f"the text of this input has more than {MAX_TEXT:,} bytes, the limit for one structure")


def default_id(name: str, position: int) -> str:
    """Return the id of an entry that has none: ``NAME-0000012``."""
    return f"{readable(name)}-{position:07d}"


def readable(text: str) -> str:
    r"""Return the text with escapes for what UTF-8 cannot encode, because names of files may hold any bytes.

    Example:
        >>> readable("\udcc5ngstrom")
        '\\udcc5ngstrom'
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def label_value(value: Any) -> bool | int | float:
    """Convert a label to a bool, an int or a float; NaN if it is missing (``None``, NaN, an empty text, ``na``).

    A text is converted to the number or the boolean (``True``, ``False``) that it spells. An integer that int64 cannot
    hold becomes a float.

    Raises:
        LabelError: it is neither missing nor a finite number.

    Example:
        >>> label_value("1.5"), label_value("7"), label_value(True), label_value("na")
        (1.5, 7, True, nan)
    """
    if value is None:
        return math.nan
    number: Any = value
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return math.nan
        if (truth := TRUTH.get(text.lower())) is not None:
            return truth
        try:
            number = int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            msg = f"found the text {text[:60]!r}; required: a number, or empty, na or NaN where it is missing"
            raise LabelError(msg) from None
    elif not isinstance(value, float):
        number = _of_its_type(value)
    if type(number) is int and not -(2**63) <= number < 2**63:
        number = _as_float(number)
    if type(number) is not bool and math.isinf(number):
        raise LabelError("found an infinite number; required: finite ones, or empty, na or NaN for missing ones")
    return number if type(number) in (bool, int) else float(number)


def _of_its_type(value: Any) -> bool | int | float:
    """Return a number of Python or numpy, or a value that converts to one, as a bool, an int or a float."""
    dtype = getattr(value, "dtype", None)
    kind = getattr(dtype, "kind", "") if getattr(value, "shape", None) == () else ""
    if isinstance(value, bool) or kind == "b":
        return bool(value)
    if isinstance(value, int) or kind in ("i", "u"):
        return int(value)
    return _as_float(value)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        msg = f"found {type(value).__name__} {shown(value, 60)}; required: a number"
        raise LabelError(msg) from None


def shown(value: Any, most: int) -> str:
    """Return the beginning of any value, for an error message.

    Example:
        >>> shown("a long text", 6), shown(17.5, 60)
        ("'a long'", "'17.5'")
    """
    try:
        return repr(str(value)[:most])
    except Exception:  # noqa: BLE001  # arrays in arrays without end, numbers of thousands of digits, a class of its own
        return "that has no text"


def hash_file(path: Path) -> InputFile:
    """Return name, size and sha256 of one regular file, which is read in bounded pieces."""
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256")
        return InputFile(readable(path.name), file.tell(), digest.hexdigest())


def open_regular(path: Path) -> BufferedReader:
    """Open a file, or the target of a link, for reading. This does not wait for a pipe, and does not touch a device.

    Raises:
        UnreadableInput: it is not a regular file, so it may be endless, and can be read only once.
        OSError: the file cannot be opened.
    """
    _require_regular(path, path.stat().st_mode)
    # It would wait if a pipe has replaced the file meanwhile.
    descriptor = open_file(path, wait=False)
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        msg = f"{path} is a folder; give a file"
        raise UnreadableInput(msg)
    found = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    msg = (
        f"{path} is {found}, which may be endless and is read only once; give a regular file, or use standard input: "
        "lazygraph-write - -o NAME.lg"
    )
    raise UnreadableInput(msg)
