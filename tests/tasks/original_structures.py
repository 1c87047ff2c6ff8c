"""Tiny files in the formats in which molecules and crystals are published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GDB9 = """5
gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t\
-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 2.150416*^-6\t-0.0060313176\t 0.0019761204\t 0.133921
H\t1.0117308433\t 1.4637511618\t 0.0002765748\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 0.133923
1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""

WATER = """3
Properties=species:S:1:pos:R:3 pbc="F F F"
O        0.00000000       0.00000000       0.00000000
H       -0.75000000       0.00000000       0.50000000
H        0.75000000       0.00000000       0.50000000
"""

SDF = """gdb_1
  -OEChem-03231823253D

  5  4  0     0  0  0  0  0  0999 V2000
   -0.0127    1.0858    0.0080 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.0000   -0.0060    0.0020 H   0  0  0  0  0  0  0  0  0  0  0  0
    1.0117    1.4638    0.0003 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5408    1.4475   -0.8766 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5238    1.4379    0.9064 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
  1  3  1  0  0  0  0
  1  4  1  0  0  0  0
  1  5  1  0  0  0  0
M  END
$$$$
gdb_2
  -OEChem-03231823253D

  4  3  0     0  0  0  0  0  0999 V2000
   -0.0404    1.0241    0.0626 N   0  0  0  0  0  0  0  0  0  0  0  0
    0.0173    0.0125   -0.0274 H   0  0  0  0  0  0  0  0  0  0  0  0
    0.9158    1.3587   -0.0288 H   0  0  0  0  0  0  0  0  0  0  0  0
   -0.5203    1.3435   -0.7755 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
  1  3  1  0  0  0  0
  1  4  1  0  0  0  0
M  END
$$$$
"""
TABLE = """mol_id,A,u0,u0_atom
gdb_1,157.7118,-40.47893,-395.999594594
gdb_2,293.60975,-56.525887,-276.861363363
"""

CIF = """# generated using pymatgen
data_C
_symmetry_space_group_name_H-M   'P 1'
_cell_length_a   2.5
_cell_length_b   3.5
_cell_length_c   6.0
_cell_angle_alpha   120
_cell_angle_beta   80
_cell_angle_gamma   100
_symmetry_Int_Tables_number   1
loop_
 _symmetry_equiv_pos_site_id
 _symmetry_equiv_pos_as_xyz
  1  'x, y, z'
loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_symmetry_multiplicity
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
  C  C0  1  0.5  0.25  -0.1  1
  Si  S0  1  0.0  0.75  1.2  1
"""


def document(
    formation_energy_per_atom: float | None = -1.0,
    elements: Sequence[str] = ("Na", "Cl"),
    matrix: Any = ((2.0, 0.0, 0.0), (0.5, 3.0, 0.0), (0.0, 0.1, 4.0)),
    occu: float = 1,
    abc: Sequence[float] = (0.5, 0.5, 0.25),
    **changes: Any,
) -> dict[str, Any]:
    """A document of the Materials Project, with fields that nobody reads."""
    sites = [
        {"species": [{"element": element, "occu": occu}], "abc": place, "label": element}
        for element, place in zip(elements, ([0.0, 0.0, 0.0], list(abc)), strict=True)
    ]
    lattice = {"matrix": [list(row) for row in matrix], "a": 2.0, "alpha": 90.0}
    structure = {"@module": "pymatgen.core.structure", "charge": 0, "lattice": lattice}
    found = {"material_id": "mp-1", "formation_energy_per_atom": formation_energy_per_atom}
    return found | {"structure": structure | {"sites": sites}} | changes


def write_gdb9(folder: Path, text: str = GDB9) -> Path:
    """Two molecules as figshare's archive has them."""
    folder.mkdir()
    (folder / "dsgdb9nsd_000001.xyz").write_text(GDB9)
    (folder / "dsgdb9nsd_000002.xyz").write_text(text)
    return folder


def write_sdf(folder: Path, sdf: str = SDF, table: str = TABLE) -> Path:
    """The same two as MoleculeNet's archive has them."""
    folder.mkdir()
    (folder / "gdb9.sdf").write_text(sdf)
    (folder / "gdb9.sdf.csv").write_text(table)
    return folder


def write_documents(path: Path, *documents: dict[str, Any]) -> Path:
    """A JSON array."""
    path.write_text(json.dumps(list(documents)))
    return path
