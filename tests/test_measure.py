"""scale --measure: the decoder is the architecture's, what is told is what was trained, and lines are lines."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandLine
from report_factory import render, widest
from torch import nn

from lorabench import methods, scale
from lorabench.analysis import claims, measured
from lorabench.errors import InputError, RunFailedError, UsageError
from lorabench.report.costs import measured_report
from lorabench.runs import Store
from lorabench.scale import measure, trial
from lorabench.scale.trial import Decoder, rotate

TOY = scale.ARCHITECTURES["toy"]
LLAMA = scale.Architecture(
    "tiny-llama",
    "a Llama of another size",
    (
        scale.Matrix("q", 16, 16, 2),
        scale.Matrix("k", 16, 8, 2, beside=True),
        scale.Matrix("v", 16, 8, 2, beside=True),
        scale.Matrix("o", 16, 16, 2),
        scale.Matrix("gate", 16, 24, 2),
        scale.Matrix("up", 16, 24, 2, beside=True),
        scale.Matrix("down", 24, 16, 2),
        scale.Matrix("head", 16, 40),
    ),
    0,
    "none",
    ("q", "v"),
    head_width=4,
)
DECODERS = [model for model in scale.ARCHITECTURES.values() if model.head_width]
SETUP = scale.Setup(batch=2, context=8)


def training(method: str | None, targets: list[str] = ["q", "v"], **options: Any) -> trial.Trial:  # noqa: B006
    return trial.Trial(
        "toy", 2, method, options, targets, batch=2, context=8, precision="fp32", device=torch.device("cpu")
    )


# The decoder


@pytest.mark.parametrize("model", DECODERS, ids=lambda model: model.name)
def test_a_decoder_has_the_parameters_that_are_published(model: scale.Architecture) -> None:
    """Counted on the meta device, where no weight takes memory; of GPT-3 the paper's total is a rounded one."""
    layers = model.matrix("q").layers
    two, one = (sum(p.numel() for p in built(model.cut(n)).parameters()) for n in (2, 1))
    assert (two, one) == (model.cut(2).total, model.cut(1).total)
    counted = one + (layers - 1) * (two - one)
    assert counted == (174_604_259_328 if model.name == "gpt3-175b" else model.total)


def built(model: scale.Architecture) -> nn.Module:
    with torch.device("meta"):
        return Decoder(model)


@pytest.mark.parametrize("model", [TOY, LLAMA.cut(2)], ids=["gpt", "llama"])
def test_a_decoder_looks_at_no_later_token_and_at_every_earlier_one(model: scale.Architecture) -> None:
    torch.manual_seed(0)
    decoder = Decoder(model)
    tokens = torch.randint(40, (1, 6))
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % 40
    changed = (decoder(tokens) != decoder(other)).any(-1)[0]
    assert changed.tolist() == [False, False, False, True, True, True]


def test_a_learnt_position_tells_a_token_from_the_same_one_before() -> None:
    torch.manual_seed(0)
    logits = Decoder(TOY)(torch.full((1, 3), 7))[0]
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


def test_fewer_blocks_are_the_first_of_them() -> None:
    decoder, tokens = Decoder(TOY), torch.randint(128, (1, 6))
    whole, two = decoder(tokens), decoder(tokens, 2)
    assert not torch.equal(whole, two)
    decoder.blocks = decoder.blocks[:2]
    assert torch.equal(decoder(tokens), two)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(8), torch.randn(8)
    turned = [rotate(x.expand(1, 1, 9, 8)) for x in (q, k)]
    products = (turned[0] @ turned[1].transpose(-1, -2))[0, 0]
    assert torch.allclose(products[2, 0], products[8, 6], atol=1e-5)
    assert torch.allclose(products.diagonal(), q @ k, atol=1e-5)
    assert not torch.allclose(products[2, 0], products[0, 2], atol=1e-3)


# The training


@pytest.mark.parametrize("name", methods.METHODS)
def test_what_a_method_trains_is_what_the_arithmetic_says(name: str) -> None:
    side = training(name)
    counted = methods.count(side.model)
    expected = scale.train(TOY.cut(2), name, {}, ["q", "v"])
    assert (counted.total, counted.trainable) == (expected.held, expected.trainable)
    before = {key: parameter.clone() for key, parameter in side.model.named_parameters()}
    side.step(1)
    side.step(2)
    moved = {key for key, parameter in side.model.named_parameters() if not torch.equal(before[key], parameter)}
    assert moved
    assert all(side.model.get_parameter(key).requires_grad for key in moved)


def test_full_training_moves_everything_and_begins_at_a_guess() -> None:
    side = training(None)
    assert methods.count(side.model).trainable == TOY.cut(2).total
    before = [parameter.clone() for parameter in side.model.parameters()]
    loss, gradients_s, update_s = side.step(2)
    assert abs(loss - math.log(128)) < 0.2
    assert gradients_s > 0
    assert update_s > 0
    assert all(not torch.equal(old, new) for old, new in zip(before, side.model.parameters(), strict=True))


def test_a_step_predicts_the_next_token(monkeypatch: pytest.MonkeyPatch) -> None:
    side, tokens = training(None), torch.arange(18).view(2, 9)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: tokens)  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    with torch.no_grad():
        expected = nn.CrossEntropyLoss()(side.model(tokens[:, :8]).view(16, 128), tokens[:, 1:].reshape(16))
    assert side.step(2)[0] == pytest.approx(expected.item())


def test_of_fewer_blocks_the_others_stay() -> None:
    side = training(None)
    before = side.model.get_parameter("blocks.1.q.weight").clone()
    side.step(1)
    assert torch.equal(before, side.model.get_parameter("blocks.1.q.weight"))


def test_a_trial_tells_its_bytes(tmp_path: Path) -> None:
    given: dict[str, Any] = {"name": "toy", "blocks": 2, "method": "lora", "options": {"k": 4}, "targets": ["q", "v"]}
    _, found = trial._start(  # pyright: ignore[reportPrivateUsage]
        {**given, "batch": 1, "context": 8, "precision": "bf16", "folder": str(tmp_path)}, torch.device("cpu")
    )
    trained = scale.train(TOY.cut(2), "lora", {"k": 4}).trainable
    assert found["trainable"] == trained
    assert 4 * trained < found["checkpoint_bytes"] < 4 * trained + 2000  # a LoRA is fp32 on bf16 layers too
    assert not list(tmp_path.iterdir())


# What fits


def test_the_largest_number_of_blocks_fits_and_one_more_does_not() -> None:
    model = scale.ARCHITECTURES["gpt2-xl"]
    sides = measure_room().Trials(model, "lora", {"k": 4}, ["q", "v"], scale.Setup(), "", print)
    for both, start, budget in ((True, 0, 15e9), (False, 1, 4e9)):
        most = sides.most(budget, both=both)
        assert 0 < most < 48
        assert sum(sides.needs(most)[start:]) <= budget < sum(sides.needs(most + 1)[start:])
    assert sides.most(1e15, both=True) == 48
    assert sides.most(1e6, both=False) == 0
    assert sides.needs(1)[0] > 16 * model.cut(1).total


def measure_room() -> Any:
    return sys.modules["lorabench.scale.measure"]


def test_numbers_of_blocks() -> None:
    def chosen(layers: int, most: int, affordable: int) -> list[int]:
        return measure_room().counts(layers, most, affordable.__ge__)

    assert chosen(12, 12, 12) == [2, 4, 12]
    assert chosen(3, 3, 3) == [1, 2, 3]
    assert chosen(1, 1, 1) == [1]
    assert chosen(48, 20, 48) == [2, 20]
    assert chosen(12, 12, 6) == [2, 6]
    assert chosen(12, 12, 0) == [2]


class Fake:
    """A process that takes `blocks` + 10 seconds a step in full, half of that by the method; bytes as well."""

    def __init__(self, setup: scale.Setup) -> None:
        self.ended, self.side = False, ""

    def hello(self) -> dict[str, Any]:
        return {"device": "cpu", "unit": "AVX2", "threads": 1, "torch": "2", "free_bytes": FREE[0]}

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert not self.ended
        if "name" in question:
            if question["blocks"] in DIES:
                raise RunFailedError("died")
            self.less = 2 if question["method"] else 1
            size = 10**9 * (10 + question["blocks"]) // self.less
            return {"peak_bytes": size, "checkpoint_bytes": size, "warm_s": 1.0}
        seconds = (10 + question["blocks"]) / self.less
        return {"gradients_s": 0.75 * seconds, "update_s": 0.25 * seconds}

    def end(self) -> None:
        self.ended = True
        ENDED.append(self)


FREE: list[int | None] = [None]
DIES: set[int] = set()
ENDED: list[Fake] = []


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    made: list[Fake] = []

    def make(setup: scale.Setup) -> Fake:
        made.append(Fake(setup))
        return made[-1]

    monkeypatch.setattr(measure_room(), "_Process", make)
    FREE[0] = None
    DIES.clear()
    return made


def record(name: str = "gpt2") -> dict[str, Any]:
    return measure(scale.ARCHITECTURES[name], "lora", {"k": 4}, ["q", "v"], SETUP, lambda text: None)


def test_a_line_is_exact_where_the_truth_is_one(fake: list[Fake]) -> None:
    found = json.loads(json.dumps(record()))
    assert [count["blocks"] for count in found["counts"]] == [2, 4, 12]
    assert len(fake) == 6
    assert all(process.ended for process in fake)
    figures = {(figure.quantity, figure.side): figure for figure in measured.figures(found)}
    step = figures["step", "full"]
    assert (step.measured, step.line, step.error, step.n) == (
        pytest.approx(22),
        pytest.approx(22),
        pytest.approx(0),
        10,
    )
    assert figures["gradients", "tuned"].measured == pytest.approx(0.75 * 11)
    assert figures["step", "times"].measured == pytest.approx(2)
    cut = scale.ARCHITECTURES["gpt2"]
    assert figures["peak", "full"].arithmetic == 16 * cut.total
    assert figures["peak", "full"].measured == 22 * 10**9
    assert figures["peak", "full"].off == pytest.approx(22e9 / (16 * cut.total))
    speed = {claim.key: claim for claim in measured.claims(found)}
    assert speed["speed"].measured == pytest.approx(-0.5)
    assert speed["speed"].paper == pytest.approx(32.5 / 43.1 - 1)
    assert speed["gpus"].measured == pytest.approx(0.5)
    assert speed["checkpoint"].arithmetic == pytest.approx(147_456 / cut.total - 1)
    text = render(measured_report(found, "lora k=4"))
    assert widest(text) <= 80
    assert "12 blocks, by a line through 2 and 4" in text
    assert "22.00 s" in text


def test_the_whole_is_extrapolated_where_it_does_not_fit(fake: list[Fake]) -> None:
    FREE[0] = 10**10
    found = record("gpt2-xl")
    assert found["counts"][-1]["blocks"] < 48
    figures = {(figure.quantity, figure.side): figure for figure in measured.figures(found)}
    assert (figures["step", "full"].line, figures["step", "full"].error) == (pytest.approx(58), None)
    assert measured.claims(found)[1].measured == pytest.approx(-0.5)
    assert "48 blocks, by a line" in render(measured_report(found, "lora k=4"))


def test_the_method_alone_where_full_training_does_not_fit(fake: list[Fake]) -> None:
    FREE[0] = 25 * 10**9
    told: list[str] = []
    found = measure(scale.ARCHITECTURES["gpt3-175b"], "lora", {"k": 4}, ["q", "v"], SETUP, told.append)
    assert [(count["blocks"], "full" in count) for count in found["counts"]] == [(1, False), (2, False)]
    assert any("full training of one block would take" in text for text in told)
    assert [claim.measured for claim in measured.claims(found)] == [None] * 3
    text = render(measured_report(found, "lora k=4"))
    assert widest(text) <= 80
    assert "not measured" in text
    FREE[0] = 10**9
    with pytest.raises(UsageError, match="one block of gpt3-175b and its embedding take"):
        record("gpt3-175b")
    assert all(process.ended for process in fake)


def test_no_process_and_no_file_is_left_when_one_dies(fake: list[Fake]) -> None:
    DIES.add(12)
    with pytest.raises(RunFailedError, match="died"):
        record()
    assert fake
    assert all(process.ended for process in fake)


@pytest.mark.parametrize(
    ("model", "setup", "message"),
    [
        ("mlp", {}, "no language model"),
        ("gpt2", {"context": 1025}, "1,024 positions"),
        ("gpt2", {"precision": "mixed"}, "fp32 or bf16"),
        ("gpt2", {"device": "mps"}, "cpu or cuda"),
    ],
)
def test_what_cannot_be_measured_is_refused(model: str, setup: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scale.check(scale.ARCHITECTURES[model], replace(scale.Setup(), **setup))


# What is kept


def test_the_ledger_shows_what_was_measured_beside_gpt3(fake: list[Fake], tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    assert store.newest_measurement() is None
    store.remember_measurement(record())
    kept = store.newest_measurement()
    notes = {row.key: row.note for row in claims.ledger([], None, kept)}
    assert any(note.endswith("measured on gpt2: -50% time") for note in notes.values())
    assert any(note.endswith("measured on gpt2: 50% of the memory") for note in notes.values())
    assert not any("measured on" in row.note for row in claims.ledger([]))
    for other in ({"architecture": "another"}, {"method": "dora"}, {"options": {"k": 8}}, {"targets": ["q"]}):
        store.remember_measurement({**record(), **other})
        assert not any("measured on" in row.note for row in claims.ledger([], None, store.newest_measurement()))
    (tmp_path / "runs" / ".scale.json").write_text('{"architecture": "gpt2", "counts": []}')
    with pytest.raises(InputError, match="no valid record of a measurement"):
        store.newest_measurement()


def test_the_command(tmp_path: Path) -> None:
    """One number of blocks: the time is over before there could be more."""
    cli = CommandLine(tmp_path / "runs", tmp_path)
    done = cli.run("scale", "toy", "--measure", "--limit", "1", "--json")
    found = json.loads(done.stdout)["measured"]
    (count,) = found["counts"]
    assert count["full"]["trainable"] == TOY.cut(1).total
    assert count["tuned"]["trainable"] == 512
    assert count["full"]["peak_bytes"] is None or abs(count["full"]["peak_bytes"]) < 50e6
    assert "1 of 3 blocks, lora: building" in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.suffix == ".json"] == [".scale.json"]
    idle = cli.run("scale", "toy", "--batch", "2", code=2)
    assert idle.stderr == "lorabench: --batch is of a measurement; add --measure\n"
