"""Detection of sources: the content of an input decides its kind, never the name alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, UnreadableInput
from lazygraph.format.manifest import MANIFEST
from lazygraph.sources import (
    ase_db,
    ase_json,
    aselmdb,
    cif,
    csv_cif,
    extxyz,
    jarvis,
    matbench,
    optimade,
    pandas_json,
    parquet,
    poscar,
    poscar_zip,
    pymatgen_json,
    trajectory,
    xdatcar,
)
from lazygraph.sources.base import Source
from lazygraph.sources.dataset import DatasetSource, is_dataset, is_open_dataset
from lazygraph.sources.files import FilesSource, expand, is_structure_name, walk
from lazygraph.sources.id_prop import TABLE, IdPropSource
from lazygraph.sources.options import DEFAULT_OPTIONS, SourceOptions
from lazygraph.sources.pickles import PickleSource, is_pickle
from lazygraph.sources.prototypes import PrototypesSource, is_uri
from lazygraph.sources.python import PythonSource
from lazygraph.sources.records import holds_structure
from lazygraph.sources.structure_keys import USUAL_NAMES
from lazygraph.sources.unpack import read_head

__all__ = ["FORMATS", "open_sources", "source_from_json", "source_to_json"]

# The order matters: a CSV or a JSON may hold CIF and POSCAR texts, so the text formats of one structure come last but
# for CIF, which only its own first words open.
SNIFFED: tuple[tuple[Any, type[Any]], ...] = (
    (ase_db.sniff, ase_db.AseDbSource),
    (aselmdb.sniff, aselmdb.AseLmdbSource),
    (trajectory.sniff, trajectory.TrajectorySource),
    (parquet.sniff, parquet.ParquetSource),
    (cif.sniff, FilesSource),
    (extxyz.sniff, extxyz.ExtxyzSource),
    (optimade.sniff, optimade.OptimadeSource),
    (ase_json.sniff, ase_json.AseJsonSource),
    (pandas_json.sniff, pandas_json.PandasSource),
    (poscar_zip.sniff, poscar_zip.PoscarZipSource),
    (jarvis.sniff, jarvis.JarvisSource),
    (matbench.sniff, matbench.MatbenchSource),
    (pymatgen_json.sniff, pymatgen_json.PymatgenSource),
    (csv_cif.sniff, csv_cif.CsvSource),
    (xdatcar.sniff, xdatcar.XdatcarSource),
    (poscar.sniff, FilesSource),
)
CLASSES: tuple[type[Any], ...] = (
    *dict.fromkeys(source for _, source in SNIFFED),
    DatasetSource,
    IdPropSource,
    PickleSource,
    PrototypesSource,
    PythonSource,
)
KINDS: dict[str, type[Any]] = {source.kind: source for source in CLASSES}
FORMATS: tuple[str, ...] = tuple(sorted(KINDS.keys() - {PythonSource.kind}))
"""The names that ``format`` takes."""
# The kinds whose records may hold structures under several keys.
WITH_COLUMNS = (
    csv_cif.CsvSource,
    jarvis.JarvisSource,
    matbench.MatbenchSource,
    pandas_json.PandasSource,
    parquet.ParquetSource,
    pymatgen_json.PymatgenSource,
    PickleSource,
    PythonSource,
)
PATH = (str, os.PathLike)
# A pymatgen Structure, jarvis Atoms and ASE Atoms; two of them are iterables, of their sites.
OF_ONE_STRUCTURE = ("sites", "lattice_mat", "get_atomic_numbers")


def open_sources(
    inputs: Any,
    *,
    format: str | None = None,  # noqa: A002
    id_key: str | None = None,
    options: SourceOptions = DEFAULT_OPTIONS,
) -> list[Source]:
    """Return the sources for one or several inputs, in order.

    A file is recognised by its content, after unpacking a zip or gzip. A folder is a dataset if it has the files of
    one, a CGCNN or ALIGNN folder if it has an ``id_prop.csv``, and else stands for all CIF and POSCAR files in it.
    Consecutive files of one structure each are one source. This reads only the first 64 KiB of a file.

    Args:
        inputs: a path, a glob pattern, ``prototypes:N?seed=S``, a ``LazyGraphDataset`` or a part of one, or several of
            these; or a structure, an iterable of structures, or a mapping of ids to structures (see
            :class:`~lazygraph.sources.python.PythonSource`).
        format: one of ``FORMATS`` for all inputs, instead of detection.
        id_key: the name of the key or column with the ids.
        options: how the inputs are read.

    Raises:
        UnreadableInput: an input does not exist, or is of no known kind.
        InputError: an unknown format, or a key of ids or structures for inputs without keys.

    Example:
        >>> open_sources("prototypes:1000?seed=7")
        [PrototypesSource(path='prototypes:1000?seed=7')]
    """
    if format is not None and format not in FORMATS:
        msg = f"found the format {format!r}; required: one of {', '.join(FORMATS)}"
        raise InputError(msg)
    places, structures = _places_or_structures(inputs)
    if places is None:
        if format is not None:
            msg = f"found the format {format!r} for Python objects; required: none, a format is for files"
            raise InputError(msg)
        return [PythonSource(structures, id_key=id_key, options=options)]
    found = [pair for place in places for pair in _kinds(place, format)]
    if not found:
        raise UnreadableInput("found an empty list of inputs; required: at least one path or structure")
    sources: list[Source] = []
    for source, pairs in groupby(found, key=itemgetter(0)):
        named = [place for _, place in pairs]
        groups = [tuple(named)] if source is FilesSource else [(place,) for place in named]
        sources += [_make(source, group, id_key, options) for group in groups]
    if options.structure_key is not None and not any(isinstance(source, WITH_COLUMNS) for source in sources):
        kinds = ", ".join(dict.fromkeys(source.kind for source in sources))
        msg = f"the structure key {options.structure_key!r} was given for inputs of the kind {kinds}, without columns"
        raise InputError(msg)
    return sources


def source_to_json(source: Source) -> dict[str, Any]:
    """Return the source as JSON: its kind and its fields, without Python objects that it was created from."""
    data: dict[str, Any] = {"kind": source.kind}
    for name in _fields(type(source)):
        value = getattr(source, name)
        if isinstance(value, SourceOptions):
            value = value.to_json() or None
        if value is not None:
            data[name] = list(value) if isinstance(value, tuple) else value
    return data


def source_from_json(data: Mapping[str, Any]) -> Source:
    """Return the source that :func:`source_to_json` described.

    Raises:
        InputError: a kind or a field that this version does not know.

    Example:
        >>> source_from_json({"kind": "extxyz", "path": "/data/mptrj.xyz"})
        ExtxyzSource(path='/data/mptrj.xyz', id_key=None)
    """
    options: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    kind = options.pop("kind", None)
    if kind not in KINDS:
        msg = f"found a source of the kind {kind!r}; required: one of {', '.join(KINDS)}"
        raise InputError(msg)
    if unknown := options.keys() - _fields(KINDS[kind]):
        msg = f"found {sorted(unknown)} in a source of the kind {kind!r}; required: {', '.join(_fields(KINDS[kind]))}"
        raise InputError(msg)
    if "options" in options:
        options["options"] = SourceOptions.from_json(options["options"])
    source: Source = KINDS[kind](**options)
    return source


def _fields(source: type[Any]) -> list[str]:
    return [field.name for field in fields(source) if field.metadata.get("stored", True)]


def _places_or_structures(inputs: Any) -> tuple[list[Any] | None, Iterable[Any]]:
    """Return the inputs as a list of paths and open datasets, or ``None`` and an iterable of structures."""
    if _is_place(inputs):
        return [inputs], ()
    if isinstance(inputs, Mapping):
        one = holds_structure(dict(inputs)) or any(key in inputs for key in USUAL_NAMES)
        return None, [inputs] if one else inputs
    if isinstance(inputs, Crystal) or any(hasattr(inputs, name) for name in OF_ONE_STRUCTURE):
        return None, [inputs]
    if not isinstance(inputs, Iterable):
        msg = f"found {type(inputs).__name__}; required: a path, structures, or an iterable of either"
        raise InputError(msg)
    # A generator can be asked for its first item once only.
    iterator = iter(inputs)
    first = list(islice(iterator, 1))
    if first and not _is_place(first[0]):
        return None, chain(first, iterator)
    places = [*first, *iterator]
    strange = next((item for item in places if not _is_place(item)), None)
    if strange is not None:
        msg = f"found {type(strange).__name__} among paths; required: only paths and datasets, or only structures"
        raise InputError(msg)
    return places, ()


def _is_place(value: Any) -> bool:
    return isinstance(value, PATH) or is_open_dataset(value)


def _kinds(place: Any, format: str | None) -> Iterator[tuple[type[Any], Any]]:  # noqa: A002
    """The class of source for one path or open dataset, and itself; for each match of a pattern that mixes kinds."""
    if not isinstance(place, PATH):
        if format not in (None, DatasetSource.kind):
            msg = f"found the format {format!r} for {place!r}; required: {DatasetSource.kind!r}, or none"
            raise InputError(msg)
        yield DatasetSource, place
        return
    path = os.fspath(place)
    if is_uri(path):
        yield PrototypesSource, path
        return
    # Stored plans are run from other folders.
    path = os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "..", Path.resolve follows links
    place = Path(path)
    if format is not None and (place.exists() or format == FilesSource.kind):
        yield KINDS[format], path
    elif is_dataset(place):
        yield DatasetSource, path
    elif place.is_dir():
        yield _kind_of_folder(place), path
    elif place.exists():
        yield _kind_of_file(place), path
    else:
        matches = expand(path)
        if format is None and all(map(is_structure_name, matches)):
            yield FilesSource, path
            return
        for match in matches:
            yield _kind_of_file(match) if format is None else KINDS[format], str(match)


def _kind_of_folder(folder: Path) -> type[Any]:
    if (folder / TABLE).is_file():
        return IdPropSource
    if next(walk(folder), None) is not None:
        return FilesSource
    names = sorted(path.name for path in folder.iterdir())
    msg = (
        f"the folder {folder} holds {', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''}; "
        f"required: {TABLE}, or files *.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*, or a dataset ({MANIFEST}, columns); "
        "other files are given one by one"
    )
    raise UnreadableInput(msg)


def _kind_of_file(path: Path) -> type[Any]:
    if is_pickle(path):
        return PickleSource
    head = read_head(path)
    for sniff, source in SNIFFED:
        if sniff(head):
            return source
    if is_structure_name(path):  # broken beyond recognition, which its entry will say
        return FilesSource
    msg = (
        f"{path} begins with {head[:40]!r}, which is no known kind of input; required: "
        "CIF, POSCAR, XDATCAR, extended XYZ, an ASE database or trajectory, a table or Parquet with structures, or "
        "JSON of jarvis, matbench, pymatgen, pandas or OPTIMADE, "
        f"or its format by name, one of {', '.join(FORMATS)}"
    )
    raise UnreadableInput(msg)


def _make(source: type[Any], places: tuple[Any, ...], id_key: str | None, options: SourceOptions) -> Source:
    names = _fields(source)
    if id_key is not None and "id_key" not in names:
        msg = f"found the id key {id_key!r} for {places[0]}; required: none, {source.kind} inputs have no keys"
        raise InputError(msg)
    if not isinstance(places[0], str):
        return DatasetSource.of(places[0])
    chosen = {"id_key": id_key, "options": options}
    taken = {name: value for name, value in chosen.items() if name in names}
    made: Source = source(places if source is FilesSource else places[0], **taken)
    return made
