"""Conditions on columns, such as ``n_atoms < 50 and band_gap > 0``, evaluated without running the caller's code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import CorruptDataset, InputError
from lazygraph.reading.operands import Categories, Elements

__all__ = ["evaluate"]

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"abs": np.abs, "isnan": np.isnan, "isfinite": np.isfinite}


def evaluate(condition: str, column: Callable[[str], Any]) -> NDArray[np.bool_]:
    """Return a mask of the rows that meet a condition.

    A condition may use comparisons, ``and``, ``or``, ``not``, ``in``, arithmetic, ``abs``, ``isnan`` and ``isfinite``.
    Names are columns. A name with characters other than letters, digits and ``_`` needs backticks. A missing label
    (NaN) meets only ``isnan``, ``!=`` and ``not``. A text is compared with texts: ``config_type == 'bulk'``,
    ``level in ('PBE', 'SCAN')``. ``elements`` is a set: ``'Fe' in elements``, ``elements == {'Fe', 'O'}``, and
    ``elements <= {'Fe', 'O'}`` for crystals without any other element.

    Args:
        condition: the text.
        column: returns the column of a name: an array, with texts as bytes, ``Categories`` or ``Elements``. Raises
            InputError for an unknown name.

    Raises:
        InputError: the condition cannot be parsed, names a column that does not exist, or compares a category with a
            text that no graph of the dataset has.

    Warns:
        UserWarning: no graph of the dataset has one of the texts after ``in``.

    Example:
        >>> table = {"gap": np.array([0.0, 1.5, np.nan]), "last peak": np.array([1.0, 2.0, 3.0])}
        >>> evaluate("gap > 1 or `last peak` == 3", table.__getitem__)
        array([False,  True,  True])
    """
    quoted: dict[str, str] = {}

    def hide(match: re.Match[str]) -> str:
        name = f"__quoted_{len(quoted)}__"
        quoted[name] = match.group(1)
        return name

    text = re.sub(r"`([^`]+)`", hide, condition)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _Condition(lambda name: column(quoted.get(name, name))).mask(tree.body)
    except InputError as error:
        if isinstance(error, _Unusable):
            raise _refusal(condition, str(error)) from None
        raise
    except (SyntaxError, RecursionError, MemoryError) as error:
        hint = (
            "; a name with spaces or other signs needs backticks, as in `band gap` > 1" if "`" not in condition else ""
        )
        raise _refusal(condition, f"it is not an expression ({error}){hint}") from None
    except CorruptDataset:  # of a column
        raise
    except (TypeError, ValueError) as error:  # of numpy: text compared with numbers, arrays of different shapes
        raise _refusal(condition, str(error)) from error


class _Unusable(InputError):
    """The reason why a condition cannot be used."""


class _Condition:
    """An evaluator of the syntax tree of a condition. It refuses every kind of node that it does not list."""

    def __init__(self, column: Callable[[str], NDArray[Any]]) -> None:
        self.column = column

    def mask(self, node: ast.expr) -> NDArray[np.bool_]:
        """Return the value of a node that is true or false for every row."""
        result = np.asarray(self.value(node))
        if result.dtype != np.bool_ or result.ndim != 1:
            msg = f"{ast.unparse(node)!r} is not true or false for every graph"
            raise _Unusable(msg)
        return result

    def value(self, node: ast.expr) -> Any:
        """Return the value of a node: a column, a number, a text as bytes, or a computed value."""
        match node:
            case ast.Name(id=name):
                return self.column(name)
            case ast.Constant(value=str() as text):
                return text.encode()
            case ast.Constant(value=bool() | int() | float() as number):
                return number
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                return [self.value(item) for item in items]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
                return _FUNCTIONS[name](self.value(argument))
        return self.truth(node)

    def truth(self, node: ast.expr) -> Any:
        """Return the value of a comparison, or of a combination of comparisons."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.mask(operand)
            case ast.BoolOp(op=op, values=parts):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return combine.reduce([self.mask(part) for part in parts])
            case ast.Compare(left=left, ops=ops, comparators=rights):
                sides = [self.value(side) for side in (left, *rights)]
                results = [self.compare(*parts) for parts in zip(ops, sides, sides[1:], strict=False)]
                return results[0] if len(results) == 1 else np.logical_and.reduce(results)
        msg = f"it holds {ast.unparse(node)!r}"
        raise _Unusable(msg)

    def compare(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        """Compare two values."""
        if isinstance(op, ast.NotIn):
            return ~self.compare(ast.In(), left, right)
        if isinstance(left, Elements) or isinstance(right, Elements):
            return _compare_elements(op, left, right)
        if isinstance(op, ast.In):
            if not isinstance(right, list):
                msg = "only elements and lists, such as (1, 2) or ('a', 'b'), can stand after 'in'"
                raise _Unusable(msg)
            _require_same_kind(left, *right)
            return left.among(right) if isinstance(left, Categories) else np.isin(left, right)
        if type(op) not in _COMPARE:
            msg = "it compares with 'is'"
            raise _Unusable(msg)
        _require_same_kind(left, right)
        if isinstance(op, (ast.Eq, ast.NotEq)) and (sides := _category_and_text(left, right)) is not None:
            equal = sides[0].equal(sides[1])
            return equal if isinstance(op, ast.Eq) else ~equal
        left, right = (side.texts() if isinstance(side, Categories) else side for side in (left, right))
        return _COMPARE[type(op)](left, right)


_SETS: dict[type[ast.cmpop], tuple[str, str]] = {  # what is asked, also with the sides exchanged
    ast.Eq: ("==", "=="),
    ast.NotEq: ("!=", "!="),
    ast.LtE: ("<=", ">="),
    ast.GtE: (">=", "<="),
    ast.Lt: ("<", ">"),
    ast.Gt: (">", "<"),
}


def _compare_elements(op: ast.cmpop, left: Any, right: Any) -> NDArray[np.bool_]:
    if isinstance(op, ast.In) and isinstance(left, bytes) and isinstance(right, Elements):
        return right.having(left.decode())
    elements, other, turned = (left, right, 0) if isinstance(left, Elements) else (right, left, 1)
    texts = isinstance(other, list) and all(isinstance(one, bytes) for one in other)
    if type(op) not in _SETS or not texts:
        msg = "write a test for an element as 'Fe' in elements, or compare with a set, such as elements == {'Fe', 'O'}"
        raise _Unusable(msg)
    return elements.compare(_SETS[type(op)][turned], {one.decode() for one in other})


def _category_and_text(left: Any, right: Any) -> tuple[Categories, bytes] | None:
    if isinstance(left, Categories) and isinstance(right, bytes):
        return left, right
    return (right, left) if isinstance(right, Categories) and isinstance(left, bytes) else None


def _require_same_kind(*values: Any) -> None:
    """Refuse to compare texts with numbers, which would be false for every graph."""
    kinds = {
        isinstance(value, (bytes, Categories)) or getattr(value, "dtype", np.dtype("f8")).kind == "S"
        for value in values
    }
    if len(kinds) > 1:
        msg = "it compares a text with a number; texts stand in quotes, and columns of texts are compared with texts"
        raise _Unusable(msg)


def _refusal(condition: str, reason: str) -> InputError:
    msg = (
        f"the condition {condition!r} cannot be used: {reason}; required: comparisons of columns and numbers joined by "
        "and, or, not, such as 'n_atoms < 50 and band_gap > 0', or \"config_type == 'bulk' and 'Fe' in elements\""
    )
    return InputError(msg)
