"""The arithmetic of scale: published counts come out to the digit, the paper's figures as printed, nonsense refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import CommandLine
from report_factory import render, squeezed, widest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lorabench import methods, scale
from lorabench.classifier import CLASSIFIER
from lorabench.errors import UsageError
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.report import costs
from lorabench.scale import ComputedClaim, Projection

GPT3 = scale.ARCHITECTURES["gpt3-175b"]
NAMED = sorted(scale.ARCHITECTURES)


def mlp(**given: Any) -> Projection:
    return scale.project("mlp", "lora", {"k": 4}, precision="fp32", **given)


def gpt3(k: int = 4, **given: Any) -> Projection:
    return scale.project("gpt3-175b", "lora", {"k": k}, **given)


def claims(found: Projection) -> dict[str, ComputedClaim]:
    return {claim.key: claim for claim in scale.claims(found)}


# Architectures


def test_published_totals_come_out_exactly() -> None:
    totals = {name: model.total for name, model in scale.ARCHITECTURES.items()}
    assert totals == {
        "mlp": 235_146,
        "toy": 46_368,
        "gpt2": 124_439_808,
        "gpt2-xl": 1_557_611_200,
        "gpt3-175b": 175_255_800_000,
        "llama-3-8b": 8_030_261_248,
        "llama-3-70b": 70_553_706_496,
    }


def test_gpt3s_matrices_give_the_published_total_within_half_a_percent() -> None:
    """The paper does not say how it counts; the head is the embedding's, and positions, norms and biases are small."""
    counted = sum(x.n * x.m * x.layers + x.m * x.layers * x.bias for x in GPT3.matrices)
    assert counted == pytest.approx(GPT3.total, rel=0.005)  # pyright: ignore[reportUnknownMemberType]
    assert counted < GPT3.total


def test_given_sizes_are_layers_with_biases() -> None:
    model = scale.given("784x256, 256x128,128x10")
    assert [(x.name, x.n, x.m) for x in model.matrices] == [(name, *shape) for name, shape in CLASSIFIER.items()]
    assert model.total == 235_146


@pytest.mark.parametrize("text", ["", "784", "784x", "784x0", "784x-1", "784x256;10x10", "1e3x5", "784x256,"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write inputs x outputs"):
        scale.given(text)


def test_the_break_even_rank_makes_a_lora_as_large_as_the_matrix() -> None:
    assert [round(row.break_even, 2) for row in mlp().architecture.matrices] == [192.98, 85.33, 9.28]
    for matrix in GPT3.matrices:
        assert matrix.break_even * (matrix.n + matrix.m) == pytest.approx(matrix.n * matrix.m)  # pyright: ignore[reportUnknownMemberType]


# The paper's figures


def test_the_papers_rows_are_counted() -> None:
    found = {row.label: (counted, row.verdict(counted)) for row, counted in scale.recounts()}
    assert found == {
        "LoRA, k = 1, q and v": (4_718_592, "rounded"),
        "LoRA, k = 4, q and v": (18_874_368, "cut"),
        "LoRA, k = 8, q and v": (37_748_736, "rounded"),
        "Adapter-H, bottleneck 1": (7_078_080, "rounded"),
        "Adapter-H, bottleneck 8": (40_109_568, "rounded"),
        "PreEmbed, 264 tokens": (3_244_032, "rounded"),
        "PreLayer, 16 tokens a layer": (18_874_368, "differs"),
    }
    fewer = {row["label"]: round(row["fewer"]) for row in costs.scaling_data(gpt3())["paper"]}
    assert [fewer[f"LoRA, k = {k}, q and v"] for k in (1, 4, 8)] == [37_142, 9_285, 4_643]


def test_gpt3s_checkpoint() -> None:
    found = gpt3()
    assert (found.full.checkpoint_bytes, found.tuned.checkpoint_bytes) == (350_511_600_000, 37_748_736)
    assert found.tuned.checkpoint_bytes == 36 * 2**20
    assert round(found.full.checkpoint_bytes / found.tuned.checkpoint_bytes) == 9_285
    assert round(100 * found.share, 4) == 0.0108
    assert [scale.size(count) for count in found.many] == ["35.05 TB", "354.3 GB"]  # the paper: 35 TB, 354 GB


def test_gpt3s_memory_by_precision() -> None:
    found = {whole.precision.name: (whole, part) for whole, part in gpt3().memory}
    assert {name: whole.training_bytes for name, (whole, _) in found.items()} == {
        "fp16": 1_402_046_400_000,
        "fp16, no gradients": 1_051_534_800_000,
        "fp32": 2_804_092_800_000,
        "mixed": 2_804_092_800_000,
    }
    whole, part = found["fp16, no gradients"]
    assert 2.99 < whole.training_bytes / part.training_bytes < 3  # the limit that the paper's "3 times" comes from
    assert [side.gpus for side in found["fp16"]] == [44, 11]
    names = [whole.precision.name for whole, _ in gpt3(precision="bf16").memory]
    assert names == ["bf16", "bf16, no gradients", "fp32", "mixed"], "fp16 takes as many bytes"


def test_gpus_are_whole_and_just_enough() -> None:
    assert [scale.gpus(size, 32) for size in (1, 32 * 10**9, 32 * 10**9 + 1)] == [1, 1, 2]
    assert [scale.gpus(size * 10**9, 32) for size in (1_200, 350)] == [38, 11]  # of the paper's 1.2 TB and 350 GB
    assert (gpt3(gpu_gb=80).full.gpus, gpt3(gpu_gb=80).tuned.gpus) == (18, 5)


def test_the_talks_three_claims_on_gpt3() -> None:
    found = claims(gpt3())
    assert {key: claim.verdict for key, claim in found.items()} == {
        "checkpoint": "holds",
        "speed": "possible",
        "gpus": "holds",
    }
    assert "-99.989%, 9,285.4 times smaller" in found["checkpoint"].here[1]
    assert "10,000 times" in found["checkpoint"].paper[0]
    assert "+32.6% speed, -24.6% time" in found["speed"].paper[0]
    # 2/3 of the work but for layer 1, below whose q, k and v nothing is trained.
    assert "at most +50.2% speed, -33.4% time" in found["speed"].here[1]
    assert "3.43 times" in found["gpus"].paper[0]
    assert "11 of 38 GPUs of 32 GB, 0.29" in found["gpus"].paper[1]
    assert "11 of 44 GPUs of 32 GB, 0.25" in found["gpus"].here[0]


def test_the_claims_are_judged_for_what_was_asked() -> None:
    assert {key: claim.verdict for key, claim in claims(mlp()).items()} == {
        "checkpoint": "no",
        "speed": "possible",
        "gpus": "no",
    }
    wide = claims(gpt3(k=4096))
    assert {key: claim.verdict for key, claim in wide.items()} == {"checkpoint": "no", "speed": "no", "gpus": "no"}
    assert (
        claims(scale.project("gpt3-175b", "full", targets=["q", "k", "v", "o", "up", "down"]))["speed"].verdict == "no"
    )
    assert claims(scale.project("gpt3-175b", "dora"))["speed"].verdict == "unknown"


# This classifier


def test_the_classifiers_bytes() -> None:
    found = mlp()
    assert (found.full.checkpoint_bytes, found.tuned.checkpoint_bytes) == (940_584, 24_992)
    assert round(found.full.checkpoint_bytes / found.tuned.checkpoint_bytes, 1) == 37.6
    assert round(100 * found.share, 3) == 2.657
    assert (found.full.training_bytes, found.tuned.training_bytes) == (3_762_336, 1_040_552)
    assert [side.training_bytes for side in found.memory[1]] == [2_821_752, 1_015_560]


def test_the_classifiers_multiply_adds() -> None:
    found, last = mlp(), mlp(targets=["fc3"])
    assert found.full.work == 3 * 234_752 - 784 * 256  # no training computes a gradient of the images
    assert found.tuned.work == 2 * 234_752 - 784 * 256 + 3 * 6_248 - 4 * 784
    assert last.tuned.work == 234_752 + 4 * (3 * 10 + 2 * 128)  # below fc3, and to its input, no gradient goes


# Every method


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_on_the_classifier_holds_what_torch_counts(name: str) -> None:
    model = SimpleMnistClassifier()
    with seeded(0):
        methods.apply(model, name)
    found = scale.train(scale.ARCHITECTURES["mlp"], name, {})
    counted = methods.count(model)
    assert (found.held, found.trainable) == (counted.total, counted.trainable)


def multiply_adds(model: nn.Module, inputs: torch.Tensor) -> tuple[float, float]:
    """Those of one example, forward and backward, as torch counts them."""
    with FlopCounterMode(display=False) as forward:
        outputs = model(inputs)
    with FlopCounterMode(display=False) as backward:
        outputs.sum().backward()
    return forward.get_total_flops() / 2 / len(inputs), backward.get_total_flops() / 2 / len(inputs)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name, method in methods.METHODS.items() if not method.remakes),
    ("ia3", {"place": "in"}),
    ("prompt", {"variant": "reprogram"}),
    ("prompt", {"variant": "deep"}),
]
SUBSETS = [subset for size in (1, 2, 3) for subset in itertools.combinations(CLASSIFIER, size)]


@pytest.mark.parametrize("targets", SUBSETS, ids="+".join)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_methods_multiply_adds_are_what_torch_counts(
    name: str, options: dict[str, Any], targets: tuple[str, ...]
) -> None:
    """Forward through everything, backward down to the first target and no further."""
    model = SimpleMnistClassifier()
    with seeded(0):
        methods.apply(model, name, targets=targets, **options)
    found = scale.train(scale.ARCHITECTURES["mlp"], name, options, targets)
    assert (found.forward, found.backward) == multiply_adds(model, torch.rand(8, 784))


class Block(nn.Module):
    """One layer of a transformer as far as its products with weights go."""

    def __init__(self, d: int) -> None:
        super().__init__()
        for name in ("q", "k", "v", "o"):
            self.add_module(name, nn.Linear(d, d))
        self.up = nn.Linear(d, 4 * d)
        self.down = nn.Linear(4 * d, d)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.get_submodule("o")(sum(self.get_submodule(name)(x) for name in ("q", "k", "v")))
        return x + self.down(self.up(x))


@pytest.mark.parametrize("name", ["lora", "adapter", "bitfit"])
@pytest.mark.parametrize("targets", [["q", "v"], ["k"], ["o"], ["down"], ["head"], ["v", "up", "head"]], ids="+".join)
def test_in_a_transformer_the_first_layer_alone_can_do_without_a_gradient(name: str, targets: list[str]) -> None:
    d, layers = 8, 3
    matrices = [
        *(
            scale.Matrix(matrix, d, d, layers, bias=True, beside=matrix in ("k", "v"))
            for matrix in ("q", "k", "v", "o")
        ),
        *(scale.Matrix("up", d, 4 * d, layers, bias=True), scale.Matrix("down", 4 * d, d, layers, bias=True)),
        scale.Matrix("head", d, 20, bias=True),
    ]
    toy = scale.Architecture("toy", "a toy", tuple(matrices), 10_000, "none", usual=("q", "v"))
    model = nn.Sequential(*(Block(d) for _ in range(layers)), nn.Linear(d, 20))
    everything = multiply_adds(model, torch.rand(5, d, requires_grad=True))  # as if of an embedding that is trained
    assert (scale.full(toy).forward, scale.full(toy).backward) == everything
    places = [f"{i}.{target}" for target in targets if target != "head" for i in range(layers)]
    methods.apply(model, name, targets=[*places, *([str(layers)] if "head" in targets else [])])
    found = scale.train(toy, name, {}, targets)
    assert (found.forward, found.backward) == multiply_adds(model, torch.rand(5, d))


def test_methods_without_a_count_of_products_make_a_weight_anew() -> None:
    assert {name for name, method in methods.METHODS.items() if method.remakes} == {
        *("dora", "loha", "lokr", "hira", "oft", "hra", "fourierft", "shira", "boft", "randlora")
    }


def test_any_method_can_be_asked_of_a_transformer() -> None:
    llama = scale.ARCHITECTURES["llama-3-8b"]
    layers, d = 32, 4096
    shapes = [(d, d)] * layers + [(d, 1024)] * layers
    for name in ("lora", "dora", "vera", "loha", "lokr", "oft", "miss", "ia3", "adalora"):
        assert scale.train(llama, name, {}).trainable == methods.METHODS[name].trainable(
            shapes, methods.METHODS[name].defaults
        )
    assert scale.train(llama, "full", {}, ["q"]).trainable == layers * d * d
    assert scale.train(llama, "full", {}, ["q"]).held == llama.total
    assert scale.train(GPT3, "bitfit", {}).trainable == 96 * 2 * 12_288
    with pytest.raises(UsageError, match="no biases there"):
        scale.train(llama, "bitfit", {})


# What is wrong


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "gpt3"}, "no architecture is called 'gpt3'; the nearest: gpt2, gpt3-175b, gpt2-xl; or give --sizes"),
        ({"model": "xyz"}, "known: mlp, toy, gpt2, gpt2-xl, gpt3-175b, llama-3-8b, llama-3-70b"),
        ({"method": "lorra"}, "no method is called 'lorra'; the nearest: lora"),
        ({"targets": ["q_proj"]}, "gpt3-175b has no matrix 'q_proj'; known: q, k, v, o, up, down, head"),
        ({"targets": ["dwn"]}, "the nearest: down"),
        ({"precision": "fp61"}, "no precision is called 'fp61'; the nearest: fp16"),
        ({"method": "adapter"}, "adapter goes to layers by their order"),
        ({"method": "head"}, "name them, e.g. --targets q,v"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_names(given: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        scale.project(given.pop("model", "gpt3-175b"), **given)
    assert message in str(error.value)


# What people see


@pytest.mark.parametrize("name", NAMED)
def test_the_tables_fit_80_columns(name: str) -> None:
    for method in ("lora", "dora", "full"):
        text = render(costs.scaling(scale.project(name, method)))
        assert widest(text) <= 80
        assert "\n\n\n" not in text
    assert ("the paper's rows" in text) == (name == "gpt3-175b")


def test_tables_and_data_agree() -> None:
    text, data = squeezed(render(costs.scaling(gpt3()))), costs.scaling_data(gpt3())
    assert data["tuned"]["trainable"] == 18_874_368
    assert "trained parameters 175,255,800,000 18,874,368 0.0108% 9,285" in text
    assert "checkpoint 350.5 GB 37.75 MB 0.0108% 9,285" in text
    assert "multiply-adds of a token 523.7e9 348.7e9 66.59% 1.50" in text
    assert [row["counted"] for row in data["paper"]] == [counted for _, counted in scale.recounts()]
    assert json.loads(json.dumps(data))["claims"][0]["verdict"] == "holds"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (999_999, "999,999 B"), (10**6, "1 MB"), (350_511_600_000, "350.5 GB")),
        *((5_432 * 10**12, "5432 TB"), (35 * 10**15, "35,000 TB")),
    ],
)
def test_sizes_have_four_digits(count: int, text: str) -> None:
    assert scale.size(count) == text


def test_the_command(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path / "runs", tmp_path)
    sizes = ("--sizes", "100x50,50x10", "--method", "lora", "--k", "20", "--targets", "fc2")
    done = cli.run("scale", *sizes, "--json")
    found = json.loads(done.stdout)
    assert (found["command"], found["total"], found["tuned"]["trainable"]) == ("scale", 5_560, 20 * 60)
    assert "k = 20 is above 10" in done.stderr
    assert not list(tmp_path.iterdir())
    wrong = cli.run("scale", "lama-3-8b", "--json", code=2)
    assert json.loads(wrong.stdout)["error"]["exit_code"] == 2
    assert "the nearest: llama-3-8b" in wrong.stderr
    assert "not both" in cli.run("scale", "mlp", "--sizes", "3x4", code=2).stderr
