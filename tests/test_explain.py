"""`explain`: where the number of parameters comes from, drawn to scale, and what a run did to one digit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import CASES, SIZES, Case
from report_factory import finetune, fmnist, render
from typer.testing import CliRunner

from lorabench import methods
from lorabench.classifier import CLASSIFIER
from lorabench.cli import app
from lorabench.methods import METHODS
from lorabench.model import SimpleMnistClassifier
from lorabench.report import explain, tables
from lorabench.report.blocks import Picture, leaves
from lorabench.report.figures import Pictures
from lorabench.runs import Parents, Store


def explained(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["explain", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_lora_says_where_its_number_comes_from() -> None:
    text = render(explain.explanation(explain.by_default("lora")))
    assert "6,248 = 4·(784 + 256) + 4·(256 + 128) + 4·(128 + 10)" in text
    assert "2.66% of the classifier's 235,146 parameters" in text
    assert [round(row["break_even"]) for row in explained()["layers"]] == [193, 85, 9]


@pytest.mark.parametrize("case", [*CASES, *SIZES], ids=str)
def test_what_is_explained_is_what_the_model_trains(case: Case) -> None:
    """Layer by layer, in numbers and as the sum that is written; every symbol that is drawn stands in the formula."""
    targets = METHODS[case.name].where(list(CLASSIFIER), case.complete)
    told = explain.Told(case.name, case.complete, targets)
    model = SimpleMnistClassifier()
    methods.apply(model, case.name, **case.options)
    data = explain.explanation_data(told)
    for row in data["layers"]:
        weights = model.get_submodule(row["layer"]).parameters()
        assert row["trained"] == sum(weight.numel() for weight in weights if weight.requires_grad), row["layer"]
        assert row["trained"] == eval(row["sum"].replace("·", "*") or "0")
    assert data["trained"] == case.count
    symbols = {part.name for part in told.parts(targets[0])} - {""}
    assert symbols, told.method.formula
    assert {symbol for symbol in symbols if symbol not in told.method.formula} == set()


def test_a_break_even_is_told_where_a_and_b_are_what_is_trained() -> None:
    """With more than 193 the two have more numbers than fc1; what trains others has another, or none."""
    known = {name: explain.explanation_data(explain.by_default(name))["layers"][0]["break_even"] for name in METHODS}
    assert known["lora"] == pytest.approx(784 * 256 / (784 + 256))
    assert [known[name] for name in ("lora-fa", "dora", "miss", "bitfit")] == [None] * 4
    assert "are frozen; B is trained" in render(explain.explanation(explain.by_default("lora-fa")))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("columns", [60, 80, 140])
def test_it_fits_its_screen(name: str, columns: int) -> None:
    blocks = leaves(explain.explanation(explain.by_default(name)))
    picture = next(block for block in blocks if isinstance(block, Picture))
    for ascii_only in (False, True):
        lines = [line.text for line in picture.draw(columns, ascii_only)]
        assert max(map(len, lines[:-1])) <= columns
        assert len(lines) <= 20
        assert "".join(lines).isascii() or not ascii_only


LETTERS = {"alpha": "α", "lora.alpha": "alpha: α", "ratio": "λ: ratio", "keep": "left: keep", "strength": "strength"}
"""How a formula says an option, where not as `b: block`."""


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name, method in METHODS.items()
        for option in method.defaults
        if option not in ("k", "init", "variant", "place", "dropout", "gamma")  # of no letter, or in no formula
    ],
)
def test_a_formula_names_its_options(name: str, option: str) -> None:
    known = LETTERS.get(f"{name}.{option}") or LETTERS.get(option) or f": {option}"
    assert known in METHODS[name].formula


def test_the_drawing_is_to_scale() -> None:
    whole = explain.Tile("", 256, 784, trained=False).lines(28, ascii_only=False)
    assert [len(row) for row in whole] == [28] * 5
    assert explain.Tile("", 4, 784, trained=True).lines(28, ascii_only=False) == ["▁" * 28]
    assert explain.Tile("", 256, 4, trained=True).lines(28, ascii_only=False) == ["▏"] * 5
    assert explain.Tile("", 56, 42, trained=True).lines(28, ascii_only=False) == ["█▌"]


def pictures(before: list[int], after: list[int]) -> Pictures:
    images = np.full((5, 28, 28), 255, np.uint8)
    flipped = np.array([True, True, True, True, False])
    labels = np.array([2, 3, 3, 3, 3], np.uint8)
    return Pictures("", images, images, flipped, labels, np.array(before, np.uint8), np.array(after, np.uint8))


def test_the_digit_is_a_mirrored_three_that_the_base_misreads_as_it_mostly_does() -> None:
    digit = explain.repaired(pictures([5, 5, 8, 8, 8], [2, 3, 3, 3, 3]))
    assert digit == {"position": 2, "true": 3, "before": 8, "after": 3}
    assert explain.repaired(pictures([5, 3, 8, 8, 8], [3, 3, 8, 2, 3])) is None


def test_a_run_is_told_in_three_sentences_that_its_record_gives() -> None:
    run = finetune()
    trained, mirrored, mnist = explain.meaning(run, {})
    new, old = run.metrics["fmnist"].slices["flipped"], run.before["fmnist"].slices["flipped"]
    assert trained == "6,248 numbers were trained, 2.66% of the classifier's 235,146."
    assert mirrored == f"Of 613 mirrored images it now reads {new.correct}; before it read {old.correct}."
    assert mnist.endswith("it reads 9,778, as many as before.")
    text = render(explain.outcome(run, pictures([5, 5, 8, 8, 8], [2, 3, 3, 3, 3]), {}))
    assert "A mirrored 3: the base reads 8, the tuned model 3." in text
    assert re.search(r"MNIST +97\.78 +97\.78", text)


def test_fmnist_is_introduced_from_its_settings() -> None:
    assert tables.introduction({}) == ("F-MNIST is MNIST with 30% of the twos and threes mirrored; not Fashion-MNIST.")
    assert "12.5% of the fours mirrored" in tables.introduction({"fraction": 0.125, "classes": [4]})


def test_what_is_no_method_and_no_fine_tuned_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["explain", "lorra", "--runs-dir", str(tmp_path)])
    assert result.exit_code == 4
    assert len(result.stderr.strip().splitlines()) == 1
    assert 'nor is lorra a method; did you mean "lora"?' in result.stderr


def test_a_report_says_what_the_fmnist_of_its_runs_is(tmp_path: Path) -> None:
    """Of runs that were made from one F-MNIST; with two there is not one thing to say."""
    store, made = Store(tmp_path), fmnist()
    others = made.model_copy(update={"id": "fmnist-s1-00000000"})
    for run in (made, others):
        (tmp_path / run.id).mkdir()
        (tmp_path / run.id / "run.json").write_text(run.model_dump_json(by_alias=True))
    said = tables.introduced([finetune()], store)
    assert said is not None
    assert "30% of the twos and threes mirrored; not Fashion" in render(said)
    elsewhere = finetune(1, parents=Parents(data=others.id))
    assert tables.introduced([finetune(), elsewhere], store) is None
    assert tables.introduced([finetune()]) is None
