"""Units that sources imply without writing them, with the origin of each table. ``--unit`` overrides them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lazygraph.sources.base import ImpliedUnits

__all__ = ["ASE", "COLABFIT", "EXTXYZ", "JARVIS", "LEMATERIAL", "implied_by", "of_matbench"]

_ASE = {
    "energy": "eV",
    "free_energy": "eV",
    "energies": "eV",
    "forces": "eV/A",
    "stress": "eV/A^3",
    "stresses": "eV/A^3",
    "virial": "eV",
    "virials": "eV",
    "dipole": "e*A",
    "charges": "e",
    "magmom": "mu_B",
    "magmoms": "mu_B",
}
ASE = ImpliedUnits("the units of ASE (ase.units: eV, A, e)", _ASE)
EXTXYZ = ImpliedUnits(
    "extended XYZ of ASE and MACE (ase.units; the keys REF_... of MACE's README)",
    _ASE | {f"{prefix}_{name}": unit for prefix in ("REF", "MACE", "dft", "DFT") for name, unit in _ASE.items()},
)
JARVIS = ImpliedUnits(
    "JARVIS-DFT (the property pages of jarvis.nist.gov)",
    {
        "formation_energy_peratom": "eV/atom",
        "optb88vdw_total_energy": "eV/atom",
        "optb88vdw_bandgap": "eV",
        "mbj_bandgap": "eV",
        "hse_gap": "eV",
        "ehull": "eV/atom",
        "exfoliation_energy": "meV/atom",
        "bulk_modulus_kv": "GPa",
        "shear_modulus_gv": "GPa",
        "Tc_supercon": "K",
        "magmom_oszicar": "mu_B",
        "magmom_outcar": "mu_B",
        "density": "g/cm^3",
        "encut": "eV",
        "slme": "%",
    },
)
LEMATERIAL = ImpliedUnits(
    "LeMaterial (the dataset cards of LeMat-Bulk and LeMat-Traj)",
    {
        "energy": "eV",
        "energy_corrected": "eV",
        "forces": "eV/A",
        "magnetic_moments": "mu_B",
        "total_magnetization": "mu_B",
        "dos_ef": "eV",
    },
)
COLABFIT = ImpliedUnits(
    "ColabFit Exchange (the dataset cards: eV, A)",
    {
        "energy": "eV",
        "atomic_forces": "eV/A",
        "cauchy_stress": "eV/A^3",
        "formation_energy": "eV",
        "adsorption_energy": "eV",
        "atomization_energy": "eV",
        "electronic_band_gap": "eV",
    },
)
MPTRJ = ImpliedUnits(
    "MPtrj (Deng et al. 2023; the stress is VASP's, as the dataset reader of chgnet takes it)",
    {
        "uncorrected_total_energy": "eV",
        "corrected_total_energy": "eV",
        "energy_per_atom": "eV/atom",
        "ef_per_atom": "eV/atom",
        "e_per_atom_relaxed": "eV/atom",
        "ef_per_atom_relaxed": "eV/atom",
        "force": "eV/A",
        "stress": "kbar",
        "magmom": "mu_B",
        "bandgap": "eV",
    },
)
MATERIALS_PROJECT = ImpliedUnits(
    "the Materials Project (docs.materialsproject.org)",
    {
        "energy_above_hull": "eV/atom",
        "formation_energy_per_atom": "eV/atom",
        "energy_per_atom": "eV/atom",
        "uncorrected_energy_per_atom": "eV/atom",
        "equilibrium_reaction_energy_per_atom": "eV/atom",
        "band_gap": "eV",
        "efermi": "eV",
        "cbm": "eV",
        "vbm": "eV",
        "volume": "A^3",
        "density": "g/cm^3",
        "density_atomic": "A^3/atom",
        "total_magnetization": "mu_B",
        "bulk_modulus.vrh": "GPa",
        "bulk_modulus.voigt": "GPa",
        "bulk_modulus.reuss": "GPa",
        "shear_modulus.vrh": "GPa",
        "shear_modulus.voigt": "GPa",
        "shear_modulus.reuss": "GPa",
    },
)
# The keys that identify a data set.
_TELLING = (
    (frozenset({"uncorrected_total_energy", "corrected_total_energy", "ef_per_atom", "force"}), MPTRJ),
    (frozenset({"formula_pretty", "energy_above_hull"}), MATERIALS_PROJECT),
    (frozenset({"formula_pretty", "band_gap"}), MATERIALS_PROJECT),
    (frozenset({"formula_pretty", "formation_energy_per_atom"}), MATERIALS_PROJECT),
)
# From matbench_v0.1_dataset_metadata.json. The same name may have another unit in another set.
_MATBENCH = {
    "matbench_jdft2d": ("exfoliation_en", "meV/atom"),
    "matbench_log_gvrh": ("log10(G_VRH)", "log10(GPa)"),
    "matbench_log_kvrh": ("log10(K_VRH)", "log10(GPa)"),
    "matbench_mp_e_form": ("e_form", "eV/atom"),
    "matbench_mp_gap": ("gap pbe", "eV"),
    "matbench_perovskites": ("e_form", "eV/unit cell"),
    "matbench_phonons": ("last phdos peak", "cm^-1"),
}


def of_matbench(name: str) -> ImpliedUnits | None:
    """Return the unit of a matbench set, by the name of its file.

    Example:
        >>> of_matbench("matbench_phonons").units, of_matbench("mine")
        ({'last phdos peak': 'cm^-1'}, None)
    """
    if name not in _MATBENCH:
        return None
    label, unit = _MATBENCH[name]
    return ImpliedUnits("matbench (matbench_v0.1_dataset_metadata.json)", {label: unit})


def implied_by(records: Iterable[Any]) -> ImpliedUnits | None:
    """Return the units that records imply by the keys that only one data set has."""
    for record in records:
        if isinstance(record, dict):
            return next((units for keys, units in _TELLING if keys <= record.keys()), None)
    return None
