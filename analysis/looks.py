"""How each optimizer is drawn: one colour, one line style and one label, the same everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# The palette of Okabe & Ito (2008), which colour-blind readers can tell apart. Its yellow is too
# light for a line on white; a brown takes its place. Wine and olive [Tol 2021, "muted"] join it for
# figures with more families than it has colours.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, BROWN = "#0072B2", "#D55E00", "#CC79A7", "#7F4F24"
WINE, OLIVE = "#882255", "#999933"

SOLID, DASHED, DOTTED = "-", (0, (4, 1.5)), (0, (1, 1.2))
DASH_DOT, LONG, DASH_DOTS = (0, (4, 1.2, 1, 1.2)), (0, (9, 2)), (0, (4, 1, 1, 1, 1, 1))
_DASHES = (SOLID, DASHED, DOTTED, DASH_DOT, LONG, DASH_DOTS)


class Look(NamedTuple):
    """How one optimizer is drawn everywhere; colour and line style are unique as a pair."""

    color: str
    linestyle: Any
    label: str


SPARE_COLOURS = ("#7f7f7f", "#8c564b", "#6b6ecf", "#637939")  # used by no row below
# One row an optimizer; a family shares a colour where its members seldom meet. Dashes tell
# relatives apart and keep a figure readable in grey: of an algorithm's readings the corrected one
# is solid, the authors' dash-dotted and the printed one dotted.
LOOKS = {
    "sgd": Look(BLACK, SOLID, "SGD"),
    "nesterov": Look(BLACK, DASHED, "Nesterov"),
    "lars": Look(BLACK, DASH_DOT, "LARS"),
    "gd_line_search": Look(BLACK, LONG, "gradient descent, line search"),
    "lbfgs": Look(BLACK, DASH_DOTS, "L-BFGS"),
    "adam": Look(BLUE, DASHED, "Adam"),
    "adamw": Look(BLUE, DOTTED, "AdamW"),
    "adam_norm_grad": Look(BLUE, DASH_DOT, "AdamNormGrad"),
    "lion": Look(BLUE, LONG, "Lion"),
    "adagrad": Look(GREEN, DASH_DOT, "AdaGrad"),
    "rmsprop": Look(SKY, DASHED, "RMSprop"),
    "adadelta": Look(PURPLE, DASH_DOT, "Adadelta"),
    "full_adagrad": Look(ORANGE, SOLID, "full AdaGrad"),
    "full_window": Look(PURPLE, DASHED, "full+window"),
    "newton": Look(ORANGE, DASHED, "Newton"),
    "ggt": Look(VERMILLION, SOLID, "GGT"),
    "ggt_printed": Look(VERMILLION, DOTTED, "GGT (as printed)"),
    "ggt_authors": Look(VERMILLION, DASH_DOT, "GGT (authors' code)"),
    "ggt_hard_window": Look(VERMILLION, DASHED, "GGT, hard window"),
    "shampoo": Look(GREEN, SOLID, "Shampoo"),
    "shampoo64": Look(GREEN, DASHED, "Shampoo64"),
    "shampoo_authors": Look(GREEN, DOTTED, "Shampoo (authors' code)"),
    "scalable_shampoo": Look(GREEN, LONG, "scalable Shampoo"),
    "kradagrad": Look(PURPLE, SOLID, "KrADagrad"),
    "kradagrad_printed": Look(PURPLE, DOTTED, "KrADagrad (as printed)"),
    "kradagrad_authors": Look(PURPLE, LONG, "KrADagrad (authors' code)"),
    "kradagrad_star": Look(BROWN, SOLID, "KrADagrad*"),
    "kradagrad_star_printed": Look(BROWN, DOTTED, "KrADagrad* (as printed)"),
    "kradagrad_star_authors": Look(BROWN, DASH_DOT, "KrADagrad* (authors' code)"),
    "ng_plus": Look(WINE, SOLID, "NG+"),
    "ng_plus_authors": Look(WINE, DASH_DOT, "NG+ (authors' code)"),
    "ng_plus_authors_online": Look(WINE, DOTTED, "NG+ (authors' code), online"),
    "ng_plus_minibatch": Look(ORANGE, DASH_DOT, "NG+, minibatch"),
    "ng_plus_online": Look(SKY, SOLID, "NG+, online"),
    "ng_plus_momentum": Look(GREEN, DASH_DOTS, "NG+, momentum"),
    "ng_plus_block": Look(BLUE, DASH_DOTS, "NG+, blocks"),
    "ng_plus_low_rank": Look(VERMILLION, DASH_DOTS, "NG+, low rank"),
    "ng_plus_sketched": Look(BROWN, DASH_DOTS, "NG+, sketched"),
    "kfac": Look(OLIVE, SOLID, "K-FAC"),
    "adagrad_bma": Look(BLUE, SOLID, "AdaGrad-BMA"),
    "adagrad_bma_printed": Look(SKY, DOTTED, "AdaGrad-BMA (as printed)"),
    "soap": Look(OLIVE, DASHED, "SOAP"),
    "muon": Look(ORANGE, LONG, "Muon"),
    "psgd_kron": Look(OLIVE, DASH_DOT, "PSGD Kron"),
}

# The same optimizer under the name that a figure of a paper gives it.
ALIASES = {
    "diag": ("adagrad", "diag"),
    "diag_window": ("rmsprop", "diag+window"),
    "full": ("full_adagrad", "full"),
    "adagrad_diag": ("adagrad", "AdaGrad-diag"),
    "adagrad_full": ("full_adagrad", "AdaGrad-full"),
    "bma": ("adagrad_bma", "AdaGrad-BMA"),
    "bma_printed": ("adagrad_bma_printed", "AdaGrad-BMA (as printed)"),
}


def line(method: str) -> dict[str, Any]:
    """Colour, line style and label of an optimizer, as keywords of `Axes.plot`.

    A variant (`ggt_r50` of `ggt`) has its optimizer's colour and is called "GGT, r50". A name of
    no row in `LOOKS`, such as a new method's, gets a spare look. Both depend on the name alone, so
    they are the same in every figure.
    """
    name, label = ALIASES.get(method, (method, None))
    if name in LOOKS:
        look = LOOKS[name]
        return {"color": look.color, "linestyle": look.linestyle, "label": label or look.label}
    number = zlib.crc32(name.encode())
    base = _base(name)
    if base:
        look, suffix = line(base), name[len(base) + 1 :].replace("_", " ")
        dashes = _DASHES[number % len(_DASHES)]
        return {**look, "linestyle": dashes, "label": f"{look['label']}, {suffix}"}
    colour = SPARE_COLOURS[number % len(SPARE_COLOURS)]
    dashes = (0, (1 + number // 7 % 5, 1, 1, 1))
    return {"color": colour, "linestyle": dashes, "label": name}


def lines(
    methods: Sequence[str], labels: Mapping[str, str] | None = None, ordered: bool = False
) -> dict[str, dict[str, Any]]:
    """The looks of the methods of one figure, no two alike.

    A method with a row in `LOOKS` has its own look. A variant of one (`ggt_r50` of `ggt`) has its
    colour, with dashes that no other curve of this figure has, and is named "GGT, r50".

    Args:
        methods: in the order of the legend.
        labels: names for the legend, where the looks' own do not fit.
        ordered: the methods are values of one quantity in order: shades from dark to light.
    Returns:
        For each method keywords of `Axes.plot`.
    """
    labels = labels or {}
    if ordered:
        drawn = dict(zip(methods, _shades(len(methods)), strict=True))
    else:
        known = [m for m in methods if m in LOOKS or m in ALIASES]
        taken: set[tuple[str, Any]] = set()
        drawn = {}
        for method in [*known, *(m for m in methods if m not in known)]:
            base = _base(method) if method not in known else ""
            look = line(method) | ({"linestyle": line(base)["linestyle"]} if base else {})
            look = _untaken(look, taken)
            taken.add((look["color"], look["linestyle"]))
            drawn[method] = look
    names = {method: labels.get(method) or line(method)["label"] for method in methods}
    return {method: {**drawn[method], "label": names[method]} for method in methods}


def _base(name: str) -> str:
    """The optimizer that a name is a variant of; empty if it is of none."""
    bases = [base for base in (*LOOKS, *ALIASES) if name.startswith(f"{base}_")]
    return max(bases, key=len, default="")


def _untaken(look: dict[str, Any], taken: set[tuple[str, Any]]) -> dict[str, Any]:
    """The look itself, or its colour with other dashes, or the first pair that is left."""
    own = [(look["color"], dashes) for dashes in (look["linestyle"], *_DASHES)]
    spare = [(color, dashes) for color in SPARE_COLOURS for dashes in _DASHES]
    free = next((pair for pair in (*own, *spare) if pair not in taken), own[0])
    return {**look, "color": free[0], "linestyle": free[1]}


def _shades(count: int) -> list[dict[str, Any]]:
    """Colours of the map `viridis` without its light end, dashes in turn."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    places = [0.85 * i / max(count - 1, 1) for i in range(count)]
    return [
        {"color": to_hex(colormaps["viridis"](place)), "linestyle": (SOLID, DASHED)[i % 2]}
        for i, place in enumerate(places)
    ]
