"""Detection of sources: the content of an input decides its kind, never the name alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from lazygraph.crystal import Crystal
from lazygraph.errors import InputError, PluginError, UnreadableInput
from lazygraph.format.manifest import MANIFEST
from lazygraph.registry import Registry, unknown_name
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
from lazygraph.sources.catalogue.source import CatalogueSource
from lazygraph.sources.catalogue.table import is_catalogue_name
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
from lazygraph.storage.base import is_url
from lazygraph.storage.transport import shown

__all__ = ["FORMATS", "SOURCE_REGISTRY", "open_sources", "source_from_json", "source_to_json"]

# The order matters. A CSV or a JSON may hold CIF and POSCAR texts, so the text formats of one structure come last.
# CIF is an exception, because only a CIF begins with its first words.
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
    CatalogueSource,
    DatasetSource,
    IdPropSource,
    PickleSource,
    PrototypesSource,
    PythonSource,
)
KINDS: dict[str, type[Any]] = {source.kind: source for source in CLASSES}
FORMATS: tuple[str, ...] = tuple(sorted(KINDS.keys() - {CatalogueSource.kind, PythonSource.kind}))
"""The names that ``format`` takes, except for those of plug-ins."""
SOURCE_REGISTRY: Registry[type[Any]] = Registry(
    "format", {name: KINDS[name] for name in FORMATS}, group="lazygraph.sources"
)
"""The sources by format: those of ``FORMATS`` and those of installed plug-ins."""
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
# A pymatgen Structure, jarvis Atoms and ASE Atoms. Two of them iterate over their sites.
OF_ONE_STRUCTURE = ("sites", "lattice_mat", "get_atomic_numbers")


def open_sources(
    inputs: Any,
    *,
    format: str | None = None,  # noqa: A002
    id_key: str | None = None,
    options: SourceOptions = DEFAULT_OPTIONS,
) -> list[Source]:
    """Return the sources for one or several inputs, in order.

    A file is recognised by its content, unpacked from zip or gzip first; a folder is a dataset if it is laid out as
    one, that of CGCNN or ALIGNN if it has an ``id_prop.csv``, else all CIF and POSCAR files in it. Files of one
    structure that follow one another are one source. Nothing but the first 64 KiB of a file is read here. A file of no
    kind of the package's own is shown to the sources of installed plug-ins that have a static method
    ``recognizes(head: bytes, name: str) -> bool``.

    Args:
        inputs: a path, a glob pattern, ``prototypes:N?seed=S``, a name of the catalogue such as ``jarvis:dft_3d``, a
            ``LazyGraphDataset`` or a part of one, or several of these; or a structure, an iterable of structures, or a
            mapping of ids to structures (see :class:`~lazygraph.sources.python.PythonSource`).
        format: one of ``FORMATS``, or a format that an installed plug-in declares, for all inputs, in place of what
            their content says.
        id_key: the name under which the inputs hold their ids.
        options: how the inputs are read.

    Raises:
        UnreadableInput: nothing is there, or it is of no known kind.
        InputError: an unknown format, or a key of ids or structures for inputs that have no keys.
        PluginError: a plug-in that is asked for cannot be used.

    Example:
        >>> open_sources("prototypes:1000?seed=7")
        [PrototypesSource(path='prototypes:1000?seed=7')]
    """
    kind = None if format is None else _named(format)
    places, structures = _places_or_structures(inputs)
    if places is None:
        if format is not None:
            msg = f"the format {format!r} was given for Python objects; leave it out, because only files have a format"
            raise InputError(msg)
        return [PythonSource(structures, id_key=id_key, options=options)]
    found = [pair for place in places for pair in _kinds(place, kind)]
    if not found:
        raise UnreadableInput("the list of inputs is empty; give at least one path or structure")
    sources: list[Source] = []
    for source, pairs in groupby(found, key=itemgetter(0)):
        named = [place for _, place in pairs]
        groups = [tuple(named)] if source is FilesSource else [(place,) for place in named]
        sources += [_make(source, group, id_key, options) for group in groups]
    if options.structure_key is not None and not any(_has_columns(source) for source in sources):
        kinds = ", ".join(dict.fromkeys(source.kind for source in sources))
        msg = (
            f"the structure key {options.structure_key!r} was given for inputs of the kind {kinds}, which have no "
            "columns; leave it out"
        )
        raise InputError(msg)
    return sources


def source_to_json(source: Source) -> dict[str, Any]:
    """Return the source as JSON: its kind and its fields. Python objects of the source are left out.

    A source of a plug-in also names its package, because another version may read other crystals.
    """
    data: dict[str, Any] = {"kind": source.kind}
    if source.kind not in KINDS:
        data["package"] = SOURCE_REGISTRY.origin(source.kind)
    for name in _fields(type(source)):
        value = getattr(source, name)
        if isinstance(value, SourceOptions):
            value = value.to_json() or None
        elif name == "inner":
            value = source_to_json(value)
        if value is not None:
            data[name] = list(value) if isinstance(value, tuple) else value
    return data


def source_from_json(data: Mapping[str, Any]) -> Source:
    """Return the source that :func:`source_to_json` described. This imports nothing, for any name of a kind.

    Raises:
        InputError: a kind or a field that this version does not know, or a plug-in that is not in use or of another
            version.

    Example:
        >>> source_from_json({"kind": "extxyz", "path": "/data/mptrj.xyz"})
        ExtxyzSource(path='/data/mptrj.xyz', id_key=None)
    """
    options: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    kind = options.pop("kind", None)
    known: type[Any] = KINDS[kind] if isinstance(kind, str) and kind in KINDS else _in_use(kind, options)
    if unknown := options.keys() - _fields(known):
        msg = (
            f"a source of the kind {kind!r} has the unknown fields {sorted(unknown)}; known: "
            f"{', '.join(_fields(known))}"
        )
        raise InputError(msg)
    if "options" in options:
        options["options"] = SourceOptions.from_json(options["options"])
    if known is CatalogueSource:
        inner = options.get("inner")
        if not isinstance(inner, dict) or inner.get("kind") == kind:
            msg = f"found {inner!r:.60} as the source of a file of the catalogue; required: a kind and a path"
            raise InputError(msg)
        options["inner"] = source_from_json(inner)
    source: Source = known(**options)
    return source


def _named(format: str) -> type[Any]:  # noqa: A002
    """Return the source of a format that the user named.

    Raises:
        InputError: the format is unknown.
        PluginError: the plug-in that declares the format does not hold a source.
    """
    source = SOURCE_REGISTRY.get(format)
    methods = all(callable(getattr(source, name, None)) for name in ("scan", "read"))
    if getattr(source, "kind", None) != format or not is_dataclass(source) or not methods:
        msg = (
            f"the format {format!r} of {SOURCE_REGISTRY.origin(format)} is {source!r:.200}; required: a frozen "
            f"dataclass with the methods of lazygraph.sources.base.Source and kind = {format!r}"
        )
        raise PluginError(msg)
    return source


def _in_use(kind: Any, data: dict[str, Any]) -> type[Any]:
    """Return the source of a plug-in that a plan names, and take its package out of the data.

    Raises:
        InputError: the plug-in is unknown, not in use in this process, or of another version.
    """
    source, package = SOURCE_REGISTRY.known(kind), data.pop("package", None)
    if source is None:
        if kind in SOURCE_REGISTRY.plugins():
            msg = (
                f"the input is of the format {kind!r} of the plug-in {package}, which is not imported because a plan "
                f"names it; name it too: --format {kind}, or format={kind!r} in Python"
            )
            raise InputError(msg)
        known = sorted({*KINDS, *SOURCE_REGISTRY})
        raise InputError(unknown_name("kind of source", kind, known) + (f"; install {package}" if package else ""))
    if package != (here := SOURCE_REGISTRY.origin(kind)):
        msg = (
            f"the plan was made with the plug-in {package}, but {here} is installed; install the same version, or "
            "plan again"
        )
        raise InputError(msg)
    return source


def _has_columns(source: Source) -> bool:
    """Whether records of this source may hold structures under several keys. A plug-in says so by its field."""
    if isinstance(source, CatalogueSource):
        return _has_columns(source.inner)
    return isinstance(source, WITH_COLUMNS) or (source.kind not in KINDS and "options" in _fields(type(source)))


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


def _kinds(place: Any, named: type[Any] | None) -> Iterator[tuple[type[Any], Any]]:
    """Yield (class of source, input) for one path or open dataset, or for each match of a pattern that mixes kinds."""
    if not isinstance(place, PATH):
        if named not in (None, DatasetSource):
            msg = (
                f"the format {named.kind!r} was given for the dataset {place!r}; give {DatasetSource.kind!r}, or no "
                "format"
            )
            raise InputError(msg)
        yield DatasetSource, place
        return
    path = os.fspath(place)
    if is_uri(path):
        yield PrototypesSource, path
    elif is_url(path):
        yield DatasetSource, _checked_url(path, named)
    elif is_catalogue_name(path) and not Path(path).exists():  # an existing file of this name comes first
        yield from _of_catalogue(path, named)
    else:
        yield from _kinds_of_path(path, named)


def _checked_url(url: str, named: type[Any] | None) -> str:
    """Return the URL of a dataset, which plans store."""
    if named not in (None, DatasetSource):
        msg = f"the format {named.kind!r} was given for {shown(url)}; leave it out, because a URL names a dataset"
        raise InputError(msg)
    if "?" in url or "@" in url.partition("://")[2].partition("/")[0]:
        msg = f"{shown(url)}: a URL with a user name or a signature would be written into the plan; pull it first"
        raise InputError(msg)
    return url


def _kinds_of_path(path: str, named: type[Any] | None) -> Iterator[tuple[type[Any], Any]]:
    """Yield (class of source, path) for one path, or for each match of a pattern that mixes kinds."""
    # Absolute, because stored plans are run from other folders.
    path = os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "..", Path.resolve follows links
    place = Path(path)
    if named is not None and (place.exists() or named is FilesSource):
        yield named, path
    elif is_dataset(place):
        yield DatasetSource, path
    elif place.is_dir():
        yield _kind_of_folder(place), path
    elif place.exists():
        yield _kind_of_file(place), path
    else:
        matches = expand(path)
        if named is None and all(map(is_structure_name, matches)):
            yield FilesSource, path
            return
        for match in matches:
            yield named or _kind_of_file(match), str(match)


def _of_catalogue(name: str, named: type[Any] | None) -> Iterator[tuple[type[Any], Any]]:
    """The files of a data set of the catalogue, which are downloaded if need be."""
    from lazygraph.sources.catalogue.download import downloaded, entry_of

    entry = entry_of(name)
    if entry.unpack is not None:
        msg = f"{name} is {entry.unpack}; download it with: lazygraph catalogue {name} --download"
        raise InputError(msg)
    for file in downloaded(entry):
        yield CatalogueSource, _File(name, named or _kind_of_file(file), os.fspath(file))


class _File(NamedTuple):
    """A file of a data set of the catalogue."""

    entry: str
    kind: type[Any]
    path: str


def _kind_of_folder(folder: Path) -> type[Any]:
    if (folder / TABLE).is_file():
        return IdPropSource
    if next(walk(folder), None) is not None:
        return FilesSource
    names = sorted(path.name for path in folder.iterdir())
    msg = (
        f"the folder {folder} holds {', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''}; it must "
        f"hold {TABLE}, or files *.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*, or a dataset ({MANIFEST}, columns). Give "
        "other files one by one"
    )
    raise UnreadableInput(msg)


def _kind_of_file(path: Path) -> type[Any]:
    if is_pickle(path):
        return PickleSource
    head = read_head(path)
    for sniff, source in SNIFFED:
        if sniff(head):
            return source
    for name in SOURCE_REGISTRY.plugins():
        plugin = _named(name)
        recognizes = getattr(plugin, "recognizes", None)
        if recognizes is not None and recognizes(head, path.name):
            return plugin
    if is_structure_name(path):  # unrecognisable, which its entry will say
        return FilesSource
    msg = (
        f"{path} begins with {head[:40]!r}, which is no known kind of input. Known kinds are CIF, POSCAR, XDATCAR, "
        "extended XYZ, an ASE database or trajectory, a table or Parquet with structures, and JSON of jarvis, "
        f"matbench, pymatgen, pandas or OPTIMADE. You can also name the format, one of {', '.join(SOURCE_REGISTRY)}"
    )
    raise UnreadableInput(msg)


def _make(source: type[Any], places: tuple[Any, ...], id_key: str | None, options: SourceOptions) -> Source:
    if isinstance(place := places[0], _File):
        return CatalogueSource(place.entry, _make(place.kind, (place.path,), id_key, options))
    names = _fields(source)
    if id_key is not None and "id_key" not in names:
        msg = (
            f"the id key {id_key!r} was given for {places[0]}; leave it out, because {source.kind} inputs have no keys"
        )
        raise InputError(msg)
    if not isinstance(places[0], str):
        return DatasetSource.of(places[0])
    chosen = {"id_key": id_key, "options": options}
    taken = {name: value for name, value in chosen.items() if name in names}
    made: Source = source(places if source is FilesSource else places[0], **taken)
    return made
