"""Rates at which datasets are mixed: how often an epoch visits each of them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from lazygraph.errors import InputError
from lazygraph.loading.orders import check_whole
from lazygraph.registry import unknown_name

__all__ = ["POLICIES", "Rates", "at_rates", "at_temperature"]

POLICIES = ("exhaust_first", "exhaust_all", "temperature")
TEMPERATURE = 5.0  # of Arivazhagan et al. 2019


@dataclass(frozen=True, slots=True)
class Rates:
    """The options of :func:`mix` that say how often an epoch visits each member."""

    rates: Mapping[str, float] | None = None
    policy: str | None = None
    temperature: float | None = None
    replay: Mapping[str, int] = field(default_factory=dict)

    def check(self, names: Sequence[str]) -> None:
        """Refuse options that do not belong together, or do not name the members.

        Raises:
            InputError: they cannot be used.
        """
        if self.policy is not None and self.policy not in POLICIES:
            raise InputError(unknown_name("policy", self.policy, POLICIES))
        for name, count in self.replay.items():
            if name not in names:
                raise InputError(unknown_name("member in replay", name, names))
            check_whole(f"replay of {name!r}", count, 1)
        rated = [name for name in names if name not in self.replay]
        if not rated:
            raise InputError("replay names all members; leave at least one of them out of it")
        if self.rates is not None:
            self._check_rates(self.rates, rated)
        self._check_temperature()

    def _check_rates(self, rates: Mapping[str, float], rated: Sequence[str]) -> None:
        if self.policy == "temperature":
            raise InputError("rates cannot be used with the policy 'temperature', which computes them; give only one")
        if wrong := [name for name in rates if name not in rated]:
            raise InputError(unknown_name("member in rates", wrong[0], rated))
        if missing := [name for name in rated if name not in rates]:
            msg = f"rates has no rate of {', '.join(map(repr, missing))}; give every member a rate"
            raise InputError(msg)
        for name, rate in rates.items():
            _check_positive(f"the rate of {name!r}", rate)

    def _check_temperature(self) -> None:
        if self.policy == "temperature":
            _check_positive("temperature", TEMPERATURE if self.temperature is None else self.temperature)
        elif self.temperature is not None:
            msg = f"temperature={self.temperature!r} needs policy='temperature'; give both, or neither"
            raise InputError(msg)

    @property
    def visits_each_once(self) -> bool:
        """Whether an epoch visits every graph once, as it does for one dataset."""
        return self.rates is None and self.policy is None and not self.replay

    def visits(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return how often an epoch visits each member.

        Args:
            sizes: member -> number of its graphs.

        Raises:
            InputError: a member is never visited, or has fewer graphs than are to be replayed.
        """
        for name, count in self.replay.items():
            if count > sizes[name]:
                msg = f"found a replay of {count:,} graphs of {name!r}; required: at most {sizes[name]:,}, which it has"
                raise InputError(msg)
        rated = {name: size for name, size in sizes.items() if name not in self.replay}
        if empty := [name for name, size in rated.items() if not size]:
            msg = f"the member {empty[0]!r} has no graphs and cannot be mixed by a rate; leave it out of the mix"
            raise InputError(msg)
        if self.policy == "temperature":
            counts = at_temperature(rated, TEMPERATURE if self.temperature is None else self.temperature)
        elif self.policy is None and self.rates is None:
            counts = rated
        else:
            rates = dict.fromkeys(rated, 1.0) if self.rates is None else {name: self.rates[name] for name in rated}
            counts = at_rates(rated, rates, self.policy or "exhaust_first")
        _check_visits(counts)
        return {name: self.replay.get(name, counts.get(name, 0)) for name in sizes}

    def __str__(self) -> str:
        if self.visits_each_once:
            return "every graph once"
        replayed = "".join(f", {count:,} of {name} drawn in every epoch" for name, count in self.replay.items())
        if self.policy == "temperature":
            return f"temperature {TEMPERATURE if self.temperature is None else self.temperature:g}{replayed}"
        if self.rates is None and self.policy is None:
            return f"every graph once{replayed}"
        rates = "equal rates" if self.rates is None else ", ".join(f"{k} {v:g}" for k, v in self.rates.items())
        return f"{rates} ({self.policy or 'exhaust_first'}){replayed}"


def at_rates(sizes: Mapping[str, int], rates: Mapping[str, float], policy: str) -> dict[str, int]:
    """Return the number of visits to each member in an epoch.

    With ``"exhaust_first"``, the epoch ends when the first member has been visited completely. With ``"exhaust_all"``,
    it ends when every member has been visited completely, and smaller members are repeated. These are the two stopping
    strategies of ``interleave_datasets`` in Hugging Face datasets.

    Args:
        sizes: member -> number of its graphs, at least 1.
        rates: member -> visits, relative to the other members; above 0.
        policy: ``"exhaust_first"`` or ``"exhaust_all"``.

    Example:
        >>> at_rates({"a": 300, "b": 50}, {"a": 3, "b": 1}, "exhaust_first")
        {'a': 150, 'b': 50}
        >>> at_rates({"a": 300, "b": 50}, {"a": 3, "b": 1}, "exhaust_all")
        {'a': 300, 'b': 100}
    """
    # As the decimal fraction that was written: 0.7 and 0.3 of 700 and 300 graphs end at the same time.
    exact = {
        name: Fraction(rate) if isinstance(rate, int) else Fraction(str(float(rate))) for name, rate in rates.items()
    }
    rounds = [sizes[name] / rate for name, rate in exact.items()]
    if policy == "exhaust_first":
        return {name: math.floor(rate * min(rounds)) for name, rate in exact.items()}
    return {name: math.ceil(rate * max(rounds)) for name, rate in exact.items()}


def at_temperature(sizes: Mapping[str, int], temperature: float) -> dict[str, int]:
    """Return the number of visits to each member in an epoch, in proportion to ``size ** (1 / temperature)``.

    An epoch has as many visits as there are graphs. A temperature of 1 visits every graph once. A higher temperature
    visits small members more often. This is the sampling of multilingual translation (Arivazhagan et al. 2019,
    arXiv:1907.05019).

    Args:
        sizes: member -> number of its graphs, at least 1.
        temperature: above 0.

    Example:
        >>> at_temperature({"a": 900, "b": 100}, 2)
        {'a': 750, 'b': 250}
    """
    # Relative to the largest, so that no power overflows.
    largest, total = max(sizes.values()), sum(sizes.values())
    weights = {name: (size / largest) ** (1 / temperature) for name, size in sizes.items()}
    quotas = {name: total * weight / math.fsum(weights.values()) for name, weight in weights.items()}
    visits = {name: math.floor(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: visits[name] - quotas[name])
    for name in by_remainder[: total - sum(visits.values())]:
        visits[name] += 1
    return visits


def _check_visits(visits: Mapping[str, int]) -> None:
    """Refuse members that no epoch visits.

    Raises:
        InputError: there are such members.
    """
    if unseen := [name for name, count in visits.items() if not count]:
        msg = (
            f"at these rates an epoch has no graph of {', '.join(map(repr, unseen))}; give a higher rate or another "
            "policy, or leave it out of the mix"
        )
        raise InputError(msg)


def _check_positive(name: str, value: Any) -> None:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not (value > 0 and math.isfinite(value)):
        msg = f"{name} is {value!r}; required: a finite number above 0"
        raise InputError(msg)
