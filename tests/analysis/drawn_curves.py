"""What tests of figures of curves check."""

from __future__ import annotations

import numpy as np

from analysis import style


def assert_curves_equal_table(axes, rows, x):
    """The first lines of `axes` are the methods' curves of the table, in its order."""
    methods = list(dict.fromkeys(rows["method"]))
    assert len(axes.lines) == len(methods)
    for drawn, method in zip(axes.lines, methods, strict=True):
        curve = rows[rows["method"] == method]
        finite = np.where(np.isfinite(curve["value"]), curve["value"], np.nan)
        np.testing.assert_array_equal(drawn.get_xdata(), curve[x])
        np.testing.assert_array_equal(drawn.get_ydata(), finite)
        assert drawn.get_color() == style.line(method)["color"]
