"""Conditions on columns: ``n_atoms < 50 and band_gap > 0``, evaluated without running any code of the caller's."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygraph.errors import InputError

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


def evaluate(condition: str, column: Callable[[str], NDArray[Any]]) -> NDArray[np.bool_]:
    """Which rows meet a condition.

    Comparisons, ``and``, ``or``, ``not``, ``in``, arithmetic, ``abs``, ``isnan``, ``isfinite``; names are columns, in
    backticks where they hold other characters than letters, digits and ``_``. A missing label (NaN) meets nothing but
    ``isnan`` and ``!=``.

    Args:
        condition: the text.
        column: gives the column of a name; raises InputError for an unknown one.

    Raises:
        InputError: the condition cannot be read, or names what does not exist.

    Example:
        >>> table = {"gap": np.array([0.0, 1.5, np.nan]), "last peak": np.array([1.0, 2.0, 3.0])}
        >>> evaluate("gap > 1 or `last peak` == 3", table.__getitem__)
        array([False,  True,  True])
    """
    quoted: list[str] = []

    def hide(match: re.Match[str]) -> str:
        quoted.append(match.group(1))
        return f"__quoted_{len(quoted) - 1}__"

    text = re.sub(r"`([^`]+)`", hide, condition)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refusal(condition, f"it is not an expression ({error})") from None
    names = {f"__quoted_{number}__": name for number, name in enumerate(quoted)}

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Name(id=name):
                return column(names.get(name, name))
            case ast.Constant(value=str() as text):
                return text.encode()
            case ast.Constant(value=bool() | int() | float() as number):
                return number
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                return [value(item) for item in items]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~mask(operand)
            case ast.BoolOp(op=op, values=parts):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return combine.reduce([mask(part) for part in parts])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](value(left), value(right))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                results = []
                for op, right in zip(ops, rights, strict=True):
                    results.append(compare(op, value(left), value(right)))
                    left = right
                return np.logical_and.reduce(results)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _FUNCTIONS:
                return _FUNCTIONS[name](value(argument))
        raise _refusal(condition, f"it holds {ast.unparse(node)!r}")  # type: ignore[arg-type]

    def compare(op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, (ast.In, ast.NotIn)):
            found = np.isin(left, right)
            return found if isinstance(op, ast.In) else ~found
        if type(op) not in _COMPARE:
            raise _refusal(condition, "it compares with 'is'")
        return _COMPARE[type(op)](left, right)

    def mask(node: ast.AST) -> NDArray[np.bool_]:
        result = np.asarray(value(node))
        if result.dtype != np.bool_ or result.ndim != 1:
            raise _refusal(condition, f"{ast.unparse(node)!r} is not true or false for every graph")  # type: ignore[arg-type]
        return result

    try:
        return mask(tree.body)
    except (TypeError, ValueError, np.exceptions.DTypePromotionError) as error:
        if isinstance(error, InputError):
            raise
        raise _refusal(condition, f"{error}") from error


def _refusal(condition: str, reason: str) -> InputError:
    msg = (
        f"the condition {condition!r} cannot be used: {reason}; required: comparisons of columns and numbers joined by "
        "and, or, not, such as 'n_atoms < 50 and band_gap > 0'"
    )
    return InputError(msg)
