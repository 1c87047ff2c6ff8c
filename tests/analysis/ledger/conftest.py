"""Made-up experiments whose numbers are given by hand, and claims on them."""

from __future__ import annotations

import pytest

from analysis.ledger import claims as claims_module
from analysis.ledger.judge import judge_all
from analysis.load import Records
from runners import measurements

HARDWARE = {"fingerprint": "f0", "cores": 2}


def claim_of(*judged: dict, **more) -> dict:
    """A claim's mapping with the entries given."""
    return {
        "id": "G01", "place": "Fig. 1", "claim": "something holds", "published": None, "run": "X",
        "rule": "it holds", "judged": list(judged), **more,
    }  # fmt: skip


class Bench:
    """Writes records below one root and judges rules from them."""

    def __init__(self, root, make):
        self.root, self._make = root, make

    def runs(self, name: str, methods: dict, case: str = "c", status=None, **manifest):
        """An experiment: method -> one value a seed, the constant loss of its 100 steps; or
        method -> {seed: losses}. `status` maps (method, seed) to anything but finished."""
        final = []
        for method, values in methods.items():
            by_seed = values if isinstance(values, dict) else dict(enumerate(values))
            for seed, losses in by_seed.items():
                losses = losses if isinstance(losses, list) else [losses] * 100
                state = (status or {}).get((method, seed), "finished")
                if state in ("finished", "diverged"):
                    self._run(name, case, method, seed, losses, state, manifest)
                final.append((case, method, seed, "quadratic", method, state))
        self._make.experiment(self.root, name, final)
        path = self.root / "experiments" / f"{name}.json"
        text = path.read_text()
        for _, method, seed, *_ in final:
            plain = f'"run_id": "{self._make.run_id(case, method, seed)}"'
            text = text.replace(plain, f'"run_id": "{name}-{case}-{method}-{seed}"')
        path.write_text(text)

    def _run(self, name, case, method, seed, losses, state, manifest):
        extra = {"seconds_a_step": 0.1, "evals": [], "spectra": [], **manifest}
        second, evals, spectra = (extra.pop(k) for k in ("seconds_a_step", "evals", "spectra"))
        steps = [(i, v, 0.1, 1.0, second * (i + 1), None) for i, v in enumerate(losses)]
        tables = {"steps": steps, "evals": evals, "spectra": spectra}
        facts = {"max_steps": 100, "steps_done": len(losses), "train_seconds": 100.0, **extra}
        self._make.run(
            self.root, "quadratic", method, f"{name}-{case}-{method}-{seed}", tables,
            seed=seed, status=state, **facts,
        )  # fmt: skip

    def rows(self, name: str, rows: list[dict], kind: str = "exact", **facts):
        """A measurement."""
        told = {"command": "c", "num_threads": 1, "hardware": HARDWARE, "timing": None, **facts}
        measurements.write(self.root, name, kind, rows, told)

    def values(self, name: str, *values: float):
        """A measurement of one value a row."""
        self.rows(name, [{"seed": i, "value": float(v)} for i, v in enumerate(values)])

    def judge(self, *judged: dict, **more):
        """The verdicts of one claim with these entries."""
        claims = [claims_module.read_claim(claim_of(*judged, **more))]
        return judge_all(Records([self.root]), claims)

    def verdict(self, **rule):
        """The verdict of one rule."""
        return self.judge(rule)[0]


@pytest.fixture
def bench(tmp_path, make):
    return Bench(tmp_path, make)
