"""The contract that every method keeps, as checks: run over the registry by test_methods, broken by test_mutants.

A `Case` is a method with options, a `Subject` a model that it is applied to. Where a method rightly breaks a clause,
its registry entry says so (`Method.exemption`), and the check asks there.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lorabench import checkpoint, frozen, methods, train
from lorabench.errors import UsageError
from lorabench.frozen import Splittable
from lorabench.methods.layers import LeftOutWarning
from lorabench.model import SimpleMnistClassifier, seeded

EPS = {torch.float32: 1e-6, torch.float64: 1e-12}
"""How far, as a share of the largest logit, a merged model may be off in each type."""


@dataclass(frozen=True)
class Case:
    """A method, some of its options, and the number of parameters that it must train in the talk's classifier."""

    name: str
    count: int
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    @property
    def complete(self) -> dict[str, Any]:
        """All options, defaults filled in."""
        return methods.complete(self.name, self.options)


CASES = [
    Case("lora", 6248, {"k": 4}),
    Case("lora", 6248, {"init": "kaiming", "alpha": 32.0}),
    Case("lora", 6248, {"init": "gaussian", "alpha": 4.0}),
    Case("lora", 6248, {"init": "orthogonal"}),
    Case("full", 235_146),
    Case("adapter", 6544),
    Case("adapter", 3464, {"bottleneck": 4, "init": "zero"}),
    Case("prompt", 784),
    Case("prompt", 384, {"variant": "border"}),
    Case("prompt", 784, {"variant": "reprogram"}),
    Case("prompt", 1168, {"variant": "deep"}),
    Case("bitfit", 394),
    Case("head", 1290),
    Case("rslora", 6248),
    Case("lora-plus", 6248),
    Case("lora-fa", 1576),
    Case("dora", 6642),
    Case("pissa", 6248),
    Case("pissa", 24_992, {"k": 16}),
    Case("olora", 6248),
    Case("olora", 24_992, {"k": 16}),
    Case("vera", 1162),
    Case("ia3", 394),
    Case("ia3", 1168, {"place": "in"}),
    Case("adalora", 6260),
    Case("loha", 12_496),
    Case("lokr", 980),
    Case("hira", 6248),
    Case("oft", 1752),
    Case("miss", 1576),
    Case("miss", 2364, {"k": 6}),
    Case("gralora", 6248),
    Case("hra", 4672),
    Case("fourierft", 3000),
    Case("delora", 6251),
    Case("shira", 6248),
    Case("shira", 15_520, {"k": 10}),
    Case("boft", 1562, {"block": 2}),
    Case("randlora", 20_906),
]
"""One for each way through the code of a method."""

SIZES = [
    *(Case("lora", count, {"k": k}) for k, count in {1: 1562, 2: 3124, 8: 12_496, 16: 24_992}.items()),
    Case("adapter", 5774, {"bottleneck": 7}),
    Case("rslora", 12_496, {"k": 8, "alpha": 4.0}),
    Case("vera", 406, {"k": 4}),
    Case("adalora", 9390, {"k": 6}),
    Case("oft", 584, {"block": 2}),
    Case("gralora", 3124, {"k": 2, "blocks": 1}),
    Case("hra", 2336, {"k": 2}),
    Case("fourierft", 192, {"frequencies": 64, "alpha": 30.0}),
    Case("boft", 2146, {"factors": 1}),
    Case("randlora", 7458, {"k": 12, "scale": 5.0}),
]
"""The same ways with other numbers: for what counts or computes, on one model."""


class Block(nn.Module):
    """Self-attention with two heads and a ReLU network, each around a residual: (n, t, 100) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(100, 100) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(100), nn.LayerNorm(100)
        self.up, self.down = nn.Linear(100, 144), nn.Linear(144, 100)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        h = self.norm1(x)
        q, k, v = (layer(h).reshape(n, t, 2, 50).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, 100)
        x = x + self.o(mixed)
        return x + self.down(torch.relu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Images (n, 7, 100) in [0, 1], seven tokens each, to logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(100, 100)
        self.block = Block()
        self.head = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)).mean(1))


@dataclass(frozen=True)
class Subject:
    """A model that methods are applied to, and the shape of one of its inputs."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return self.name

    def base(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A new copy of the trained model: the same to the bit every time."""
        return copy.deepcopy(pretrained(self)).to(dtype).eval()

    def tuned(self, case: Case, dtype: torch.dtype = torch.float32, seed: int = 1) -> nn.Module:
        """The base with the method applied, as at birth."""
        model = self.base(dtype)
        with seeded(seed):
            methods.apply(model, case.name, **case.options)
        return model

    def images(self, n: int = 100, dtype: torch.dtype = torch.float32) -> Tensor:
        """Inputs (n, *shape) in [0, 1]: noise over one of ten patterns, that of `labels`."""
        patterns = torch.rand(10, *self.shape, generator=torch.Generator().manual_seed(1))
        noise = torch.rand(n, *self.shape, generator=torch.Generator().manual_seed(2))
        return ((patterns[labels(n)] + 0.5 * noise) / 1.5).to(dtype)


def labels(n: int = 100) -> Tensor:
    """The classes of `Subject.images(n)`."""
    return torch.arange(n) % 10


@functools.cache
def pretrained(subject: Subject) -> nn.Module:
    """The subject's model, trained on its images until it is sure of itself. Not to be changed: copy it."""
    with seeded(0):
        model = subject.make()
    recipe = train.Recipe(epochs=10, batch_size=20, lr=3e-3, warmup=0.2)
    assert train.fit(model, subject.images(), labels(), recipe, seed=0)[-1].accuracy > 0.99
    return model


CLASSIFIER = Subject("classifier", SimpleMnistClassifier, (784,))
TRANSFORMER = Subject("transformer", Transformer, (7, 100))
SUBJECTS = [CLASSIFIER, TRANSFORMER]


def stir(model: nn.Module, size: float = 0.02) -> nn.Module:
    """Move whatever is trained off its birth value, the same way every time: zeros hide most mistakes."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(size * torch.randn(p.shape, generator=generator).to(p))
    return model


@torch.no_grad()
def logits(model: nn.Module, images: Tensor) -> Tensor:
    """What the model computes, without a trace."""
    return model(images)


def check_birth(case: Case, subject: Subject) -> None:
    """A fresh method leaves the logits as they were, exactly or as far as its registry entry says."""
    images = subject.images()
    before, after = logits(subject.base(), images), logits(subject.tuned(case), images)
    allowed = methods.METHODS[case.name].exemption("birth", case.complete)
    limit = allowed.absolute + allowed.relative * before.abs().max().item() if allowed else 0.0
    off = (after - before).abs().max().item()
    assert off <= limit, f"{case} moves the logits by {off:.3g} at birth"
    agree = (after.argmax(1) == before.argmax(1)).float().mean().item()
    assert agree >= 0.99, f"{case} changes {1 - agree:.1%} of the answers at birth"


def check_count(case: Case, subject: Subject) -> None:
    """As many parameters are trained as the formula says; in the talk's classifier, as the table says."""
    base = subject.base()
    layers = methods.linear_layers(base)
    targets = methods.targeted(base, case.name, **case.options)
    expected = methods.METHODS[case.name].trainable([layers[name] for name in targets if name in layers], case.complete)
    if subject is TRANSFORMER:  # two LayerNorms of 100
        expected += {"full": 400, "bitfit": 200}.get(case.name, 0)
    found = methods.count(subject.tuned(case)).trainable
    assert found == expected, f"{case} trains {found} parameters, its formula says {expected}"
    if subject is CLASSIFIER:
        assert found == case.count, f"{case} trains {found} parameters, the table says {case.count}"


def check_frozen(case: Case, subject: Subject) -> None:
    """Twenty steps of training change what requires a gradient, and not a bit of anything else."""
    model = subject.tuned(case)
    with methods.disabled(model):
        base = {name: t.clone() for name, t in model.state_dict().items()}
    born = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules())
    live = {f"{prefix}.{name}" for prefix, m in modules for name in getattr(m, "trained_buffers", ())} | born.keys()
    still = {name: t.detach().clone() for name, t in tensors(model).items() if name not in live}
    recipe = train.Recipe(epochs=4, batch_size=20, lr=methods.METHODS[case.name].lr, warmup=0.2)
    train.fit(model, subject.images(), labels().flip(0), recipe, seed=0)
    moved = [name for name, t in tensors(model).items() if name in still and not torch.equal(t, still[name])]
    assert not moved, f"{case} changed {moved[0]}, which it calls frozen"
    parameters = dict(model.named_parameters())
    trained = {name.rpartition(".")[0] for name, t in born.items() if not torch.equal(parameters[name], t)}
    lazy = {name.rpartition(".")[0] for name in born} - trained
    assert not lazy, f"{case} trained nothing in {lazy}"
    with methods.disabled(model):
        spoilt = [name for name, t in model.state_dict().items() if not torch.equal(t, base[name])]
    assert not spoilt, f"{case} changed {spoilt[0]} of the base"


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, those that are never saved too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def check_checkpoint(case: Case, subject: Subject) -> None:
    """What is saved is what was trained; on a base with the method applied anew it gives the same logits to the bit."""
    model = stir(subject.tuned(case))
    again = subject.tuned(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        path.write_bytes(checkpoint.encode(checkpoint.trained(model), {"run": "here"}))
        saved = checkpoint.decode(path, checkpoint.trained(again), {"run": "here"})
    assert sum(t.numel() for t in saved.values()) == methods.count(model).trainable, (
        f"{case} saves what it does not train"
    )
    checkpoint.restore(again, saved)
    images = subject.images()
    assert torch.equal(logits(again, images), logits(model, images)), f"{case} computes something else once loaded"
    kept = [name for name in model.state_dict() if "lorabench" in name]
    assert not kept, f"{kept} would be saved"


def check_merge(case: Case, subject: Subject, dtype: torch.dtype) -> None:
    """Merged, the model is plain and computes the same, however often it is merged; or that is refused with reasons."""
    model = stir(subject.tuned(case, dtype))
    if refusal := methods.METHODS[case.name].exemption("merge", case.complete):
        with pytest.raises(UsageError) as error:
            methods.merge(model)
        assert refusal.reason in str(error.value)
        return
    images = subject.images(dtype=dtype)
    names, expected = list(model.state_dict()), logits(model, images)
    plain = methods.merge(model)
    unchanged = names == list(model.state_dict()) and torch.equal(logits(model, images), expected)
    assert unchanged, f"merging {case} changes the model that is merged"
    assert same_form(plain, subject.base(dtype)), f"{case} merged is no plain model"
    assert all(p.requires_grad for p in plain.parameters())
    got = logits(plain, images)
    off = ((got - expected).abs().max() / expected.abs().max()).item()
    assert off <= EPS[dtype], f"{case} merged is {off:.3g} of the largest logit off"
    assert torch.equal(got.argmax(1), expected.argmax(1))
    assert torch.equal(logits(methods.merge(model), images), got), f"{case} merged twice is not {case} merged"
    assert torch.equal(logits(methods.merge(plain), images), got)


def same_form(model: nn.Module, base: nn.Module) -> bool:
    """Whether both have the same modules, parameters and buffers: names, classes, shapes and types."""

    def form(of: nn.Module) -> tuple[list[Any], list[Any]]:
        modules = cast("Iterator[tuple[str, nn.Module]]", of.named_modules())
        return [(name, type(m)) for name, m in modules], [(name, t.shape, t.dtype) for name, t in tensors(of).items()]

    return form(model) == form(base)


def check_disabled(case: Case, subject: Subject) -> None:
    """Disabled, the model is the base bit for bit; afterwards it is what it was."""
    images = subject.images()
    base = subject.base()
    model = stir(subject.tuned(case))
    tuned, state = logits(model, images), copy.deepcopy(model.state_dict())
    assert not torch.equal(tuned, logits(base, images))
    with contextlib.suppress(ZeroDivisionError), methods.disabled(model):
        assert torch.equal(logits(model, images), logits(base, images)), f"{case} disabled is not the base"
        raise ZeroDivisionError
    assert torch.equal(logits(model, images), tuned), f"{case} is not back after having been disabled"
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())


def check_split(case: Case, subject: Subject) -> None:
    """What is computed once and what is computed in every step make up the plain forward."""
    images = subject.images()
    model = stir(subject.tuned(case))
    constants, resume = frozen.split(model, images)
    expected = logits(model, images)
    with torch.no_grad():
        off = ((resume(*constants) - expected).abs().max() / expected.abs().max()).item()
    assert off <= 1e-5, f"{case} split is {off:.3g} of the largest logit off"
    layers: list[nn.Module] = list(model.modules())
    for layer in layers:
        if isinstance(layer, Splittable):
            n = layer.get_submodule("inner").get_parameter("weight").shape[1]
            x = torch.rand(9, n, generator=torch.Generator().manual_seed(4))
            with torch.no_grad():
                whole, parts = layer(x), layer.trainable_part(*layer.frozen_part(x))
            assert ((whole - parts).abs().max() / whole.abs().max()).item() <= 1e-5, f"{type(layer)} does not add up"


class Failure(TorchFunctionMode):
    """Inside, the `at`-th step that touches a tensor, or replaces a module, fails as if memory had run out."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at
        self.patch = mock.patch.object(nn.Module, "set_submodule", self.counted(nn.Module.set_submodule))

    def __enter__(self) -> Failure:
        self.patch.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.patch.stop()

    def counted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if not self.left:
                raise MemoryError
            return step(*args, **kwargs)

        return take

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        grad_mode: Any = torch._C._set_grad_enabled  # pyright: ignore[reportPrivateUsage]
        # The end of a `no_grad` cannot fail; where it did, gradients would stay off.
        return (func if func is grad_mode else self.counted(func))(*args, **(kwargs or {}))


def check_atomic(case: Case) -> None:
    """Whatever step of `apply` fails, the model is the one that it was; once it is through, a second is refused."""

    def identity(of: nn.Module) -> list[Any]:
        modules = cast("Iterator[tuple[str, nn.Module]]", of.named_modules(remove_duplicate=False))
        found = [(name, id(t), t.requires_grad) for name, t in tensors(of).items()]
        return [(name, id(module)) for name, module in modules] + found

    with seeded(0):
        model = nn.Sequential(nn.Linear(100, 36), nn.ReLU(), nn.Linear(36, 100), nn.ReLU(), nn.Linear(100, 16))
    model[2].weight.requires_grad_(False)
    before, values = identity(model), copy.deepcopy(model.state_dict())
    for step in itertools.count(1):
        try:
            with Failure(step):
                methods.apply(model, case.name, targets=["0", "4"], **case.options)
        except MemoryError:
            assert identity(model) == before, f"{case} leaves the model changed when step {step} of apply fails"
            assert all(torch.equal(t, values[name]) for name, t in model.state_dict().items())
        else:
            assert step > 4, f"{case} is not seen at work"
            break
    applied = identity(model)
    assert applied != before
    with pytest.raises(UsageError, match="applied to this model before"):
        methods.apply(model, case.name, targets=["2"], **case.options)
    assert identity(model) == applied


def check_drop_in(case: Case, subject: Subject) -> None:
    """What stands in a layer's place has the layer's sides, and the weight and bias that compute what it does."""
    model = stir(subject.tuned(case, torch.float64))
    layers = methods.linear_layers(subject.base())
    for name in layers.keys() & methods.targeted(subject.base(), case.name, **case.options):
        layer: Any = model.get_submodule(name)
        n, m = layers[name]
        assert (layer.in_features, layer.out_features, layer.weight.shape) == (n, m, (m, n))
        assert (layer.weight.dtype, layer.weight.device.type) == (torch.float64, "cpu")
        x = torch.rand(3, 5, n, generator=torch.Generator().manual_seed(5)).double()
        if methods.METHODS[case.name].exemption("merge", case.complete):
            for use in (F.linear, torch.Tensor.numpy, torch.Tensor.clone):
                with pytest.raises(UsageError, match="no single weight"):
                    use(*(x, layer.weight) if use is F.linear else (layer.weight,))
            continue
        expected, got = layer(x), F.linear(x, layer.weight, layer.bias)
        off = ((got - expected).abs().max() / expected.abs().max()).item()
        assert off <= EPS[torch.float64], f"{case}: weight and bias of {name} are {off:.3g} off what it computes"
        own = [p for p in layer.parameters() if p.requires_grad]
        for wanted, found in zip(*(torch.autograd.grad(y.square().sum(), own) for y in (expected, got)), strict=True):
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-9), f"{case}: gradients through the weight differ"


def check_fast_path(case: Case) -> None:
    """PyTorch's own Transformer, which without gradients reads weights instead of calling layers, computes the same."""
    with seeded(0):
        block = nn.TransformerEncoderLayer(100, 4, 144, dropout=0.0, batch_first=True)
        model = nn.TransformerEncoder(block, 2).eval()
        x = torch.rand(3, 7, 100)
        padding = torch.arange(7) >= torch.tensor([[7], [5], [6]])
        base = logits(model, x)
        with (
            contextlib.nullcontext()
            if methods.METHODS[case.name].in_place
            else pytest.warns(LeftOutWarning, match="Multihead")
        ):
            methods.apply(model, case.name, **case.options)
    stir(model, 0.1)
    for mask in (None, padding):
        expected = model(x, src_key_padding_mask=mask)
        with torch.no_grad():
            got = model(x, src_key_padding_mask=mask)
        live = slice(None) if mask is None else ~mask
        assert torch.allclose(got[live], expected[live], atol=1e-4), f"{case} is left out without gradients"
    assert not torch.allclose(logits(model, x), base, atol=1e-3)


def check_types(case: Case, subject: Subject) -> None:
    """What a method adds has the type of its layer, and float32 on half precision; the output, the layer's own."""
    for dtype, added in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        base, model = tensors(subject.base(dtype)), subject.tuned(case, dtype)
        x = subject.images(4, dtype)
        new = [(name, t) for name, t in tensors(model).items() if name.replace(".inner.", ".") not in base]
        other = [name for name, t in new if t.is_floating_point() and t.dtype != added and "W_res" not in name]
        assert not other, f"{case} makes {other[0]} of another type than {added} on {dtype}"
        assert logits(model, x).dtype == dtype
        constants, resume = frozen.split(model, x)
        assert resume(*constants).dtype == dtype
        with torch.autocast("cpu", torch.bfloat16):
            assert logits(model, x).dtype == logits(subject.base(dtype), x).dtype, f"{case} gives another type"


CHECKS: dict[str, Callable[[Case, Subject], None]] = {
    "birth": check_birth,
    "count": check_count,
    "frozen": check_frozen,
    "checkpoint": check_checkpoint,
    "merge-float32": functools.partial(check_merge, dtype=torch.float32),
    "merge-float64": functools.partial(check_merge, dtype=torch.float64),
    "disabled": check_disabled,
    "split": check_split,
    "types": check_types,
    "drop-in": check_drop_in,
}
"""What holds of every method, with any options, on any model."""
