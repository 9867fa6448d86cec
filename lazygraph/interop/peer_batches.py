"""The class ``PeerBatches``: the batches of a loader, converted for the trainer of another package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lazygraph.errors import InputError, MissingExtra, RecipeMismatch
from lazygraph.graphs.rule import WithinCutoff
from lazygraph.loading.loader import Loader

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from lazygraph.graphs.spec import GraphSpec
    from lazygraph.loading.frameworks import EpochBatches, EpochSampler
    from lazygraph.loading.mixing import LoadableDataset

__all__ = ["PeerBatches", "attribute_of", "check_cutoff", "check_elements", "checked_dataset"]

T = TypeVar("T")
SHOWN = 8  # elements that an error names


class PeerBatches(Generic[T]):
    """An iterable over the batches of a loader, each converted when it is requested.

    It has no epochs of its own. Every ``iter`` begins the next epoch of the loader, with a new order if the loader
    shuffles. ``set_epoch``, ``state_dict`` and ``load_state_dict`` are those of the loader, so a training resumes in
    the middle of an epoch. It is picklable if the loader is.

    Args:
        loader: the loader.
        convert: makes what the trainer takes of a batch.

    Attributes:
        loader: the loader.
    """

    def __init__(self, loader: Loader, convert: Callable[[Batch], T]) -> None:
        self.loader, self._convert = loader, convert

    def __iter__(self) -> Iterator[T]:
        """Iterate over the batches of the next epoch of the loader."""
        return map(self._convert, self.loader)

    def __len__(self) -> int:
        """Return the number of batches in the active epoch, or in the next one if no iteration is active."""
        return len(self.loader)

    @property
    def dataset(self) -> LoadableDataset:
        """The dataset of the loader."""
        return self.loader.dataset

    @property
    def batch_size(self) -> int | None:
        """The greatest number of graphs in a batch; None if only budgets limit it."""
        return self.loader.batch_size

    @property
    def sampler(self) -> EpochSampler:
        """A sampler on which Lightning and MACE set the epoch."""
        return self.loader.sampler

    @property
    def batch_sampler(self) -> EpochBatches:
        """The batches as positions; Lightning looks for the sampler of the epochs in it."""
        return self.loader.batch_sampler

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch of the loader."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the loader."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the loader at a position.

        Raises:
            InputError: the state belongs to another dataset or other options.
        """
        self.loader.load_state_dict(state)

    def __repr__(self) -> str:
        return f"PeerBatches({self.loader!r})"


def checked_dataset(
    loader: Any, *, package: str, distribution: str, views: tuple[str, ...], preset: str
) -> tuple[LoadableDataset, GraphSpec]:
    """Return the dataset of a loader whose batches a package can take, and its recipe.

    Args:
        loader: what the user gave.
        package: the name under which the package is imported.
        distribution: the name under which it is installed.
        views: the views that have its arrays, the usual one first.
        preset: the preset of the usual view.

    Raises:
        MissingExtra: the package is not installed.
        InputError: the object is not a loader, its batches are padded, or its dataset has another view.
        RecipeMismatch: the graphs are ready-made.
    """
    if find_spec(package) is None:
        msg = (
            f"batches for {distribution} need {distribution}, which is not installed: pip install 'lazygraph[interop]'"
        )
        raise MissingExtra(msg)
    if not isinstance(loader, Loader):
        msg = f"found a {type(loader).__name__}; required: a loader, made by lazygraph.loader(dataset, ...)"
        raise InputError(msg)
    dataset = loader.dataset
    if dataset.spec is None:
        msg = f"the graphs of {dataset.path} came ready-made, without a recipe; {distribution} needs graphs of a recipe"
        raise RecipeMismatch(msg)
    if dataset.view.name not in views:
        others = f" ({' and '.join(map(repr, views[1:]))} work too)" if views[1:] else ""
        msg = (
            f"{dataset.path} is opened with the view {dataset.view.name!r}, and the trainers of {distribution} take "
            f"the view {views[0]!r}{others}; open it with view={views[0]!r}, and with graph={preset!r} unless its "
            "graphs are of this preset"
        )
        raise InputError(msg)
    if loader.shapes:
        msg = (
            f"the loader pads its batches, and the trainers of {distribution} would learn the padding; make it without "
            "pad"
        )
        raise InputError(msg)
    return dataset, dataset.spec


def attribute_of(model: Any, name: str, distribution: str) -> Any:
    """Return an attribute that every network of a package has.

    Raises:
        InputError: the object has no such attribute.
    """
    if not hasattr(model, name):
        msg = f"found model={type(model).__name__}, which has no {name!r}; required: a network of {distribution}"
        raise InputError(msg)
    return getattr(model, name)


def check_cutoff(spec: GraphSpec, cutoff: float, *, may_be_larger: bool = False) -> None:
    """Refuse graphs with another cutoff than a network.

    Args:
        spec: the recipe of the graphs.
        cutoff: the cutoff of the network, A.
        may_be_larger: whether that of the graphs may be larger, because the network ignores edges beyond its own.

    Raises:
        RecipeMismatch: the graphs do not hold the neighbours that the network expects.
    """
    rule = spec.rule
    found = rule.cutoff if isinstance(rule, WithinCutoff) and rule.is_complete else None
    if found is None or not (found == cutoff or (may_be_larger and found > cutoff)):
        msg = (
            f"the network takes every neighbour within {cutoff:g} A, but the recipe of the graphs is {spec!r}; open "
            f"the dataset with graph=lazygraph.graph(..., cutoff={cutoff:g}), or make the network with the cutoff of "
            "the graphs"
        )
        raise RecipeMismatch(msg)


def check_elements(dataset: LoadableDataset, elements: tuple[str, ...]) -> None:
    """Refuse a view whose elements, which number the atoms, differ from those of a network.

    Raises:
        InputError: they differ.
    """
    found: tuple[str, ...] = getattr(dataset.view, "elements", ())
    if found != elements:
        msg = (
            f"the network has the elements {_shown(elements)}, and the view of {dataset.path} has {_shown(found)}; "
            f"open the dataset with view=lazygraph.view({dataset.view.name!r}, elements=...), and give the elements of "
            "the network in their order"
        )
        raise InputError(msg)


def _shown(elements: tuple[str, ...]) -> str:
    """The first elements of a list, and how many there are."""
    more = f", ... ({len(elements)} elements)" if len(elements) > SHOWN else ""
    return ", ".join(elements[:SHOWN]) + more
