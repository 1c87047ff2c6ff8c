"""KrADagrad Table 2: how computation and memory grow with the matrices [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.frames import MissingRecordsError
from analysis.tables import number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ()
MEASUREMENTS = ("kradagrad_operations", "kradagrad_memory", "kradagrad_root_times")
TITLE = "KrADagrad paper, Table 2"
METHODS = {"kradagrad": "KrADagrad", "kradagrad_star": "KrADagrad*", "shampoo": "Shampoo"}
# The root that each takes, as the measurement of times calls it.
ROOTS = {"kradagrad": "square", "kradagrad_star": "fourth", "shampoo": "inverse"}
QUANTITIES = {
    "operations": "products (slope in n)",
    "seconds": "root's time (slope in n)",
    "memory": "bytes (slope in n)",
    "share": "bytes over 8 (m² + n²)",
}


def table(records: Records) -> pd.DataFrame:
    """Return one row a method and quantity: method, quantity, value, note.

    Raises:
        MissingRecordsError: if nothing was measured.
    """
    rows, notes = [], {}
    for quantity in QUANTITIES:
        for method in METHODS:
            try:
                value = _value(records, quantity, method)
            except MissingRecordsError as error:
                notes[quantity] = str(error)
                value = float("nan")
            note = notes.get(quantity, "")
            rows.append({"method": method, "quantity": quantity, "value": value, "note": note})
    data = pd.DataFrame(rows)
    if data["value"].isna().all():
        raise MissingRecordsError("; ".join(dict.fromkeys(notes.values())))
    return data


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    lines = []
    for method, label in METHODS.items():
        own = data[data["method"] == method].set_index("quantity")["value"]
        line = {"": label, "published": "O(m³ + n³), O(m² + n²)"}
        for quantity, heading in QUANTITIES.items():
            line[heading] = number_text(float(own[quantity]))
        lines.append(line)
    absent = [note for note in dict.fromkeys(data["note"]) if note]
    return comparison.table_figure(
        pd.DataFrame(lines),
        TITLE,
        [
            "A step with roots on one n × n matrix, n = 32 to 256, without momentum: operations "
            "of its matrix products, bytes of its state (a statistic and its root for each side, "
            "float32, and their eigenvalues). Time of one root by eigendecomposition, n = 64 to "
            "512, one thread: median over turns.",
            *absent,
        ],
    )


def _value(records: Records, quantity: str, method: str) -> float:
    if quantity == "seconds":
        rows = records.measurement("kradagrad_root_times")
        return float(rows[rows["case"] == f"slope of {ROOTS[method]}"]["value"].median())
    rows = records.measurement(f"kradagrad_{'memory' if quantity == 'share' else quantity}")
    part = "share" if quantity == "share" else "slope"
    return float(rows[(rows["case"] == method) & (rows["part"] == part)]["value"].median())
