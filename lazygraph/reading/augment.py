"""Augmentation: crystals are changed when they are read, before their edges are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazygraph.crystal import SYMBOLS
from lazygraph.errors import InputError
from lazygraph.reading.crystal_batch import CrystalBatch, rows_times
from lazygraph.reading.draws import Draws, derived_seeds
from lazygraph.registry import unknown_name

__all__ = [
    "Augmentation",
    "AugmentationCounts",
    "Augmenter",
    "LabelFacts",
    "Rattle",
    "RefusedCrystal",
    "Rotate",
    "Strain",
    "Supercell",
]

DISPLACEMENT = "displacement"
KINDS = ("scalar", "vector", "tensor", "voigt")
# By the last word of their name, labels of these shapes turn with the crystal; others must be declared.
VECTORS = frozenset({"force", "forces", "velocity", "velocities", "momenta", "dipole", DISPLACEMENT})
TENSORS = frozenset({"stress", "stresses", "virial", "virials"})
MOVED = frozenset({"energy", "energies", "force", "forces", *TENSORS})  # labels that moving atoms makes untrue
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # xx, yy, zz, yz, xz, xy


class LabelFacts(NamedTuple):
    """What an augmentation is told of a label."""

    name: str
    per: str
    """``atom`` or ``crystal``: what has one value."""
    shape: tuple[int, ...]
    given_per: str | None = None
    """``cell`` or ``atom``, as the dataset declares it."""
    unit: str | None = None

    @property
    def last_word(self) -> str:
        """``forces`` of ``REF_forces``."""
        return self.name.lower().rsplit("_", 1)[-1]


class AugmentationCounts(NamedTuple):
    """How many crystals were augmented.

    Example:
        >>> AugmentationCounts(100, 3, 1) + AugmentationCounts(50)
        AugmentationCounts(crystals=150, redrawn=3, unchanged=1)
    """

    crystals: int = 0
    """Crystals that were read."""
    redrawn: int = 0
    """Crystals that were drawn more than once, because their augmented form was refused."""
    unchanged: int = 0
    """Crystals that were taken unchanged, because every draw was refused."""

    def __add__(self, other: Any) -> AugmentationCounts:
        return AugmentationCounts(*(a + b for a, b in zip(self, other, strict=True)))


class RefusedCrystal(Exception):
    """One of several crystals cannot be augmented.

    Args:
        crystal: its place among them.
        problem: what is wrong.
    """

    def __init__(self, crystal: int, problem: str) -> None:
        super().__init__(crystal, problem)
        self.crystal, self.problem = crystal, problem


class Augmentation(Protocol):
    """A step of an augmentation: one of lazygraph, or any function with this signature."""

    def __call__(self, crystals: CrystalBatch, draws: Draws, /) -> CrystalBatch:
        """Return changed crystals. All random numbers come from ``draws``."""


@dataclass(frozen=True, slots=True)
class Rattle:
    """Move every atom by random numbers, and keep the displacement as a target for denoising.

    Every graph gets the field ``displacement`` (N, 3), A: ``pos - displacement`` are the positions without the rattle.
    Later steps turn and strain it with the crystal. The labels of the dataset stay those of the stored crystal.

    Args:
        sigma: standard deviation of every component of the displacement, A.

    Raises:
        InputError: ``sigma`` is not a positive number.

    Example:
        >>> Rattle(0.05)
        Rattle(sigma=0.05)
    """

    sigma: float
    adds: ClassVar[Mapping[str, tuple[int, ...]]] = MappingProxyType({DISPLACEMENT: (3,)})
    keeps_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_positive("Rattle", self.sigma)

    def __call__(self, crystals: CrystalBatch, draws: Draws, /) -> CrystalBatch:
        """Move the atoms."""
        moved = self.sigma * draws.normal("atom", 3)
        labels = {**crystals.atom_labels, DISPLACEMENT: crystals.atom_labels[DISPLACEMENT] + moved}
        return replace(crystals.moved(moved), atom_labels=labels)


@dataclass(frozen=True, slots=True)
class Strain:
    """Deform every cell with its atoms by a random symmetric strain.

    The lattice becomes ``lattice @ (1 + strain)``. Fractional coordinates stay as they are. The labels of the dataset
    stay those of the stored crystal.

    Args:
        sigma: standard deviation of the six components of the strain, without unit.

    Raises:
        InputError: ``sigma`` is not a positive number.

    Example:
        >>> Strain(0.02)
        Strain(sigma=0.02)
    """

    sigma: float
    keeps_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_positive("Strain", self.sigma)

    def __call__(self, crystals: CrystalBatch, draws: Draws, /) -> CrystalBatch:
        """Deform the cells."""
        deformation = np.eye(3) + self.sigma * draws.normal("crystal", 6)[:, VOIGT]
        lattice = rows_times(crystals.lattice, deformation)
        if DISPLACEMENT not in crystals.atom_labels:
            return replace(crystals, lattice=lattice)
        strained = rows_times(crystals.atom_labels[DISPLACEMENT], deformation[crystals.graph_of_atom])
        return replace(crystals, lattice=lattice, atom_labels={**crystals.atom_labels, DISPLACEMENT: strained})


@dataclass(frozen=True, slots=True)
class Rotate:
    """Turn every crystal by a random proper rotation, and its vectors and tensors with it.

    Numbers do not change. Forces, velocities, momenta, dipoles and displacements of shape (3,) turn as vectors, stress
    and virial of shape (3, 3) as tensors, by the last word of their name. The kind of any other array must be declared.

    Args:
        labels: name -> ``"vector"`` (3,), ``"tensor"`` (3, 3), ``"voigt"`` (6,) or ``"scalar"`` (any shape, does not
            turn). ``voigt`` is a symmetric tensor as xx, yy, zz, yz, xz, xy, without factors of 2, as ASE has a stress.

    Raises:
        InputError: a kind is unknown.

    Example:
        >>> Rotate({"stress": "voigt"})
        Rotate(labels={'stress': 'voigt'})
    """

    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in self.labels.items():
            if kind not in KINDS:
                raise InputError(unknown_name(f"kind of the label {name!r} in Rotate:", kind, KINDS))

    def check(self, labels: Sequence[LabelFacts]) -> None:
        """Refuse labels of which it is not known whether they turn.

        Raises:
            InputError: there are some, or a declared label does not exist.
        """
        _check_names("Rotate", self.labels, labels)
        for label in labels:
            self._kind(label)

    def _kind(self, label: LabelFacts) -> str:
        shape, declared = label.shape, self.labels.get(label.name)
        fits = {
            "scalar": True,
            "vector": shape[-1:] == (3,),
            "tensor": shape[-2:] == (3, 3),
            "voigt": shape[-1:] == (6,),
        }
        choices = [kind for kind in KINDS if fits[kind]]
        if declared is not None:
            if not fits[declared]:
                allowed = " or ".join(map(repr, choices))
                msg = f"the label {label.name!r} of shape {shape} cannot be a {declared!r}; its shape allows {allowed}"
                raise InputError(msg)
            return declared
        if shape in ((), (1,)):
            return "scalar"
        if shape == (3,) and label.last_word in VECTORS:
            return "vector"
        if shape == (3, 3) and label.last_word in TENSORS:
            return "tensor"
        msg = (
            f"it is not known how the label {label.name!r} of shape {shape} turns with a crystal; declare it, as in "
            + " or ".join(f"lg.Rotate(labels={{{label.name!r}: {kind!r}}})" for kind in choices)
        )
        raise InputError(msg)

    def __call__(self, crystals: CrystalBatch, draws: Draws, /) -> CrystalBatch:
        """Turn the crystals."""
        turns = _rotations(draws.normal("crystal", 4))
        of_atoms = turns[crystals.graph_of_atom]
        return replace(
            crystals,
            lattice=rows_times(crystals.lattice, turns),
            atom_labels={
                name: self._turned(name, value, "atom", of_atoms) for name, value in crystals.atom_labels.items()
            },
            labels={name: self._turned(name, value, "crystal", turns) for name, value in crystals.labels.items()},
        )

    def _turned(self, name: str, value: NDArray[Any], per: str, turns: NDArray[np.float64]) -> NDArray[Any]:
        """Turn a label; the rows of a vector are multiplied from the right."""
        kind = self._kind(LabelFacts(name, per, value.shape[1:]))
        if kind == "scalar":
            return value
        if kind == "vector":
            turned = rows_times(value, turns)
        elif kind == "tensor":
            turned = _turned_tensor(value, turns)
        else:
            full = _turned_tensor(value[..., VOIGT], turns)
            turned = full[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return turned.astype(np.result_type(value.dtype, np.float32), copy=False)


@dataclass(frozen=True, slots=True)
class Supercell:
    """Repeat every crystal. Labels of atoms are repeated, and labels per cell are multiplied.

    A target must be declared: a dataset says by ``per`` (``lg.write(..., per={"energy": "cell"})``, ``lazygraph labels
    --per energy=cell``) whether a label is given per cell or per atom. Other labels are declared here.

    Args:
        repeats: how often the cell is repeated along all lattice vectors or along each; or a (3, 3) matrix of whole
            numbers, whose rows times the lattice vectors are the new ones.
        labels: name -> ``"extensive"`` (multiplied) or ``"intensive"`` (stays as it is).

    Raises:
        InputError: the repeats are not whole numbers that span a cell.

    Example:
        >>> Supercell(2).times, Supercell([[1, 1, 0], [-1, 1, 0], [0, 0, 1]]).times
        (8, 2)
    """

    repeats: Any
    labels: Mapping[str, str] = field(default_factory=dict)
    keeps_sizes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        matrix = np.asarray(self.repeats)
        if matrix.ndim < 2 and matrix.dtype.kind in "iu" and matrix.shape in ((), (3,)) and (matrix >= 1).all():
            matrix = np.diag(np.broadcast_to(matrix, 3))
        whole = matrix.dtype.kind in "iu" and matrix.shape == (3, 3) and np.abs(matrix).max() <= 1000
        if not whole or round(np.linalg.det(matrix.astype(np.int64))) == 0:
            msg = (
                f"found Supercell({self.repeats!r}); required: a whole number from 1, three of them, or a (3, 3) "
                "matrix of whole numbers that is not singular"
            )
            raise InputError(msg)
        object.__setattr__(self, "repeats", tuple(tuple(row) for row in matrix.tolist()))
        for name, kind in self.labels.items():
            if kind not in ("extensive", "intensive"):
                known = ("extensive", "intensive")
                raise InputError(unknown_name(f"kind of the label {name!r} in Supercell:", kind, known))

    @property
    def times(self) -> int:
        """How many times as many atoms a crystal has afterwards."""
        return abs(round(float(np.linalg.det(np.array(self.repeats)))))

    def check(self, labels: Sequence[LabelFacts]) -> None:
        """Refuse targets of which it is not known whether they grow.

        Raises:
            InputError: there are some, or a declared label does not exist.
        """
        _check_names("Supercell", self.labels, [label for label in labels if label.per == "crystal"])
        for label in labels:
            if label.per == "crystal" and self._kind(label) is None:
                msg = (
                    f"it is not known whether the label {label.name!r} grows with the cell; set per='cell' or 'atom' "
                    f"in the dataset (lazygraph labels --per {label.name}=cell), or declare it, as in "
                    f"lg.Supercell(..., labels={{{label.name!r}: 'intensive'}})"
                )
                raise InputError(msg)

    def _kind(self, label: LabelFacts) -> str | None:
        if label.name in self.labels:
            return self.labels[label.name]
        if label.given_per == "atom" or (label.given_per is None and (label.unit or "").endswith("/atom")):
            return "intensive"
        return "extensive" if label.given_per == "cell" else None

    def with_labels(self, labels: Sequence[LabelFacts]) -> Supercell:
        """Return the step with the kind of every target written out."""
        kinds = {label.name: kind for label in labels if label.per == "crystal" and (kind := self._kind(label))}
        return replace(self, labels=kinds)

    def __call__(self, crystals: CrystalBatch, draws: Draws, /) -> CrystalBatch:  # noqa: ARG002  # nothing is random
        """Repeat the crystals, cell by cell.

        Raises:
            RefusedCrystal: a crystal would be repeated along a direction in which it is not periodic.
        """
        matrix, cells = np.array(self.repeats, np.float64), self._cells()
        stays = [(matrix[i] == np.eye(3)[i]).all() and (matrix[:, i] == np.eye(3)[i]).all() for i in range(3)]
        if (stray := ~crystals.pbc & ~np.array(stays)).any():
            place = int(stray.any(axis=1).argmax())
            problem = f"it has pbc={tuple(crystals.pbc[place].tolist())} and is not periodic where {self!r} repeats it"
            raise RefusedCrystal(place, problem)
        n_node, times = crystals.n_node, len(cells)
        first, more = n_node.cumsum() - n_node, n_node * times
        inside = np.arange(int(more.sum())) - (more.cumsum() - more).repeat(more)
        each = n_node.repeat(more)
        out = crystals.gather(np.arange(len(n_node)), first.repeat(more) + inside % each, more)
        moved = out.frac_coords + cells[inside // each]
        back = np.broadcast_to(np.linalg.inv(matrix), (len(moved), 3, 3))
        grown = {
            name: value * times if self.labels.get(name) == "extensive" else value for name, value in out.labels.items()
        }
        lattice = rows_times(np.broadcast_to(matrix, (len(n_node), 3, 3)), crystals.lattice)
        return replace(out, frac_coords=rows_times(moved, back), lattice=lattice, labels=grown)

    def _cells(self) -> NDArray[np.float64]:
        """The cells of the old lattice within the new one, (times, 3)."""
        matrix = np.array(self.repeats, np.int64)
        corners = np.stack(np.meshgrid(*[(0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3) @ matrix
        ranges = [np.arange(low, high + 1) for low, high in zip(corners.min(0), corners.max(0), strict=True)]
        cells = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
        determinant = round(np.linalg.det(matrix))
        # In whole numbers: a cell is inside where its coordinates, times the determinant, are from 0 to below it.
        adjugate = np.rint(np.linalg.inv(matrix) * determinant).astype(np.int64)
        inside = np.sign(determinant) * (cells @ adjugate)
        chosen: NDArray[np.float64] = cells[((inside >= 0) & (inside < abs(determinant))).all(axis=1)].astype(
            np.float64
        )
        return chosen


class Augmenter:
    """The augmentation of a dataset: its steps, checked against the labels.

    Args:
        steps: functions of crystals and random numbers, applied in this order.
        labels: the labels of the atoms, and the targets.
        attempts: how often a crystal is drawn before it is taken unchanged.

    Attributes:
        adds: name -> shape of the fields of atoms that the steps add.
        times: how many times as many atoms a crystal has afterwards.

    Raises:
        InputError: a step is no function, does not fit a label, or adds a field that the dataset has.
    """

    def __init__(self, steps: Sequence[Augmentation], labels: Sequence[LabelFacts], attempts: int) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            msg = f"found augment_attempts={attempts!r}; required: a whole number, at least 1"
            raise InputError(msg)
        if wrong := [step for step in steps if not callable(step) or isinstance(step, type)]:
            msg = f"found {wrong[0]!r} in augment; required: steps such as lg.Rattle(0.05), or functions"
            raise InputError(msg)
        self.attempts = attempts
        self.adds: dict[str, tuple[int, ...]] = {}
        for step in steps:
            self.adds |= {name: tuple(shape) for name, shape in getattr(step, "adds", {}).items()}
        if taken := sorted(self.adds.keys() & {label.name for label in labels}):
            msg = f"the augmentation adds {taken[0]!r}, and the dataset has a label of this name; rename one of them"
            raise InputError(msg)
        facts = [*labels, *(LabelFacts(name, "atom", shape) for name, shape in self.adds.items())]
        self.times = 1
        for step in steps:
            if hasattr(step, "check"):
                step.check(facts)
            self.times *= getattr(step, "times", 1)
        self.steps = tuple(step.with_labels(facts) if hasattr(step, "with_labels") else step for step in steps)
        moving = [step for step in steps if not getattr(step, "keeps_labels", True)]
        self.stale = [label.name for label in labels if moving and label.last_word in MOVED]

    def begin(self, crystals: CrystalBatch) -> CrystalBatch:
        """Return the stored crystals with the added fields, which are 0."""
        added = {name: np.zeros((len(crystals.numbers), *shape)) for name, shape in self.adds.items()}
        return replace(crystals, atom_labels={**crystals.atom_labels, **added})

    def draw(self, crystals: CrystalBatch, seeds: NDArray[np.uint64], attempt: int) -> CrystalBatch:
        """Return augmented crystals, which depend only on themselves, on their seeds and on the attempt.

        Args:
            crystals: as ``begin`` gives them.
            seeds: (B,) uint64.
            attempt: 0 for the first.

        Raises:
            RefusedCrystal: a crystal cannot be augmented, whatever is drawn.
            InputError: a function returned something else than crystals with the same atoms and labels.
        """
        seeds = derived_seeds(seeds, attempt)
        with np.errstate(over="ignore", invalid="ignore"):  # impossible crystals are refused when they are built
            for number, step in enumerate(self.steps):
                made = _applied(step, crystals, Draws(derived_seeds(seeds, number), crystals.n_node))
                _check_made(step, made, crystals)
                crystals = made
        return replace(crystals, frac_coords=crystals.frac_coords + 0.0, lattice=crystals.lattice + 0.0)


def _applied(step: Augmentation, crystals: CrystalBatch, draws: Draws) -> Any:
    try:
        return step(crystals, draws)
    except RefusedCrystal:
        raise
    except Exception as error:
        error.add_note(f"in the augmentation {step!r}")
        raise


def _check_made(step: Any, made: Any, before: CrystalBatch) -> None:
    """Refuse what a function must not change."""
    if not isinstance(made, CrystalBatch):
        msg = f"the augmentation {step!r} returned {type(made).__name__}; it must return a CrystalBatch"
        raise InputError(msg)
    times = getattr(step, "times", 1)
    n, atoms = len(made), int(made.n_node.sum())
    wrong = None
    if not np.array_equal(made.n_node, before.n_node * times):
        wrong = "crystals of other sizes"
    elif stray := [
        f"{name} of type {value.dtype} and shape {value.shape}"
        for name, value, kind, shape in (
            ("numbers", made.numbers, "u1", (atoms,)),
            ("frac_coords", made.frac_coords, "f8", (atoms, 3)),
            ("lattice", made.lattice, "f8", (n, 3, 3)),
            ("pbc", made.pbc, "b1", (n, 3)),
        )
        if value.dtype.str[1:] != kind or value.shape != shape
    ]:
        wrong = stray[0]
    else:
        for after, old, rows in (
            (made.atom_labels, before.atom_labels, len(made.numbers)),
            (made.labels, before.labels, len(made)),
        ):
            if after.keys() != old.keys():
                wrong = (
                    f"the labels {sorted(after)} instead of {sorted(old)}; a function declares what it adds as .adds"
                )
            for name in after.keys() & old.keys():
                if after[name].shape != (rows, *old[name].shape[1:]):
                    wrong = f"the label {name!r} of shape {after[name].shape}"
    if wrong is None and n and not 1 <= made.numbers.min() <= made.numbers.max() < len(SYMBOLS):
        wrong = f"atomic numbers from {made.numbers.min()} to {made.numbers.max()}"
    if wrong is not None:
        msg = f"the augmentation {step!r} returned {wrong}; it must keep the atoms, labels, types and shapes"
        raise InputError(msg)


def _rotations(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, 3, 3) rotations of quaternions (B, 4) of any length; normal numbers give all rotations the same chance."""
    w, x, y, z = quaternions.T
    norm = ((w * w + x * x) + y * y) + z * z
    w, x, y, z = (part / np.sqrt(norm) for part in (w, x, y, z))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _turned_tensor(value: NDArray[Any], turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """``turns.T @ value @ turns`` for (M, ..., 3, 3), where rows of vectors become ``v @ turns``."""
    once = rows_times(value, turns)
    return rows_times(once.swapaxes(-1, -2), turns).swapaxes(-1, -2)


def _check_positive(name: str, sigma: ArrayLike) -> None:
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma < float("inf"):
        msg = f"found {name}({sigma!r}); required: a positive number"
        raise InputError(msg)


def _check_names(step: str, declared: Mapping[str, str], labels: Sequence[LabelFacts]) -> None:
    names = [label.name for label in labels]
    if stray := [name for name in declared if name not in names]:
        have = ", ".join(map(repr, names)) or "none"
        msg = f"{step}(labels=...) names {stray[0]!r}, which is not read; the labels that are read are {have}"
        raise InputError(msg)
