"""The sites of a CIF: one whole atom of one element each, or a refusal; and the formula that judges the whole."""

from __future__ import annotations

from collections import Counter

import gemmi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygraph.crystal import ATOMIC_NUMBERS, SYMBOLS
from lazygraph.errors import InputError, StructureError, UnreadableInput
from lazygraph.sources.base import Remark
from lazygraph.sources.cif import parse_cif
from lazygraph.sources.cif.formula import Formula, formula_of
from lazygraph.sources.cif.sites import species_of

HEAD = """data_test
_cell_length_a 5.6
_cell_length_b 6.1
_cell_length_c 7.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_equiv_pos_as_xyz 'x,y,z'
"""
PLACES = ("0 0 0", "0.5 0.5 0.5", "0.25 0.75 0.25", "0.75 0.25 0.6")


def cif(rows, columns="label type_symbol", formula=None, z=None):
    """One site a row, at fixed places; the columns are those beside the coordinates."""
    text = HEAD + f"_chemical_formula_sum '{formula}'\n" * bool(formula) + f"_cell_formula_units_Z {z}\n" * bool(z)
    text += "loop_\n" + "".join(f"_atom_site_{name}\n" for name in (*"xyz",)).replace("site_", "site_fract_")
    text += "".join(f"_atom_site_{name}\n" for name in columns.split())
    return text + "".join(f"{place} {row}\n" for place, row in zip(PLACES, rows, strict=False))


def elements(*arguments, **options):
    return [SYMBOLS[z] for z in parse_cif(cif(*arguments, **options)).numbers]


# ---- elements ----


@pytest.mark.parametrize(
    "symbol", ["OH", "NH4", "H2O", "CO3", "Wat", "NH3", "OH2", "SO4", "Va", "Vac", "X", "Q", "M1", "Du", "Dum", "Lp"]
)
def test_a_type_that_is_no_element_is_refused_whatever_the_formula_and_its_mode(symbol):
    for formula in (None, "Na O", "Na N H4", "C Na O3", "H2 Na O"):
        with pytest.raises(StructureError, match=f"the type '{symbol}' names no element"):
            parse_cif(cif(["Na1 Na", f"O1 {symbol}"], formula=formula), "ignore")


@pytest.mark.parametrize("symbol", ["Cn", "Nh", "Og", "Cn1-"])
def test_elements_that_no_crystal_has_need_the_formula(symbol):
    """``Cn`` is a centroid or a cyanide far more often than copernicium."""
    with pytest.raises(StructureError, match="names no element"):
        parse_cif(cif([f"A1 {symbol}"]), "ignore")
    assert len(parse_cif(cif([f"A1 {symbol}"], formula=symbol[:2]))) == 1


@pytest.mark.parametrize("symbol", ["Fe3+Ni2+", "0.8Nb+0.2Zr", "Si/Al", "K,Na", "Fe(III)", "(Na,K)"])
def test_a_mixed_site_is_not_taken_for_its_first_element(symbol):
    with pytest.raises(InputError):
        parse_cif(cif(["Na1 Na", f"M1 '{symbol}'"]), "ignore")


@pytest.mark.parametrize("missing", ["?", ".", "'?'", "''"])
def test_a_missing_type_is_the_element_of_the_label(missing):
    assert elements(["Na1 Na", f"Cl1 {missing}", f"O1A {missing}"]) == ["Na", "Cl", "O"]


@pytest.mark.parametrize(
    ("symbol", "element"),
    [("FE", "Fe"), ("fe", "Fe"), ("AL", "Al"), ("o", "O"), ("CL1-", "Cl"), ("Fe2.5+", "Fe"), ("O1", "O"), ("D", "H")],
)
def test_capitals_are_no_matter_where_only_one_reading_is_an_element(symbol, element):
    assert elements([f"A1 {symbol}"]) == [element]


@pytest.mark.parametrize(
    ("symbol", "formula", "element"),
    [("CO", "Co", "Co"), ("CO", "Co2 O3", "Co"), ("SI", "Si O2", "Si"), ("NI", "Ni As", "Ni"), ("CS", "Cs I", "Cs")],
)
def test_two_capitals_that_are_two_elements_need_the_formula(symbol, formula, element):
    known = frozenset(ATOMIC_NUMBERS[s] for s in gemmi_elements(formula))
    assert SYMBOLS[species_of(symbol, "A1", known).number] == element
    with pytest.raises(StructureError):
        species_of(symbol, "A1", frozenset())
    with pytest.raises(StructureError):
        species_of(symbol, "A1", frozenset({ATOMIC_NUMBERS[s] for s in (element, symbol[0], symbol[1])}))


def gemmi_elements(formula):
    return [part.rstrip("0123456789") for part in formula.split()]


@given(st.sampled_from(SYMBOLS[1:]), st.sampled_from(["", "2+", "3-", "+2", "-1", "0", "1"]), st.integers(0, 99))
def test_every_element_is_read_from_its_symbol_and_from_its_label(symbol, charge, number):
    known = frozenset({ATOMIC_NUMBERS[symbol]})
    assert species_of(symbol + charge, "", known) == (ATOMIC_NUMBERS[symbol], True)
    assert species_of("?", f"{symbol}{number}", known).number == ATOMIC_NUMBERS[symbol]


@given(st.text(alphabet="ABCDEFHNOSabcdelnosi0123456789+-()*'", min_size=1, max_size=6))
def test_a_label_is_an_element_that_it_begins_with_or_refused(label):
    try:
        species = species_of("", label, frozenset())
    except StructureError:
        return
    symbol = SYMBOLS[species.number]
    assert label.upper().startswith((symbol.upper(), "D" if symbol == "H" else symbol.upper(), "T"))


@pytest.mark.parametrize(
    ("rows", "formula", "expected"),
    [
        (["HO1", "CA1"], "C H", ["H", "C"]),
        (["CA1", "CB1"], "C", ["C", "C"]),
        (["Ca1", "C1"], "C Ca", ["Ca", "C"]),
        (["OW1", "HW1", "HW2"], "H2 O", ["O", "H", "H"]),
        (["OH", "H1"], "O H", ["O", "H"]),
        (["NA1", "CL1"], "Na Cl", ["Na", "Cl"]),
        (["C1N", "N1"], "C N", ["C", "N"]),
        (["C12B", "O1"], "C O", ["C", "O"]),
        (["H2O", "O1", "H1"], "H2 O", ["H", "O", "H"]),
    ],
)
def test_a_label_with_two_readings_is_what_the_formula_confirms(rows, formula, expected):
    assert elements(rows, "label", formula=formula) == expected


@pytest.mark.parametrize(
    ("rows", "formula"),
    [
        (["OH"], "O H"),
        (["Wat1", "Na1"], "Na W"),
        (["H2O1"], "H2 O"),
        (["HO1", "CA1"], None),
        (["OW1"], None),
        (["NH4"], None),
        (["CO3"], "C O3"),
        (["SI1"], None),
        (["T1"], None),
        (["T1", "O1"], "Si O"),
        (["Cn1"], None),
        (["O-H"], None),
        (["NH41"], "N H4"),
        (["Cg1", "C1"], "C"),
    ],
)
@pytest.mark.parametrize("mode", ["error", "warn", "ignore"])
def test_a_label_that_the_formula_does_not_confirm_is_refused_in_every_mode(rows, formula, mode):
    with pytest.raises(StructureError):
        parse_cif(cif(rows, "label", formula=formula), mode)


def test_dummies_are_left_out_with_a_remark():
    remarks = []
    rows = ["Na1 Na d", "Cl1 Cl d", "Cg1 C dum"]
    text = cif(rows, "label type_symbol calc_flag", formula="Na Cl").replace("0.25 0.75 0.25", "? ? ?")
    crystal = parse_cif(text, remarks=remarks)
    assert crystal.formula == "ClNa"
    assert [remark.detail for remark in remarks] == ["Cg1"]


# ---- disorder ----


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("label type_symbol disorder_group", "O1 O 1"),
        ("label type_symbol disorder_group", "O1 O -1"),
        ("label type_symbol disorder_assembly disorder_group", "O1 O A 2"),
        ("label type_symbol attached_hydrogens", "O1 O 2"),
        ("label type_symbol occupancy", "O1 O 0.5"),
        ("label type_symbol occupancy", "O1 O 1.5"),
        ("label type_symbol occupancy", "O1 O 0"),
    ],
)
def test_disorder_split_sites_and_hydrogens_that_are_only_counted_are_refused(columns, row):
    whole = "Na1 Na " + " ".join("1" if "occupancy" in columns else "." for _ in columns.split()[2:])
    with pytest.raises(StructureError, match=r"site 1 \(O1\)"):
        parse_cif(cif([whole, row], columns), "ignore")


@pytest.mark.parametrize("nothing", [".", "?", "0"])
def test_a_column_of_disorder_or_hydrogens_without_any_is_no_disorder(nothing):
    columns = "label type_symbol disorder_group attached_hydrogens"
    assert elements([f"Na1 Na {nothing} {nothing}"], columns) == ["Na"]


def test_columns_of_another_length_are_refused():
    """The occupancies stand in a loop of their own."""
    text = cif(["Na1 Na", "Cl1 Cl"]) + "loop_\n_atom_site_occupancy\n1\n"
    with pytest.raises(UnreadableInput, match="several loops of different lengths"):
        parse_cif(text)


# ---- coordinates ----


@pytest.mark.parametrize("place", ["? ? ?", "0 0 ?", "a b c", "1/3 0 0", "1_0 0 0", "0 nan 0", "0 0 inf", "1e400 0 0"])
def test_a_site_without_coordinates_is_refused(place):
    with pytest.raises(UnreadableInput, match="of site 'Na1' in the CIF is"):
        parse_cif(cif(["Na1 Na"]).replace("0 0 0", place))


def test_a_dot_is_the_default_of_a_coordinate_where_the_formula_agrees():
    """Old files of the ICSD leave zeros out."""
    text = cif(["Na1 Na", "Cl1 Cl"], formula="Na Cl", z=1).replace("0 0 0", ". . .")
    assert parse_cif(text).frac_coords.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]
    with pytest.raises(StructureError, match="could stand for 0 or for a position not known"):
        parse_cif(text.replace("_chemical_formula_sum 'Na Cl'", ""))
    with pytest.raises(UnreadableInput, match="the x of site 'H1' in the CIF is '.'"):
        parse_cif(cif(["H1 H", "Cl1 Cl"], formula="H Cl", z=1).replace("0 0 0", ". . ."))


# ---- formula ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mg Al2 O4", {12: 1, 13: 2, 8: 4}),
        ("AL2 O3", {13: 2, 8: 3}),
        ("NaCl", {11: 1, 17: 1}),
        ("Ca(OH)2", {20: 1, 8: 2, 1: 2}),
        ("Ca5 (P O4)3 (O H)", {20: 5, 15: 3, 8: 13, 1: 1}),
        ("C6 H12 N 1+", {6: 6, 1: 12, 7: 1}),
        ("C2 D6 O", {6: 2, 1: 6, 8: 1}),
        ("C2 H4 D2", {6: 2, 1: 6}),
        ("Fe0.95(2) O", {26: 0.95, 8: 1}),
        ("C O", {6: 1, 8: 1}),
        ("Mg CO3", {12: 1, 6: 1, 8: 3}),
        ("CO", None),
        ("C6 H6 n", None),
        ("Xx2 O3", None),
        ("C10 H14 O2, 0.06(C H2 Cl2)", None),
        ("?", None),
    ],
)
def test_a_formula_is_read_as_its_amounts(text, expected):
    block = gemmi.cif.read_string(f"data_a\n_chemical_formula_sum '{text}'\n").sole_block()
    amounts = formula_of(block).amounts
    assert (amounts and {z: pytest.approx(amount) for z, (amount, _) in amounts.items()}) == expected


@given(st.dictionaries(st.integers(1, 100), st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 8))
def test_a_formula_is_contradicted_by_every_other_composition(amounts, units):
    stated = Formula("", {z: (n, 0.0) for z, n in amounts.items()}, units)
    counts = {z: n * units for z, n in amounts.items()}
    assert stated.contradiction(counts) is None
    assert stated.contradiction({z: 2 * n for z, n in counts.items()}) is not None
    for z, number in counts.items():
        assert stated.contradiction(counts | {z: number + 1}) is not None
        assert stated.contradiction({k: n for k, n in counts.items() if k != z}) is not None
    assert Formula("", stated.amounts, None).contradiction({z: 2 * n for z, n in counts.items()}) is None


@given(st.dictionaries(st.integers(1, 100), st.integers(1, 200), min_size=1, max_size=5), st.integers(1, 3))
def test_a_formula_with_decimals_is_taken_to_be_rounded(counts, digits):
    total = max(counts.values())
    stated = Formula("", {z: (round(n / total, digits), 0.5001 * 10**-digits) for z, n in counts.items()}, None)
    if all(amount > 0 for amount, _ in stated.amounts.values()):
        assert stated.contradiction(counts) is None


@pytest.mark.parametrize(
    ("formula", "z", "message"),
    [
        ("Na2 Cl", None, "the cell holds Cl Na, which is not in the ratio of the formula 'Na2 Cl'"),
        ("Na Cl O", 1, "not in the ratio of the formula 'Na Cl O'"),
        ("Na", None, "not in the ratio"),
        ("Na Cl", 4, "which is 1 formula units of 'Na Cl'; the file says Z = 4"),
    ],
)
def test_a_contradiction_is_quarantined_with_both_and_kept_on_request(formula, z, message):
    text = cif(["Na1 Na", "Cl1 Cl"], formula=formula, z=z)
    with pytest.raises(StructureError, match=message):
        parse_cif(text)
    remarks: list[Remark] = []
    assert parse_cif(text, "warn", remarks).formula == "ClNa"
    assert [message in remark.detail for remark in remarks] == [True]
    remarks.clear()
    assert parse_cif(text, "ignore", remarks).formula == "ClNa"
    assert remarks == []


@pytest.mark.parametrize(
    ("formula", "z"),
    [("Na Cl", None), ("Na Cl", 1), ("Cl1 Na1", "1(0)"), ("Na1.00 Cl1.00", 1), ("Na2 Cl2", 0.5), ("Na Cl", "?")],
)
def test_a_formula_that_agrees_is_no_contradiction(formula, z):
    assert len(parse_cif(cif(["Na1 Na", "Cl1 Cl"], formula=formula, z=z))) == 2


def test_a_formula_that_cannot_be_read_is_remarked():
    remarks: list[Remark] = []
    parse_cif(cif(["Na1 Na"], formula="salt"), remarks=remarks)
    assert [remark.detail for remark in remarks] == ["salt"]


@pytest.mark.parametrize(
    ("structural", "formula", "z", "counts"),
    [
        ("NaCl", "Na4 Cl4", 4, "Na4 Cl4"),
        ("O2", "O8", 4, "O8"),
        ("Ca(HO)2", "Ca2 H4 O4", 2, "Ca2 H4 O4"),
        ("LaSi2(CO)2", "La4 Si8 C8 O8", 4, "La4 Si8 C8 O8"),
    ],
)
def test_the_formula_of_a_whole_cell_with_its_number_of_units_is_right(structural, formula, z, counts):
    """This is how pymatgen writes CIF. Without the formula of the unit, Z counts formula sums."""
    text = f"data_a\n_chemical_formula_sum '{formula}'\n_cell_formula_units_Z {z}\n"
    cell = {ATOMIC_NUMBERS[e]: n for e, n in parsed(counts)}
    assert formula_of(gemmi.cif.read_string(text).sole_block()).contradiction(cell) is not None
    text += f"_chemical_formula_structural {structural}\n"
    assert formula_of(gemmi.cif.read_string(text).sole_block()).contradiction(cell) is None


def parsed(text):
    return [
        (part.rstrip("0123456789"), int(part.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") or 1))
        for part in text.split()
    ]


def test_a_list_of_atoms_that_was_cut_contradicts_its_formula():
    rows = ["Na1 Na", "Cl1 Cl", "Na2 Na", "Cl2 Cl"]
    text = cif(rows, formula="Na Cl", z=2)
    assert Counter(parse_cif(text).numbers.tolist()) == {11: 2, 17: 2}
    lines = text.splitlines(keepends=True)
    for cut in (1, 2, 3):
        with pytest.raises(StructureError):
            parse_cif("".join(lines[:-cut]))
