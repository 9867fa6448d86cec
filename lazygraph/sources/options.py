"""Options for reading inputs, common to all kinds of sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from lazygraph.errors import InputError

__all__ = ["CIF_FORMULA", "DEFAULT_OPTIONS", "CifFormula", "SourceOptions"]

CifFormula: TypeAlias = Literal["error", "warn", "ignore"]
CIF_FORMULA: tuple[str, ...] = get_args(CifFormula)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options for reading that sources share. Each source uses the options that apply to it.

    Picklable. The options are part of the plan of a dataset: a run cannot continue with other options.

    Args:
        cif_formula: what to do with a CIF whose sites contradict its ``_chemical_formula_sum`` or its Z: ``error``
            quarantines it, ``warn`` keeps it and names it in the notes of the report, ``ignore`` keeps it.
        structure_key: the key or column that holds the structure, if a record has several. By default it is chosen once
            for each source.
        trust_pickle: load pickle files, which can run any code when they are loaded.

    Raises:
        InputError: ``cif_formula`` is not one of the three values.

    Example:
        >>> SourceOptions(cif_formula="warn").to_json()
        {'cif_formula': 'warn'}
    """

    cif_formula: CifFormula = "error"
    structure_key: str | None = None
    trust_pickle: bool = False

    def __post_init__(self) -> None:
        if self.cif_formula not in CIF_FORMULA:
            msg = f"unknown value {self.cif_formula!r} of cif_formula; allowed: {', '.join(CIF_FORMULA)}"
            raise InputError(msg)

    def to_json(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        default = asdict(SourceOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SourceOptions:
        """Read the JSON form.

        Raises:
            InputError: an option that this version does not know.
        """
        try:
            return cls(**data)
        except TypeError:
            unknown = sorted(set(data) - set(asdict(cls())))
            msg = f"unknown source options {unknown}; allowed: {', '.join(asdict(cls()))}"
            raise InputError(msg) from None


DEFAULT_OPTIONS = SourceOptions()
