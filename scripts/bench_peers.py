"""Optimizers of other packages, and of the KrADagrad paper's authors, for the step benchmark.

The packages come with the extra `[peers]`. The authors' code is not a package: clone
https://github.com/jonathanmei/kradagrad and say where it lies in the variable KAPPA_AUTHORS.
"""

from __future__ import annotations

import importlib.util

from scripts.authors import KRADAGRAD
from scripts.bench_steps import Contender

SCALABLE_SHAMPOO = "pytorch_optimizer ScalableShampoo"
SOAP = "pytorch_optimizer SOAP"
HEAVYBALL_SOAP = "heavyball SOAP"
AUTHORS_SHAMPOO = "authors' Shampoo"
AUTHORS_KRADAGRAD_STAR = "authors' KrADagrad*"


def peers(period: int, block_size: int) -> tuple[list[Contender], dict[str, str]]:
    """Contenders that are there; and of those that are not, name -> what is missing."""
    found: list[Contender] = []
    absent: dict[str, str] = {}
    for package, names, make in (
        ("pytorch_optimizer", (SCALABLE_SHAMPOO, SOAP), _pytorch_optimizer),
        ("heavyball", (HEAVYBALL_SOAP,), _heavyball),
    ):
        if importlib.util.find_spec(package) is None:
            absent |= dict.fromkeys(names, f"{package} is missing: pip install -e .[peers]")
        else:
            found += make(period, block_size)
    if KRADAGRAD.is_given():
        found += _authors(period, block_size)
    else:
        absent |= dict.fromkeys((AUTHORS_SHAMPOO, AUTHORS_KRADAGRAD_STAR), KRADAGRAD.hint())
    return found, absent


def _pytorch_optimizer(period: int, block_size: int) -> list[Contender]:
    from pytorch_optimizer import SOAP as Soap
    from pytorch_optimizer import ScalableShampoo
    from pytorch_optimizer.optimizer.utils.preconditioner import PreConditioner

    shampoo = Contender(
        SCALABLE_SHAMPOO,
        lambda parameters: ScalableShampoo(
            parameters,
            preconditioning_compute_steps=period,
            start_preconditioning_step=period,
            block_size=block_size,
        ),
        {
            "statistics": [(PreConditioner, "add_statistics")],
            "roots": [(PreConditioner, "compute_pre_conditioners")],
        },
    )
    soap = Contender(SOAP, lambda parameters: Soap(parameters, precondition_frequency=period))
    return [shampoo, soap]


def _heavyball(period: int, block_size: int) -> list[Contender]:
    """heavyball's SOAP, without torch.compile and without blocks, which it does not divide into."""
    import heavyball

    # It would compile for minutes, at each new shape.
    heavyball.utils.compile_mode = None
    return [
        Contender(
            HEAVYBALL_SOAP,
            lambda parameters: heavyball.SOAP(parameters, precondition_frequency=period),
        )
    ]


def _authors(period: int, block_size: int) -> list[Contender]:
    """The KrADagrad authors' Shampoo and released KrADagrad*, on their path without a GPU."""
    shampoo = KRADAGRAD.module("third_party.shampoo.shampoo")
    kradagrad = KRADAGRAD.module("kradagrad")

    def contender(name: str, cls: type, preconditioner: type) -> Contender:
        return Contender(
            name,
            # Options made anew: their default is one object that all instances share.
            lambda parameters: cls(
                parameters,
                lr=1e-3,
                hyperparams=shampoo.ShampooHyperParams(
                    matrix_eps=1e-4,
                    preconditioning_compute_steps=period,
                    block_size=block_size,
                    graft_type=shampoo.LayerwiseGrafting.NONE,
                ),
            ),
            {
                "statistics": [(preconditioner, "add_statistics")],
                "roots": [(preconditioner, "compute_preconditioners")],
            },
        )

    return [
        contender(AUTHORS_SHAMPOO, shampoo.Shampoo, shampoo.Preconditioner),
        contender(AUTHORS_KRADAGRAD_STAR, kradagrad.KradagradPP, kradagrad.KrADPreconditioner),
    ]
