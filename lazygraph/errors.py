"""The exception tree; each class is also the built-in that a caller would catch.

LazyGraphError
├── InputError (ValueError)             what was given cannot be used
│   ├── StructureError                  one crystal is not a crystal: no atoms, disorder, NaN, singular cell...
│   ├── LabelError                      a label has the wrong type or shape, or does not exist
│   ├── DuplicateId                     an id that the dataset holds already
│   ├── UnreadableInput                 a file or an entry of it cannot be read or recognised
│   ├── InputTimeout                    one input takes longer than it may
│   ├── RecipeError                     an unknown preset or an impossible parameter
│   └── RecipeMismatch                  a dataset holds other graphs than expected
├── OutputExists (FileExistsError)      the output is there already, made of something else
├── WriterBusy (BlockingIOError)        another process is writing the same dataset
├── WorkerDied (RuntimeError)           a process that makes graphs died again and again, or at one input
├── StorageError (OSError)              the place of the output is full, read-only, forbidden, without locks, or gone
├── DatasetNotFound (FileNotFoundError) no finished dataset at this path
├── DatasetReplaced (FileNotFoundError) the dataset changed on disk while it was open
├── CorruptDataset (ValueError)         bytes on disk are not the bytes that were written
├── UnsupportedFormat (ValueError)      a format version that this release cannot read
├── NotEnoughMemory (MemoryError)       what is to be read at once takes more memory than the process may use
├── UnknownId (KeyError)                no graph has this id
├── PluginError (ImportError)           an installed plug-in cannot be imported, or is not what it declares
└── MissingExtra (ImportError)          an optional package is not installed
"""

from __future__ import annotations

__all__ = [
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
    "UnknownId",
    "UnreadableInput",
    "UnsupportedFormat",
    "WorkerDied",
    "WriterBusy",
]


class LazyGraphError(Exception):
    """Base of every error that lazygraph raises on purpose."""


class InputError(LazyGraphError, ValueError):
    """What was given cannot be used."""


class StructureError(InputError):
    """One structure cannot become a crystal graph."""


class LabelError(InputError):
    """A label has the wrong type or shape, or does not exist."""


class DuplicateId(InputError):
    """The id of an input is taken by an earlier one."""


class UnreadableInput(InputError):
    """A file, or one entry of it, cannot be read or recognised."""


class InputTimeout(InputError):
    """One input takes more processor time than it may."""


class RecipeError(InputError):
    """An unknown preset, or a parameter that a rule cannot work with."""


class RecipeMismatch(InputError):
    """A dataset holds graphs of another recipe than the one expected."""


class OutputExists(LazyGraphError, FileExistsError):
    """The output is there already, and is something else."""


class WriterBusy(LazyGraphError, BlockingIOError):
    """Another process is writing the same dataset."""


class WorkerDied(LazyGraphError, RuntimeError):
    """A process that makes graphs died, again and again or at one input."""


class StorageError(LazyGraphError, OSError):
    """The place of an output is full, read-only, forbidden, without locks or gone, or files can no longer be opened."""

    def __str__(self) -> str:
        # OSError puts its number and file name around the sentence, which tells both.
        return str(self.args[0]) if self.args else ""


class DatasetNotFound(LazyGraphError, FileNotFoundError):
    """There is no finished dataset at this path."""


class DatasetReplaced(LazyGraphError, FileNotFoundError):
    """The dataset was replaced on disk while it was open; open it again."""


class CorruptDataset(LazyGraphError, ValueError):
    """Bytes on disk are not the bytes that were written. No OSError: the disk did what it was asked to."""


class UnsupportedFormat(LazyGraphError, ValueError):
    """A format version that this release of lazygraph cannot read."""


class NotEnoughMemory(LazyGraphError, MemoryError):
    """What is to be read at once takes more memory than the process may use."""


class UnknownId(LazyGraphError, KeyError):
    """No graph of the dataset has this id."""

    def __str__(self) -> str:
        # KeyError shows repr(message), which turns a sentence into a quoted string.
        return str(self.args[0]) if self.args else ""


class PluginError(LazyGraphError, ImportError):
    """A plug-in of an installed package cannot be imported, or is not what it declares."""


class MissingExtra(LazyGraphError, ImportError):
    """An optional package is needed and not installed."""
