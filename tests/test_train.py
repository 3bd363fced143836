"""The model, the training loop, what is computed once, measuring, and checkpoints: on small data, without runs."""

from __future__ import annotations

import copy
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from lorabench import checkpoint, evaluate, frozen, methods, train
from lorabench.classifier import CLASSIFIER, parameter_count
from lorabench.errors import InputError, RunFailedError
from lorabench.methods.lora import LoRALayer
from lorabench.model import SimpleMnistClassifier, seeded

RECIPE = train.Recipe(epochs=3, batch_size=50, lr=0.01, warmup=0.2)


def digits(n: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ten patterns with noise: learnable in seconds."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(10, 784, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 10, (n,), generator=generator)
    return (patterns[labels] + 0.3 * torch.rand(n, 784, generator=generator)) / 1.3, labels


def model(seed: int = 0) -> SimpleMnistClassifier:
    with seeded(seed):
        return SimpleMnistClassifier()


def tuned(seed: int = 0) -> SimpleMnistClassifier:
    net = model()
    with seeded(seed):
        methods.apply(net, "lora", k=4)
    return net


def test_the_classifier_is_the_talks() -> None:
    net = model()
    assert methods.count(net) == (235_146, 235_146, 0)
    assert parameter_count() == 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10 == 235_146
    assert methods.linear_layers(net) == CLASSIFIER
    assert net(torch.rand(3, 28, 28)).shape == net(torch.rand(3, 784)).shape == (3, 10)
    assert list(net.state_dict()) == [f"fc{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")]


def test_seeded_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = model(0).state_dict()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], tensor) for name, tensor in model(0).state_dict().items())
    assert not torch.equal(first["fc1.weight"], model(1).state_dict()["fc1.weight"])


def test_lora_is_the_talks_layer() -> None:
    inner = nn.Linear(7, 5)
    with seeded(0):
        layer = LoRALayer(inner, 3)
        drawn = torch.Generator().manual_seed(0)
    assert torch.equal(layer.A, torch.randn(7, 3, generator=drawn))
    assert torch.equal(layer.B, torch.zeros(3, 5))
    assert not inner.weight.requires_grad
    assert not (inner.bias.requires_grad)
    with torch.no_grad():
        layer.B.copy_(torch.randn(3, 5))
    x = torch.randn(2, 7)
    assert torch.allclose(layer(x), inner(x) + x @ layer.A @ layer.B, rtol=0, atol=1e-6)
    sequences = torch.randn(2, 3, 7)
    assert torch.allclose(layer(sequences), inner(sequences) + sequences @ layer.A @ layer.B, rtol=0, atol=1e-6)


def test_fit_learns_and_tells() -> None:
    x, y = digits()
    net = model()
    told: list[train.Epoch] = []
    history = train.fit(net, x, y, RECIPE, seed=0, on_epoch=told.append)
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert told == history
    assert history[-1].loss < history[0].loss / 2
    assert evaluate.measure(evaluate.predict(net, x), y)["accuracy"] > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    x, y = digits()
    nets = [model(), model(), model()]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        train.fit(net, x, y, RECIPE, seed=seed)
    hashes = [checkpoint.tensor_hash(net.state_dict()) for net in nets]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_learning_rate_rises_and_falls_to_nearly_nothing() -> None:
    rates = [train.triangle(step, 100, 0.2) for step in range(100)]
    assert max(rates) == rates[19] or max(rates) == rates[20]
    assert 0.95 < max(rates) <= 1
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert all(0 < train.triangle(step, 7, warmup) <= 1 for warmup in (0.0, 1.0) for step in range(7))


def test_a_small_set_is_one_batch() -> None:
    x, y = digits(30)
    assert train.steps_per_epoch(30, RECIPE) == 1
    assert len(train.fit(model(), x, y, RECIPE, seed=0)) == 3


@pytest.mark.parametrize("lr", [1e12, float("nan")])
def test_a_loss_that_runs_away_fails(lr: float) -> None:
    x, y = digits()
    with pytest.raises(RunFailedError, match="in epoch 1"):
        train.fit(model(), x, y, train.Recipe(1, 50, lr, 0.0), seed=0)


def test_only_what_the_method_trains_moves() -> None:
    x, y = digits()
    net = tuned()
    before = checkpoint.frozen_hash(net)
    train.fit(net, x, y, RECIPE, seed=0)
    assert checkpoint.frozen_hash(net) == before
    assert methods.count(net) == (241_394, 6_248, 235_146)
    with torch.no_grad():
        net.get_parameter("fc1.inner.bias").add_(1)
    assert checkpoint.frozen_hash(net) != before


def test_frozen_work_is_done_once_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "CHUNK", 150)
    x, y = digits()
    net = tuned()
    with torch.no_grad():
        net.get_parameter("fc1.B").normal_()
    x = (255 * x).to(torch.uint8)
    constants, forward = frozen.split(net, x)
    assert [(c.shape, c.dtype) for c in constants] == [((400, 784), torch.uint8), ((400, 256), torch.float32)]
    assert constants[0] is x, "the images are not stored twice"
    plain = net(x / 255)
    assert (forward(*constants) - plain).abs().max() <= 1e-5 * plain.abs().max()

    nets = [tuned(), tuned()]
    for net, reuse in zip(nets, (True, False), strict=True):
        train.fit(net, x, y, RECIPE, seed=0, reuse=reuse)
    logits = [evaluate.predict(net, x) for net in nets]
    assert torch.equal(logits[0].argmax(1), logits[1].argmax(1))
    assert (logits[0] - logits[1]).abs().max() <= 1e-4 * logits[0].abs().max()


def test_what_cannot_be_split_is_left_whole() -> None:
    x, _ = digits(20)
    whole = model()
    constants, forward = frozen.split(whole, x)
    assert torch.equal(constants[0], x)
    assert torch.equal(forward(*constants), whole(x))
    head = model().requires_grad_(False)
    head.get_submodule("fc3").requires_grad_(True)
    constants, forward = frozen.split(head, x)
    assert constants[0].shape == (20, 128)
    assert torch.allclose(forward(*constants), head(x))
    block = nn.TransformerEncoderLayer(784, 2, 16, batch_first=True, dropout=0.0)
    constants, forward = frozen.split(block, x[:, None])
    assert torch.equal(forward(*constants), block(x[:, None]))


class Doubled(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        for layer in self:
            input = 2 * layer(input)  # noqa: A001
        return input


def hooked(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A hook that draws."""
    del module, inputs
    return 3 * output + torch.rand(())


def with_hook(layer: Any) -> Any:
    layer.register_forward_hook(hooked)
    return layer


def with_own_forward(layer: Any) -> Any:
    forward = layer.forward

    def drawing(x: Tensor) -> Tensor:
        return forward(x) + torch.rand(())

    layer.forward = drawing
    return layer


def pair() -> list[nn.Module]:
    return [nn.Linear(784, 16), nn.Linear(16, 10)]


IMPURE: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "dropout": (lambda: nn.Sequential(nn.Linear(784, 16), nn.Dropout(0.5), nn.Linear(16, 10)), ["2"]),
    "dropout before a wrapper": (lambda: nn.Sequential(nn.Dropout(0.5), *pair()), ["1"]),
    "batchnorm": (lambda: nn.Sequential(nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)), ["2"]),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Dropout(0.5), nn.Linear(784, 16)), nn.Linear(16, 10)), ["1"]),
    "a hook on a layer": (lambda: nn.Sequential(with_hook(nn.Linear(784, 16)), nn.Linear(16, 10)), ["1"]),
    "a hook on the model": (lambda: with_hook(nn.Sequential(*pair())), ["1"]),
    "a forward of a layer's own": (lambda: nn.Sequential(with_own_forward(nn.Tanh()), *pair()), ["1"]),
    "a forward of the model's own": (lambda: Doubled(*pair()), ["1"]),
    "in place": (lambda: nn.Sequential(nn.ReLU(inplace=True), *pair()), ["2"]),
    "in place before a wrapper": (lambda: nn.Sequential(nn.ReLU(inplace=True), *pair()), ["1"]),
}


@pytest.mark.parametrize("name", IMPURE)
def test_what_is_not_known_to_be_pure_is_not_done_once(name: str) -> None:
    """With and without `reuse` the same, and the images stay what they were."""
    make, targets = IMPURE[name]
    x, y = digits(60)
    x = x - 0.5
    before = x.clone()
    logits: list[Tensor] = []
    for reuse in (True, False):
        with seeded(0):
            net = make()
            methods.apply(net, "lora", targets=targets)
            train.fit(net, x, y, train.Recipe(2, 20, 0.01, 0.2), seed=0, reuse=reuse)
            logits.append(evaluate.predict(net, x))
    assert torch.allclose(*logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)


def test_a_wrapped_layer_that_draws_is_not_done_once() -> None:
    net = tuned()
    with_hook(net.get_submodule("fc1.inner"))
    x, _ = digits(20)
    kept, _ = frozen.split(net, x)
    assert len(kept) == 1
    assert kept[0] is x


@pytest.mark.parametrize("part", ["fc1.inner.bias", "fc1.At"])
def test_a_part_that_is_trained_after_all_is_not_kept(part: str) -> None:
    """Somebody's own `requires_grad`, within what LoRA-FA leaves frozen."""
    x, y = digits(60)
    moved: list[Tensor] = []
    for reuse in (True, False):
        net = model()
        with seeded(0):
            methods.apply(net, "lora-fa")
        net.get_parameter(part).requires_grad_(True)
        train.fit(net, x, y, train.Recipe(2, 20, 0.01, 0.2), seed=0, reuse=reuse)
        moved.append(net.get_parameter(part).detach())
    assert torch.allclose(*moved, rtol=1e-4, atol=1e-5)


def test_measure_counts_by_hand() -> None:
    logits = torch.full((4, 10), -50.0)
    for row, digit in enumerate((3, 8, 2, 2)):
        logits[row, digit] = 50.0
    found = evaluate.measure(
        logits,
        torch.tensor([3, 3, 2, 2]),
        {"first": torch.tensor([True, True, False, False]), "none": torch.zeros(4, dtype=torch.bool)},
    )
    assert (found["n"], found["correct"], found["accuracy"]) == (4, 3, 0.75)
    assert found["loss"] == pytest.approx(25.0)
    assert (found["confusion"][3][8], found["confusion"][3][3], found["confusion"][2][2]) == (1, 1, 2)
    assert sum(map(sum, found["confusion"])) == 4
    assert found["slices"] == {
        "first": {"n": 2, "correct": 1, "accuracy": 0.5},
        "none": {"n": 0, "correct": 0, "accuracy": None},
    }


def test_the_hash_is_of_names_types_shapes_and_bytes() -> None:
    row, zero = torch.arange(6.0), torch.zeros(6)
    sets: list[dict[str, Tensor]] = [
        {},
        {"a": row},
        {"b": row},
        {"a": row.flip(0)},
        {"a": row.view(2, 3)},
        {"a": row.view(3, 2)},
        {"a": row.double()},
        {"a": zero},
        {"a": -zero},
        {"a": zero.int()},
        {"a": zero.view(torch.int32)[:3]},
        {"a": row, "b": zero},
        {"a": zero, "b": row},
        {"a": row[:3], "b": row[3:]},
        {"a": row[:4], "b": row[4:]},
    ]
    assert len({checkpoint.tensor_hash(tensors) for tensors in sets}) == len(sets)
    table = row.view(2, 3)
    again = {"b": zero.clone(), "a": table.t().contiguous().t()}
    assert checkpoint.tensor_hash({"a": table, "b": zero}) == checkpoint.tensor_hash(again), "order or memory counts"


def test_what_is_frozen_is_hashed_with_its_buffers_and_what_is_trained_is_not() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net.requires_grad_(False)
    net[0].bias.requires_grad_(True)
    before = checkpoint.frozen_hash(net)
    assert list(checkpoint.trained(net)) == ["0.bias"]
    for name in net.state_dict():
        other = copy.deepcopy(net)
        other.state_dict()[name].add_(1)
        assert (checkpoint.frozen_hash(other) == before) == (name == "0.bias"), name


ORIGIN = {"base": "pretrain-s0-00000000", "base_sha256": "ab"}


def saved(tmp_path: Path, net: nn.Module) -> Path:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(checkpoint.encode(checkpoint.trained(net), ORIGIN))
    return path


def test_an_adapter_is_small_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    x, y = digits()
    net = tuned(seed=1)
    train.fit(net, x, y, RECIPE, seed=0)
    path = saved(tmp_path, net)
    assert 24_992 < path.stat().st_size < 26_000
    again = tuned(seed=2)
    for _ in range(2):  # B is zero at birth, and something else the second time
        checkpoint.restore(again, checkpoint.decode(path, checkpoint.trained(again), ORIGIN))
    assert methods.count(again).trainable == 6_248
    assert checkpoint.frozen_hash(again) == checkpoint.frozen_hash(net)
    assert torch.equal(evaluate.predict(again, x), evaluate.predict(net, x))


def test_a_checkpoint_has_the_same_bytes_every_time() -> None:
    origin = {**ORIGIN, "method": "lora", "options": '{"targets": ["fc1"], "init": "talk"}', "run": "é"}
    tensors = checkpoint.trained(tuned())
    assert len({checkpoint.encode(tensors, origin) for _ in range(20)}) == 1


def test_another_base_is_refused(tmp_path: Path) -> None:
    net = tuned()
    path = saved(tmp_path, net)
    with pytest.raises(InputError, match="made for base_sha256 ab, refused on base_sha256 cd"):
        checkpoint.decode(path, checkpoint.trained(net), {**ORIGIN, "base_sha256": "cd"})
    path.write_bytes(checkpoint.encode(checkpoint.trained(net), {"base": ORIGIN["base"]}))
    with pytest.raises(InputError, match=r"made for base_sha256 .none named., refused on base_sha256 ab"):
        checkpoint.decode(path, checkpoint.trained(net), ORIGIN)


def _damage(tensors: dict[str, Tensor], how: str) -> None:
    if how == "shape":
        tensors["fc1.A"] = tensors["fc1.A"][:, :3].contiguous()
    elif how == "transposed":
        tensors["fc1.A"] = tensors["fc1.A"].t().contiguous()
    elif how in ("nan", "inf", "-inf"):
        tensors["fc1.A"] = tensors["fc1.A"].clone()
        tensors["fc1.A"][0, 0] = float(how)
    elif how == "type":
        tensors["fc1.A"] = tensors["fc1.A"].double()
    elif how == "missing":
        del tensors["fc2.B"]
    else:
        tensors["fc9.A"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"fc1.A is torch.float32 \(784, 3\), must be torch.float32 \(784, 4\)"),
        ("transposed", r"fc1.A is torch.float32 \(4, 784\), must be torch.float32 \(784, 4\)"),
        ("nan", "fc1.A holds values that are not finite"),
        ("inf", "fc1.A holds values that are not finite"),
        ("-inf", "fc1.A holds values that are not finite"),
        ("type", r"fc1.A is torch.float64"),
        ("missing", "lacks the tensor fc2.B"),
        ("extra", "does not belong to this model: 'fc9.A'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, how: str, message: str) -> None:
    net = tuned()
    tensors = checkpoint.trained(net)
    _damage(tensors, how)
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(save(tensors, ORIGIN))
    with pytest.raises(InputError, match=message):
        checkpoint.decode(path, checkpoint.trained(net), ORIGIN)


def test_bytes_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    net = tuned()
    whole = saved(tmp_path, net).read_bytes()
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    for content in (
        b"",
        whole[:100],
        whole[:-1],
        whole + b"x",
        struct.pack("<Q", 2**60) + whole[8:],
        b"\x80\x04pickle",
    ):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"no readable safetensors file|a header of"):
            checkpoint.decode(path, checkpoint.trained(net), ORIGIN)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="no readable safetensors file"):
        checkpoint.decode(path, checkpoint.trained(net), ORIGIN)
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.decode(tmp_path / "none", checkpoint.trained(net), ORIGIN)


def test_a_redundant_rank_is_allowed_with_a_reason() -> None:
    shapes = [(784, 256), (256, 128), (128, 10)]
    assert methods.warnings(shapes, {"k": 10}) == []
    (warning,) = methods.warnings(shapes, {"k": 12})
    assert warning.startswith("k = 12 is above 10, the smaller side")
    net = model()
    methods.apply(net, "lora", k=12)
    assert methods.count(net).trainable == methods.METHODS["lora"].trainable(shapes, {"k": 12}) == 12 * 1562


def test_training_loads_no_compiler_and_steps_as_torchs_adam_does() -> None:
    """Importing torch's compiler takes as long as importing torch."""
    code = """
import sys, torch
from lorabench import train
def trained(adam):
    model = torch.nn.Linear(8, 4)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = adam(model.parameters(), lr=0.01, betas=train.BETAS, fused=True)
    for x in torch.linspace(-1, 1, 80).reshape(10, 1, 8):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return torch.nn.utils.parameters_to_vector(model.parameters())
mine = trained(train.Adam)
assert not [name for name in sys.modules if name.startswith("torch._dynamo")]
assert torch.equal(mine, trained(torch.optim.Adam))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
