"""BLEU as sacrebleu's command has it, and the translations it is of."""

import json
import subprocess
import sys

import pytest
import torch

import tasks.translation
from tasks.translation import bleu
from tests.tasks.batch_checks import take_steps
from tests.tasks.toy_translation import language, ready, stand_in


@pytest.fixture(autouse=True)
def small_set(tmp_path, monkeypatch):
    return stand_in(tmp_path, monkeypatch)


def test_bleu_is_that_of_sacrebleus_command(tmp_path):
    references = [
        "a man in a red shirt, holding a guitar - it's blue.",
        "two dogs run through the grass.",
        'children are playing "football" in the street at night (3 of them).',
        "a group of people stand by a river .",
    ]
    hypotheses = [
        "a man in a red shirt holds a guitar, it's blue.",
        "two dogs are running through the tall grass.",
        "children play football in the street at night.",
        "",
    ]
    paths = [tmp_path / "hypotheses", tmp_path / "references"]
    for path, lines in zip(paths, (hypotheses, references), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    asked = [sys.executable, "-m", "sacrebleu", str(paths[1]), "-i", str(paths[0])]
    result = subprocess.run(
        [*asked, "-m", "bleu", "-w", "10", "--force"], capture_output=True, check=True, text=True
    )
    found = json.loads(result.stdout)
    assert 20 < found["score"] < 60
    # Ten decimals are printed.
    assert bleu(hypotheses, references) == pytest.approx(found["score"], abs=1e-10)


def test_a_model_that_has_learnt_the_language_translates_it(small_set):
    small_set["train"] = language(300, 0)
    task, model = ready(search={"beam": 5}, model={"num_layers": 1}, max_tokens=300)
    assert task.evaluate(model, "valid")["bleu"] < 20
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(30):
        take_steps(task, model, optimizer, task.batches(epoch))
    metrics = task.evaluate(model, "valid")
    assert metrics["bleu"] > 60
    assert metrics["perplexity"] < 2
    hypotheses, references = task.translate(model.eval(), "valid")
    assert references == [english.lower() for _, english in small_set["valid"]]
    assert sum(a == b for a, b in zip(hypotheses, references, strict=True)) > len(references) / 2


def test_translations_stay_with_their_sources(monkeypatch):
    """Sentences are sorted for the search, in several batches, and put back."""
    task, model = ready()
    together, _ = task.translate(model.eval(), "valid")
    monkeypatch.setattr(tasks.translation, "_SEARCHED", 4)
    assert task.translate(model, "valid")[0] == together
