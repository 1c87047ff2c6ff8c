"""Energies of molecules and crystals from their atoms' positions (NG+, Fig. 3)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.base import Batch, CurvatureInfo, Task
from tasks.checks import check_callable, check_choice, check_number, check_sizes
from tasks.curvature import equal_weights
from tasks.data import carbon24, matproj, qm9, qm9_3000
from tasks.data.graphs import Graph, Standard, stacked
from tasks.data.store import content_hash, require
from tasks.data.structures import Structure
from tasks.seeding import seeded

SPLITS = ("train", "valid", "test")
SETS = {"qm9": qm9, "qm9_3000": qm9_3000, "matproj": matproj, "carbon24": carbon24}
_SPLIT_KEY = 2021  # of the splits: the same for all runs, so that their losses compare


class AtomisticEnergy(Task):
    """Tell the energy of a molecule, or the energy per atom of a crystal.

    A molecule's energy is taken relative to its free atoms, as far as the set has references. With
    mean and deviation of what is left in the training split, per atom where molecules are meant,

        prediction = sum_i (mean + deviation y_i)   or   mean + deviation * mean_i y_i

    of the model's shares y_i, which is how SchNetPack sets SchNet up. The loss is the mean over
    structures of (prediction - energy)^2, in eV^2, or in (eV per atom)^2 for crystals.

    The structures are split at random, once for all seeds: `num_train`, then `num_valid`, and the
    rest for the test. Neighbour lists are made once, when the task is set up. Batches hold a fresh
    draw of structures each epoch, padded to the largest one; the last batch may be smaller.

    Metrics over a whole split, summed in float64: `loss`, as in training, and `mae`, the mean of
    |prediction - energy|, in eV or eV per atom.

    Args:
        data_dir: folder of the data sets.
        model: makes the model from cutoff and mean, as `SchNet` does.
        cutoff: distance in angstrom beyond which atoms do not see each other.
        num_train, num_valid: structures of these splits.
        eval_batch_size: structures at a time in evaluation; bounds memory, changes only rounding.
        num_eval: structures of a split that are evaluated, the first ones; None for all.
        common: see `Task`.
    Raises:
        ValueError: on an option out of range.
    """

    splits = SPLITS

    def __init__(
        self,
        *,
        data_dir: str,
        model: Callable[..., nn.Module],
        cutoff: float,
        num_train: int,
        num_valid: int,
        eval_batch_size: int,
        num_eval: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("data", self.data, tuple(SETS))
        sizes = {"num_train": num_train, "num_valid": num_valid}
        check_sizes(sizes | {"eval_batch_size": eval_batch_size}, {"num_eval": num_eval})
        check_number("cutoff", cutoff, above=0)
        check_callable("model", model)
        self.set = SETS[self.data]
        self.data_dir = data_dir
        self.model = model
        self.cutoff = cutoff
        self.num_train = num_train
        self.num_valid = num_valid
        self.eval_batch_size = eval_batch_size
        self.num_eval = num_eval

    def data_hash(self) -> str:
        """Hash of the structures and energies."""
        return content_hash(self.data, self.set.FILES, data_dir=self.data_dir)

    def make_model(self) -> nn.Module:
        """The model that the configuration names, with its own initial values."""
        return self.model(cutoff=self.cutoff, mean=self.set.PER_ATOM)

    def setup(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Verify and read the set, and list neighbours; `dtype` is of distances and energies.

        Raises:
            DataError: if a file is missing or damaged.
            ValueError: if the splits leave no structure for the test.
        """
        structures = self.set.read(require(self.data, self.data_dir, self.set.FILES))
        self._device, self._dtype = device, dtype
        splits = self._split(structures)
        train = [structures[index] for index in splits["train"]]
        self.standard = Standard.of(train, self.set.REFERENCES, self.set.PER_ATOM)
        self._graphs: dict[str, list[Graph]] = {}
        self._structures: dict[str, list[Structure]] = {}
        for split, indices in splits.items():
            # What neither trains nor is evaluated has no use for a list.
            if split in ("train", self.target.split, *self.eval_splits):
                chosen = [structures[index] for index in indices]
                self._structures[split] = chosen
                self._graphs[split] = [
                    Graph.of(structure, self.cutoff, self.standard, dtype) for structure in chosen
                ]

    def _split(self, structures: Sequence[Structure]) -> dict[str, list[int]]:
        """Indices of each split."""
        bounds = (self.num_train, self.num_train + self.num_valid)
        if bounds[1] >= len(structures):
            raise ValueError(
                f"num_train + num_valid must be < {len(structures)}, the structures of "
                f"{self.data}, got {self.num_train} + {self.num_valid}"
            )
        order = torch.randperm(len(structures), generator=seeded(_SPLIT_KEY)).tolist()
        parts = (order[: bounds[0]], order[bounds[0] : bounds[1]], order[bounds[1] :])
        return dict(zip(SPLITS, parts, strict=True))

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, a smaller last one included."""
        return -(-self.num_train // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield what `SchNet` takes, and the residuals of the energies, (batch,), in eV."""
        graphs = self._graphs["train"]
        order = torch.randperm(len(graphs), generator=seeded(self.seed, epoch)).tolist()
        for index in range(start, self.steps_per_epoch):
            first = index * self.batch_size
            chosen = [graphs[i] for i in order[first : first + self.batch_size]]
            yield Batch(*self._stacked(chosen), epoch, index, len(chosen))

    def _stacked(self, graphs: Sequence[Graph]) -> tuple[tuple[Tensor, ...], Tensor]:
        *inputs, residuals = (t.to(self._device) for t in stacked(graphs, self._dtype))
        return tuple(inputs), residuals

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error, in eV^2."""
        return self._errors(model, batch.inputs, batch.targets).square().mean()

    def _errors(self, model: nn.Module, inputs: tuple[Tensor, ...], residuals: Tensor) -> Tensor:
        """Prediction - energy of each structure, in eV, in the residuals' precision."""
        return self.standard.deviation * model(*inputs).to(residuals.dtype) - residuals

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and mean absolute error over the split, summed in float64."""
        graphs = self._graphs[split][: self.num_eval]
        # Of like size side by side: less padding, and the sum is over all of them anyway.
        graphs = sorted(graphs, key=lambda graph: graph.neighbours.shape)
        totals = torch.zeros(2, dtype=torch.float64, device=self._device)
        for first in range(0, len(graphs), self.eval_batch_size):
            inputs, residuals = self._stacked(graphs[first : first + self.eval_batch_size])
            errors = self._errors(model, inputs, residuals).double()
            totals += torch.stack([errors.square().sum(), errors.abs().sum()])
        loss, mae = (totals / len(graphs)).tolist()
        return {"loss": loss, "mae": mae}

    def facts(self) -> dict[str, float]:
        """Two predictors that see no position, on the target's split.

        `trivial` knows the mean of the training energies, relative to free atoms where the set has
        these; `composition` is the best linear function of the numbers of each element's atoms.
        """
        train, wanted = self._structures["train"], self._structures[self.target.split]
        energies, found = (self.standard.relative(part) for part in (train, wanted))
        errors = found - energies.mean()
        facts = self.trivial(_metrics(errors))
        if facts:
            fit = np.linalg.lstsq(self._composition(train), energies, rcond=None)[0]
            errors = found - self._composition(wanted) @ fit
            facts["composition"] = _metrics(errors)[self.target.metric]
        return facts

    def _composition(self, structures: Sequence[Structure]) -> np.ndarray:
        """Atoms of each element, or their shares where energies are per atom, (n, 100)."""
        counts = np.stack([np.bincount(s.numbers, minlength=100) for s in structures])
        return counts / counts.sum(1, keepdims=True) if self.set.PER_ATOM else counts

    def curvature_pass(self, batch: Batch) -> contextlib.AbstractContextManager[CurvatureInfo]:
        """A sample is one structure; its atoms and pairs of atoms are its positions.

        Padding adds nothing to a sample's gradient. K-FAC's means over positions count it.
        """
        return equal_weights(batch, batch.num_samples)


def _metrics(errors: np.ndarray) -> dict[str, float]:
    return {"loss": float(np.square(errors).mean()), "mae": float(np.abs(errors).mean())}
