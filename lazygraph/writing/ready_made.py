"""Ready-made graphs as arrays: the fields of a PyG ``Data`` or a mapping, and the way in which its class joins them."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError
from lazygraph.format.schema import DTYPES, MAX_TEXT

__all__ = ["Arrays", "Joining", "ReadyMade", "is_index", "is_of_nodes"]

Arrays = dict[str, NDArray[Any] | str]

# The names of fields with one row per node: the names of PyG (torch_geometric.data.storage), and of atoms.
NODE_KEYS = ("x", "feat", "pos", "node_type", "n_id")
ATOM_KEYS = ("z", "numbers", "atomic_numbers")
# The fields that PyG makes when it joins graphs, and changes when it joins them again.
OF_A_BATCH = ("batch", "ptr")


class Joining(NamedTuple):
    """How a class derived from PyG's ``Data`` joins one field."""

    dim: int
    """The dimension along which the field is joined."""
    step: int
    """The number that is added to the values of the next graph."""


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """One graph that can be stored.

    Attributes:
        arrays: name -> array, or text.
        n_nodes: the number of its nodes.
        numbers: the fields that were Python numbers; each is an array of one value.
        joining: how the class of the graph joins its fields, if the class decides about it.
        kind: the class of the graph.
        own_id: the text of its field ``id``, which the record does not store.
    """

    arrays: Arrays
    n_nodes: int
    numbers: frozenset[str] = frozenset()
    joining: Mapping[str, Joining] = field(default_factory=dict)
    kind: str = "dict"
    own_id: str | None = None

    @classmethod
    def of(cls, data: Any) -> ReadyMade:
        """Convert a PyG ``Data`` or a mapping of arrays.

        Raises:
            InputError: it is something else, or a field cannot come back from a dataset in the way of PyG.
        """
        kind = type(data).__name__
        base = _data_class(type(data))
        if base is None and not isinstance(data, Mapping):
            raise InputError(_what_it_is(data))
        given = {str(name): value for name, value in (data if base is None else data.to_dict()).items()}
        given = {name: value for name, value in given.items() if value is not None}
        own_id = _own_id(given)
        numbers = frozenset(name for name, value in given.items() if _is_number(value)) - {"num_nodes"}
        arrays = {name: _array(name, value, of_data=base is not None) for name, value in given.items()}
        joining = {} if base is None else dict(_own_joining(data, base, given, arrays))
        for name in arrays:
            # PyG overwrites the first two, and adds the greatest number of the others to them.
            if name in OF_A_BATCH or (
                base is not None and "batch" in name and hasattr(given[name], "detach") and name not in joining
            ):
                msg = (
                    f"the field {name!r} is the kind that PyG makes of a batch of graphs, and would not come back; "
                    "add each graph alone, or rename the field"
                )
                raise InputError(msg)
        counted = {name: array for name, array in arrays.items() if name not in numbers}
        return cls(arrays, _number_of_nodes(data, base, counted, joining), numbers, joining, kind, own_id)


def _data_class(kind: type) -> Any:
    """Return PyG's ``Data`` among the base classes; None if the graph is not a single ``Data``. PyG is not imported."""
    bases = {base.__name__: base for base in reversed(kind.__mro__) if _of_pyg(base)}
    return None if "Batch" in bases else bases.get("Data")


def _of_pyg(kind: type) -> bool:
    return kind.__module__.startswith("torch_geometric.")


def _what_it_is(data: Any) -> str:
    """Say why something is not a graph that can be added, and what to do."""
    kind = type(data).__name__
    names = {base.__name__ for base in type(data).__mro__ if _of_pyg(base)}
    is_a = f"the graph is a {kind}"
    if "Batch" in names:
        return f"{is_a}, which holds several graphs; add each of batch.to_data_list()"
    if "HeteroData" in names:
        return (
            f"{is_a}; a dataset holds graphs with one kind of nodes and edges: give data.to_homogeneous(), a Data with "
            "the fields node_type and edge_type"
        )
    return f"{is_a}; required: a PyG Data, or a mapping of names to arrays, numbers and texts"


def _own_id(given: dict[str, Any]) -> str | None:
    """Take the id out of the fields, because a dataset gives the id of the graph under this name."""
    value = given.pop("id", None)
    if value is not None and not isinstance(value, str):
        msg = f"the field 'id' is {type(value).__name__}, and the id of the graph would hide it; rename it"
        raise InputError(msg)
    return value


# ---- fields ----


def _array(name: str, value: Any, *, of_data: bool) -> NDArray[Any] | str:
    if name == "num_nodes":
        return np.asarray(_whole_number_of_nodes(value))
    if isinstance(value, str):
        return _text(name, value)
    kind = type(value).__name__
    if _of_pyg(type(value)):
        article = "an" if kind[0] in "AEIOU" else "a"
        msg = f"the field {name!r} is {article} {kind}, whose sizes and order cannot be stored; give {name}.as_tensor()"
        raise InputError(msg)
    if of_data and isinstance(value, (list, tuple, dict, set)):
        msg = f"the field {name!r} is a {kind}, which PyG would not join; give a tensor, a number or a text"
        raise InputError(msg)
    try:
        if _is_number(value):
            array = _of_number(value, of_data=of_data)
        else:
            array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        kind = f"{kind} of {array.dtype}"
        known = array.dtype.name in DTYPES
    except (TypeError, ValueError, RuntimeError, OverflowError):  # sparse tensors, bfloat16, ragged lists
        known = False
    if not known:
        msg = f"the field {name!r} is {kind}; required: an array, number or text, of type {', '.join(DTYPES)}"
        raise InputError(msg)
    return array


def _is_number(value: Any) -> bool:
    """Whether this is a Python number. Numbers of numpy count as arrays without dimensions."""
    return isinstance(value, (bool, int, float)) and not isinstance(value, np.generic)


def _of_number(value: float, *, of_data: bool) -> NDArray[Any]:
    """(1,) the value as PyG's ``InMemoryDataset`` stores it; in a mapping, without loss of digits."""
    if of_data:
        array: NDArray[Any] = sys.modules["torch"].tensor([value]).numpy()  # a Data has imported torch
        return array
    return np.asarray([value])


def _text(name: str, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        msg = f"the text {name!r} cannot be written in UTF-8: {error}"
        raise InputError(msg) from None
    if size > MAX_TEXT:
        msg = f"the text of {name!r} has {size} bytes; required: at most {MAX_TEXT}"
        raise InputError(msg)
    return value


# ---- nodes ----


def is_index(name: str) -> bool:
    """Whether PyG treats a field of this name as indices of nodes."""
    return "index" in name or name == "face"


def is_of_nodes(name: str) -> bool:
    """Whether the rows of an array of this name are the nodes."""
    return name in NODE_KEYS or name in ATOM_KEYS or "node" in name


def _whole_number_of_nodes(value: Any) -> int:
    """Return the number of nodes from an int or an array of one integer."""
    found = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    if found.size != 1 or found.dtype.kind not in "iu" or found.item() < 0:
        msg = f"num_nodes is {value!r}; required: a whole number, at least 0"
        raise InputError(msg)
    return int(found.item())


def _number_of_nodes(data: Any, base: Any, arrays: Arrays, joining: Mapping[str, Joining]) -> int:
    """Return the number of nodes in the way of PyG, or the number of atoms if PyG could only guess.

    Raises:
        InputError: no field tells the number.
    """
    given = arrays.get("num_nodes")
    if isinstance(given, np.ndarray):
        return int(given)
    if base is not None and type(data).num_nodes is not base.num_nodes:
        return _whole_number_of_nodes(data.num_nodes)
    of_nodes = [name for name in arrays if name in NODE_KEYS] + [name for name in arrays if "node" in name]
    for name in (*of_nodes, *ATOM_KEYS):
        value = arrays.get(name)
        if isinstance(value, np.ndarray) and value.ndim:
            return int(value.shape[joining[name].dim if name in joining else -1 if is_index(name) else 0])
    for name in ("edge_index", "face"):
        value = arrays.get(name)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            warnings.warn(
                f"nothing says how many nodes a graph has; the greatest number in {name!r} is taken for its last node, "
                "as PyG does: give num_nodes",
                stacklevel=4,  # the line that adds the graph
            )
            return int(value.max()) + 1 if value.size else 0
    msg = "nothing says how many nodes the graph has; give num_nodes, or an array of its nodes such as x, pos or z"
    raise InputError(msg)


# ---- the class of a graph ----


def _own_joining(data: Any, base: Any, given: Mapping[str, Any], arrays: Arrays) -> Iterator[tuple[str, Joining]]:
    """Yield how a class with its own ``__inc__`` or ``__cat_dim__`` joins the fields of a graph.

    Raises:
        InputError: one of them is joined in a way that a dataset cannot store.
    """
    kind = type(data)
    if kind.__inc__ is base.__inc__ and kind.__cat_dim__ is base.__cat_dim__:
        return
    for name, array in arrays.items():
        if isinstance(array, str) or name == "num_nodes":
            continue
        value = given[name]
        with warnings.catch_warnings():  # PyG warns if it guesses the number of nodes
            warnings.simplefilter("ignore")
            dim, usual_dim = (cls.__cat_dim__(data, name, value, data.stores[0]) for cls in (kind, base))
            step, usual_step = (_steps(cls, data, name, value) for cls in (kind, base))
        if dim == usual_dim and step == usual_step and array.dtype.kind not in "iu":
            continue  # PyG would raise real numbers too, in a field such as refractive_index
        says = f"its class {kind.__name__}"
        if dim is None and array.ndim:
            one = (1, *array.shape)
            msg = f"{says} joins {name!r} along a new dimension, which cannot be stored; give it the shape {one}"
            raise InputError(msg)
        if array.ndim and (not isinstance(dim, int) or not -array.ndim <= dim < array.ndim):
            msg = f"{says} joins {name!r} of shape {array.shape} along {dim!r}; required: one of its dimensions"
            raise InputError(msg)
        if step is None or len(step) != 1 or not math.isfinite(step[0]) or step[0] != int(step[0]):
            msg = (
                f"{says} raises {name!r} by {step}; only one number can be stored, so give its rows as fields of "
                "their own"
            )
            raise InputError(msg)
        yield name, Joining(dim % array.ndim if array.ndim else 0, int(step[0]))


def _steps(kind: Any, data: Any, name: str, value: Any) -> list[float] | None:
    """Return the numbers by which a class raises a field; None if there are none."""
    try:
        found = kind.__inc__(data, name, value, data.stores[0])
    except (RuntimeError, TypeError):  # PyG takes the maximum of no values, or adds a number of nodes that is None
        return None
    steps: list[float] = (
        np.asarray(found.detach().cpu().numpy() if hasattr(found, "detach") else found).ravel().tolist()
    )
    return steps
