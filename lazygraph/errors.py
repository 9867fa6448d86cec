"""The exception tree. Each class also inherits from the built-in exception that a caller would catch.

LazyGraphError
├── InputError (ValueError)             an input or an option cannot be used
│   ├── StructureError                  one crystal is not a crystal: no atoms, disorder, NaN, singular cell...
│   ├── LabelError                      a label has the wrong type or shape, or does not exist
│   ├── DuplicateId                     the dataset already has this id
│   ├── UnreadableInput                 a file or one of its entries cannot be read or recognised
│   ├── InputTimeout                    one input takes longer than allowed
│   ├── RecipeError                     an unknown preset or an invalid parameter
│   ├── RecipeMismatch                  a dataset has another recipe than expected
│   └── ContentMismatch                 a dataset has other graphs than expected
├── OutputExists (FileExistsError)      the output already exists and has other contents
├── WriterBusy (BlockingIOError)        another process is writing the same dataset
├── WorkerDied (RuntimeError)           a worker process died repeatedly, or at one input
├── StorageError (OSError)              the output cannot be written: disk full, read-only, no permission, no locks
├── TransferError (OSError)             a server cannot be reached, refuses, or sends other data than requested
├── DatasetNotFound (FileNotFoundError) no finished dataset at this path
├── DatasetReplaced (FileNotFoundError) the dataset changed on disk while it was open
├── CorruptDataset (ValueError)         bytes on disk differ from the bytes that were written
├── UnsupportedFormat (ValueError)      a format version that this release cannot read
├── NotEnoughMemory (MemoryError)       a read needs more memory than the process may use
├── UnknownId (KeyError)                no graph has this id
├── PluginError (ImportError)           an installed plug-in cannot be imported, or is not what it declares
└── MissingExtra (ImportError)          an optional package is not installed
"""

from __future__ import annotations

__all__ = [
    "ContentMismatch",
    "CorruptDataset",
    "DatasetNotFound",
    "DatasetReplaced",
    "DuplicateId",
    "InputError",
    "InputTimeout",
    "LabelError",
    "LazyGraphError",
    "MissingExtra",
    "NotEnoughMemory",
    "OutputExists",
    "PluginError",
    "RecipeError",
    "RecipeMismatch",
    "StorageError",
    "StructureError",
    "TransferError",
    "UnknownId",
    "UnreadableInput",
    "UnsupportedFormat",
    "WorkerDied",
    "WriterBusy",
]


class LazyGraphError(Exception):
    """Base of every error that lazygraph raises on purpose."""


class InputError(LazyGraphError, ValueError):
    """An input or an option cannot be used."""


class StructureError(InputError):
    """One structure cannot become a crystal graph."""


class LabelError(InputError):
    """A label has the wrong type or shape, or does not exist."""


class DuplicateId(InputError):
    """An earlier input has the same id."""


class UnreadableInput(InputError):
    """A file, or one of its entries, cannot be read or recognised."""


class InputTimeout(InputError):
    """One input takes more processor time than allowed."""


class RecipeError(InputError):
    """A preset is unknown, or a parameter is invalid for the rule."""


class RecipeMismatch(InputError):
    """A dataset has another recipe than expected."""


class ContentMismatch(InputError):
    """A dataset has another content id than expected."""


class OutputExists(LazyGraphError, FileExistsError):
    """The output already exists and has other contents."""


class WriterBusy(LazyGraphError, BlockingIOError):
    """Another process is writing the same dataset."""


class WorkerDied(LazyGraphError, RuntimeError):
    """A worker process died repeatedly, or at one input."""


class StorageError(LazyGraphError, OSError):
    """An output cannot be written (disk full, read-only, no permission, no locks, gone), or files cannot be opened."""

    def __str__(self) -> str:
        # OSError adds its number and file name, but the sentence already contains both.
        return str(self.args[0]) if self.args else ""


class TransferError(LazyGraphError, OSError):
    """A server cannot be reached, refuses access, or sends other data than requested."""


class DatasetNotFound(LazyGraphError, FileNotFoundError):
    """There is no finished dataset at this path."""


class DatasetReplaced(LazyGraphError, FileNotFoundError):
    """The dataset was replaced on disk while it was open; open it again."""


class CorruptDataset(LazyGraphError, ValueError):
    """Bytes on disk differ from the bytes that were written. This is no OSError, because the disk did not fail."""


class UnsupportedFormat(LazyGraphError, ValueError):
    """The dataset has a format version that this release of lazygraph cannot read."""


class NotEnoughMemory(LazyGraphError, MemoryError):
    """A read needs more memory than the process may use."""


class UnknownId(LazyGraphError, KeyError):
    """No graph of the dataset has this id."""

    def __str__(self) -> str:
        # KeyError shows repr(message), which turns a sentence into a quoted string.
        return str(self.args[0]) if self.args else ""


class PluginError(LazyGraphError, ImportError):
    """A plug-in of an installed package cannot be imported, or does not match its declaration."""


class MissingExtra(LazyGraphError, ImportError):
    """An optional package is needed but not installed."""
