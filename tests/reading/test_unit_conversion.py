"""Units: factors as scipy and ASE have them, and no conversion of what does not mean the same."""

from __future__ import annotations

import math

import ase.units
import pytest
import scipy.constants
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.reading.unit_conversion import _UNITS, conversion_factor, reason_against

SI = scipy.constants
CODATA = 1e-8  # hartree and bohr change between the sets of constants in their tenth digit


@pytest.mark.parametrize(
    ("unit", "wanted", "factor"),
    [
        ("meV", "eV", 1e-3),
        ("meV/atom", "eV/atom", 1e-3),
        ("Ha", "eV", SI.value("Hartree energy in eV")),
        ("Hartree", "Ry", 2.0),
        ("kJ/mol", "eV", 1e3 / SI.N_A / SI.e),
        ("kcal/mol", "meV", 1e3 * SI.kilo * SI.calorie / SI.N_A / SI.e),
        ("bohr", "A", SI.value("Bohr radius") * 1e10),
        ("Ha/bohr", "eV/A", SI.value("Hartree energy in eV") / SI.value("Bohr radius") * 1e-10),
        ("GPa", "eV/A^3", 1e9 * 1e-30 / SI.e),
        ("kbar", "GPa", 0.1),
        ("eV/A^3", "kbar", SI.e / 1e-30 / 1e8),
        ("g/cm^3", "kg/m^3", 1e3),
        ("Da/A^3", "g/cm^3", SI.value("atomic mass constant") * 1e3 / 1e-24),
        ("nm", "A", 10.0),
        ("cm^-1", "1/m", 100.0),
        ("A3", "nm^3", 1e-3),
        ("A**3/atom", "nm^3/atom", 1e-3),
        ("e*A", "e*bohr", 1 / (SI.value("Bohr radius") * 1e10)),
        ("THz", "1/ps", 1.0),
        ("Å", "Angstrom", 1.0),
        ("eV/Å", "eV/A", 1.0),
    ],
)
def test_factors_are_those_of_scipy(unit, wanted, factor):
    assert conversion_factor(unit, wanted) == pytest.approx(factor, rel=CODATA)
    assert conversion_factor(wanted, unit) == pytest.approx(1 / factor, rel=CODATA)


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("Ha", ase.units.Ha),
        ("Ry", ase.units.Ry),
        ("bohr", ase.units.Bohr),
        ("GPa", ase.units.GPa),
        ("nm", ase.units.nm),
    ],
)
def test_base_units_are_those_of_ase(unit, value):
    wanted = {"bohr": "A", "nm": "A", "GPa": "eV/A^3"}.get(unit, "eV")
    assert conversion_factor(unit, wanted) == pytest.approx(value, rel=1e-7)
    assert conversion_factor("kJ/mol", "eV") == pytest.approx(ase.units.kJ / ase.units.mol, rel=1e-7)


def test_powers_of_ten_are_exact():
    assert (conversion_factor("meV", "eV"), conversion_factor("eV", "meV")) == (0.001, 1000.0)
    assert (conversion_factor("kbar", "GPa"), conversion_factor("nm^3", "A^3")) == (0.1, 1000.0)


@pytest.mark.parametrize(
    ("unit", "wanted", "reason"),
    [
        ("eV", "eV/atom", "one is per atom and the other is not"),
        ("eV", "GPa", "they measure different quantities"),
        ("eV/A", "eV/A^2", "they measure different quantities"),
        ("mu_B", "e", "they measure different quantities"),
        ("log10(GPa)", "GPa", "lazygraph does not know the unit 'log10(GPa)'"),
        ("eV", "eV/unit cell", "lazygraph does not know the unit 'eV/unit cell'"),
        ("eV/A*e", "eV*e/A", "lazygraph does not know the unit 'eV/A*e'"),
        ("", "eV", "lazygraph does not know the unit ''"),
        ("%", "1", "lazygraph does not know the unit '%'"),
        ("eV^99999", "eV", "lazygraph does not know the unit 'eV^99999'"),
        ("J^99", "eV", "lazygraph does not know the unit 'J^99'"),
        ("ev", "EV", "lazygraph does not know the unit 'EV'"),
    ],
)
def test_other_units_are_not_converted(unit, wanted, reason):
    assert conversion_factor(unit, wanted) is None
    assert reason_against(unit, wanted) == reason


def test_units_that_nobody_knows_are_themselves():
    assert conversion_factor("log10(GPa)", "log10(GPa)") == 1.0


PARTS = st.tuples(st.sampled_from(sorted(_UNITS)), st.integers(1, 3))
UNITS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/".join(f"{name}^{power}" for name, power in parts))


@given(UNITS, UNITS, UNITS)
def test_conversions_go_back_and_through_a_third_unit(a, b, c):
    there, back = conversion_factor(a, b), conversion_factor(b, a)
    assert (there is None) == (back is None)
    if there is not None:
        assert there * back == pytest.approx(1, rel=1e-12)
        assert math.isfinite(there)
        if (third := conversion_factor(b, c)) is not None:
            assert conversion_factor(a, c) == pytest.approx(there * third, rel=1e-12)
    else:
        assert reason_against(a, b)


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_is_a_unit_or_none(a, b):
    factor = conversion_factor(a, b)
    assert factor is None or factor > 0
