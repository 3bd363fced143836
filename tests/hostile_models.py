"""Models as other people have them, and what must be true of every method on every one: right, or refused with the
reason, never silently wrong. `python tests/hostile_models.py [WORD]` prints the table, or the columns with WORD.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from contract import Case, labels, tensors
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils import checkpoint

from lorabench import methods
from lorabench.data.ways import import_datasets
from lorabench.errors import UsageError
from lorabench.model import seeded

EPS = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""How far, as a share of the largest output, rounding may take two ways to compute the same in each type."""

ROWS = [
    *(Case(name, 0) for name in methods.METHODS if name != "boft"),  # its usual blocks cut no 36 inputs; see below
    Case("prompt", 0, {"variant": "deep"}),
    Case("ia3", 0, {"place": "in"}),
    Case("boft", 0, {"block": 2}),
    Case("lora", 0, {"init": "kaiming", "alpha": 8.0, "dropout": 0.5}),
]
KINDS = {"full", "head", "bitfit", "lora", "adalora", "pissa", "dora", "vera", "prompt", "ia3", "adapter"}
"""Methods of which each does to a model what the others do not: in place, with a penalty, with a part of W, ..."""


class Language(nn.Module):
    """Token ids (n, t) to next-token logits (n, t, 32); the head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.tok = nn.Embedding(32, 16)
        self.fc1, self.norm, self.fc2 = nn.Linear(16, 36), nn.LayerNorm(36), nn.Linear(36, 16)
        self.head = nn.Linear(16, 32, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.tok(x)
        return self.head(h + self.fc2(torch.relu(self.norm(self.fc1(h)))))


class Doubled(nn.Sequential):
    """A Sequential with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        for layer in self:
            input = 2 * layer(input)  # noqa: A001
        return input


class Conv1D(nn.Module):
    """GPT-2's linear layer as the library transformers has it: the weight is (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(0.1 * torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight) + self.bias


def plain(*before: nn.Module) -> nn.Sequential:
    """(n, 16) to (n, 8), three linear layers, `before` in front."""
    return nn.Sequential(*before, nn.Linear(16, 36), nn.ReLU(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 8))


def pruned(layer: nn.Module) -> None:
    cast("Any", prune).random_unstructured(layer, "weight", 0.5)


def old_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings(action="ignore"):
        nn.utils.weight_norm(layer)


def changed(change: Callable[[Any], object]) -> nn.Sequential:
    """`plain`, with its layer in the middle changed."""
    model = plain()
    change(model[2])
    return model


def halved(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook that changes what its layer gives."""
    del module, inputs
    return output / 2


def two_names() -> nn.Module:
    layer = nn.Linear(16, 16)
    return nn.Sequential(layer, nn.ReLU(), nn.Sequential(nn.Linear(16, 16), layer), nn.Linear(16, 8))


def shared_weight() -> nn.Module:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 8))
    model[2].weight = model[0].weight
    return model


def partly_frozen() -> nn.Module:
    model = plain()
    model[0].requires_grad_(False)
    return model


def plain_use(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def compiled(model: nn.Module, x: Tensor) -> Tensor:
    return cast("nn.Module", torch.compile(model, backend="eager"))(x)


def distributed(model: nn.Module, x: Tensor) -> Tensor:
    """By DistributedDataParallel, in a world of one process."""
    if not torch.is_grad_enabled() or not any(p.requires_grad for p in model.parameters()):
        return model(x)
    from torch import distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo", store=cast("Any", dist).HashStore(), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(model)(x)


def checkpointed(model: nn.Module, x: Tensor) -> Tensor:
    return cast("Any", checkpoint).checkpoint(model, x, use_reentrant=False)


@dataclass(frozen=True)
class Host:
    """A model that somebody may have.

    Attributes:
        make: a new one, of weights that torch's generator draws.
        shape: of an input.
        tokens: inputs are ids below 32, not numbers in [0, 1].
        use: how the model is called.
        meta: it is built without memory, and gets that and its weights after the method was applied.
        targets: that are named; None for the method's own.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = (16,)
    tokens: bool = False
    use: Callable[[nn.Module, Tensor], Tensor] = plain_use
    meta: bool = False
    targets: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.name

    def model(self, seed: int = 0) -> nn.Module:
        with seeded(seed):
            return self.make()

    @functools.cache  # noqa: B019 -- of hosts, which are there to the end
    def bare(self) -> tuple[torch.dtype, set[str], set[str]]:
        """What a new model has: its type, the last names of its buffers, the names of its state."""
        model = self.model()
        buffers = {name.rpartition(".")[2] for name, _ in model.named_buffers()}
        return next(model.parameters()).dtype, buffers, set(model.state_dict())

    def inputs(self, n: int = 4) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if self.tokens:
            return torch.randint(32, (n, *self.shape), generator=generator)
        return torch.rand(n, *self.shape, generator=generator).to(self.bare()[0])


def encoder() -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True), 2)


def attention() -> nn.Module:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.fc = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.attention(x, x, x, need_weights=False)[0])

    return Attending()


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8)
    )


def grouped() -> nn.Module:
    conv = nn.Conv2d(2, 8, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="reflect", bias=False)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(128, 8))


def bag() -> nn.Module:
    return nn.Sequential(nn.Embedding(32, 16, padding_idx=0), nn.Linear(16, 36), nn.ReLU(), nn.Linear(36, 16))


HOSTS = [
    Host("plain", plain),
    Host("tied", Language, (5,), tokens=True),
    Host("encoder", encoder, (5, 16)),
    Host("batchnorm", lambda: plain(nn.BatchNorm1d(16))),
    Host("dropout", lambda: plain(nn.Dropout(0.5))),
    Host("bf16", lambda: plain().to(torch.bfloat16)),
    Host("pruned", lambda: changed(pruned)),
    Host("weight_norm", lambda: changed(parametrizations.weight_norm)),
    Host("spectral_norm", lambda: changed(parametrizations.spectral_norm)),
    Host("named pruned", lambda: changed(pruned), targets=("0", "2")),
    Host("old weight_norm", lambda: changed(old_weight_norm)),
    Host("two names", two_names),
    Host("shared weight", shared_weight),
    Host("a Linear", lambda: nn.Linear(16, 8)),
    Host("in place", lambda: plain(nn.ReLU(inplace=True))),
    Host("own forward", lambda: Doubled(*plain())),
    Host("hook", lambda: changed(lambda layer: layer.register_forward_hook(halved))),
    Host("partly frozen", partly_frozen),
    Host("no bias", lambda: nn.Sequential(nn.Linear(16, 36, bias=False), nn.ReLU(), nn.Linear(36, 8, bias=False))),
    Host("Conv1D", lambda: nn.Sequential(Conv1D(36, 16), nn.ReLU(), Conv1D(8, 36))),
    Host("Conv2d", images, (1, 8, 8)),
    Host("Conv2d named", images, (1, 8, 8), targets=("0",)),
    Host("groups named", grouped, (2, 8, 8), targets=("0",)),
    Host("tied Embedding named", Language, (5,), tokens=True, targets=("tok",)),
    Host("Embedding named", bag, (5,), tokens=True, targets=("0",)),
    Host("bf16 Embedding named", lambda: bag().to(torch.bfloat16), (5,), tokens=True, targets=("0", "3")),
    Host("attention", attention, (5, 16)),
    Host("zero weight", lambda: changed(lambda layer: layer.weight.data[:2].zero_())),
    Host("meta", plain, meta=True),
    Host("checkpointing", plain, use=checkpointed),
    Host("DDP", plain, use=distributed),
    Host("compile", plain, use=compiled),
]


def library(name: str, **config: Any) -> Callable[[], nn.Module]:
    """A small model, of random weights, of the library transformers: of this class, with this configuration."""

    def make() -> nn.Module:
        import_datasets()  # torchvision, which transformers imports, needs help where its library cannot load
        transformers: Any = import_module("transformers")
        kind = getattr(transformers, name)
        return kind(kind.config_class(**config))

    return make


def logits_of(**inputs: Any) -> Callable[[nn.Module, Tensor], Tensor]:
    """A use of such a model: its logits for x under the name that is None, and for constants under the others."""

    def use(model: nn.Module, x: Tensor) -> Tensor:
        return model(**{name: x if value is None else value for name, value in inputs.items()}).logits

    return use


HEADS: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2}
SMALL: dict[str, Any] = {**HEADS, "hidden_size": 16, "intermediate_size": 36}
IDS = torch.arange(20).view(4, 5)
LIBRARY = [
    Host(
        "GPT-2",
        library("GPT2LMHeadModel", vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2),
        (5,),
        tokens=True,
        use=logits_of(input_ids=None),
    ),
    Host(
        "Llama",
        library("LlamaForCausalLM", vocab_size=32, num_key_value_heads=1, **SMALL),
        (5,),
        tokens=True,
        use=logits_of(input_ids=None),
    ),
    Host(
        "T5",
        library("T5ForConditionalGeneration", vocab_size=32, d_model=16, d_kv=8, d_ff=36, num_layers=2, num_heads=2),
        (5,),
        tokens=True,
        use=logits_of(input_ids=None, decoder_input_ids=IDS),
    ),
    Host(
        "BERT",
        library("BertForSequenceClassification", vocab_size=32, max_position_embeddings=16, **SMALL),
        (5,),
        tokens=True,
        use=logits_of(input_ids=None),
    ),
    Host(
        "ViT",
        library("ViTForImageClassification", image_size=8, patch_size=4, num_labels=8, **SMALL),
        (3, 8, 8),
        use=logits_of(pixel_values=None),
    ),
    Host(
        "Whisper",
        library(
            "WhisperForConditionalGeneration",
            vocab_size=32,
            num_mel_bins=8,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=36,
            decoder_ffn_dim=36,
            max_source_positions=8,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
        (8, 16),
        use=logits_of(input_features=None, decoder_input_ids=IDS),
    ),
]


class WrongError(AssertionError):
    """A method computes, keeps or loses something that it must not, and says nothing."""


def demand(condition: bool, fault: str) -> None:
    if not condition:
        raise WrongError(fault)


def verdict(case: Case, host: Host) -> str:
    """`right`, or `refused: ` and why, or `WRONG: ` and all that is."""
    if host.use is compiled:
        torch.compiler.reset()
    model, x = prepared(host), host.inputs()
    base, before = output(host, model, x), snapshot(model)
    faults: list[str] = []

    @contextlib.contextmanager
    def noting() -> Generator[None]:
        try:
            yield
        except WrongError as error:
            faults.append(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            faults.append(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    refusal = ""
    with noting():
        try:
            apply(case, host, model)
        except UsageError as error:
            refusal = f"refused: {error}"
            demand(same(snapshot(model), before), "refused, and yet the model is changed")
            demand(torch.equal(output(host, model, x), base), "refused, and yet the model computes something else")
    if not refusal and not faults:
        with noting():
            check_birth(case, host, model, x, base)
        with noting():
            check_training(host, model, x)
        tuned = output(host, model, x)
        with noting():
            demand(not torch.equal(tuned, base), "training changes nothing")
            demand(
                near(output(host, model, x, gradients=True), tuned), "with gradients and without it computes two things"
            )
        for check in (check_disabled, check_merge) if host in LIBRARY else (check_disabled, check_merge, check_copies):
            with noting():
                check(case, host, model, x, base, tuned)
    return f"WRONG: {'; '.join(faults)}" if faults else refusal or "right"


def prepared(host: Host) -> nn.Module:
    """The host as somebody has it: trained a little, its gradients still there."""
    model, x = host.model().train(), host.inputs()
    with seeded(2):
        host.use(model, x.clone()).float().square().mean().backward()
    return model


def apply(case: Case, host: Host, model: nn.Module, seed: int = 4) -> None:
    with seeded(seed), warnings.catch_warnings(action="ignore"):
        methods.apply(model, case.name, targets=host.targets, **case.options)


def output(host: Host, model: nn.Module, x: Tensor, *, gradients: bool = False) -> Tensor:
    """What the model gives in use; its mode is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.set_grad_enabled(gradients):
        result = host.use(model, x.clone()).detach()
    for module, mode in modes.items():
        module.training = mode
    return result


def near(one: Tensor, other: Tensor, absolute: float = 0.0) -> bool:
    limit = EPS[other.dtype] * other.abs().max().item() + absolute
    return one.dtype == other.dtype and (one - other).abs().max().item() <= limit


def equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Modules, their modes, flags and values."""
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules())
    kinds = {f"module {name}": (type(module), module.training) for name, module in modules}
    flags = {f"flag {name}": p.requires_grad for name, p in model.named_parameters()}
    return {**kinds, **flags, **{name: t.detach().clone() for name, t in tensors(model).items()}}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return list(one) == list(other) and all(
        equal(value, other[key]) if isinstance(value, Tensor) else value == other[key] for key, value in one.items()
    )


def fit(host: Host, model: nn.Module, x: Tensor, steps: int = 3) -> None:
    """Adam, in a plain loop, as README shows it."""
    optimizer = torch.optim.Adam(methods.parameter_groups(model, 0.01))
    model.train()
    with seeded(5):
        for step in range(steps):
            optimizer.zero_grad()
            y = host.use(model, x.clone()).float().flatten(0, -2)
            loss = nn.functional.cross_entropy(y, labels(len(y)) % y.shape[-1])
            (loss + methods.penalty(model)).backward()
            optimizer.step()
            methods.after_step(model, step, steps)


def check_birth(case: Case, host: Host, model: nn.Module, x: Tensor, base: Tensor) -> None:
    """The logits are as they were; nothing is left of what was before."""
    allowed = methods.METHODS[case.name].exemption("birth", case.complete)
    absolute = allowed.absolute + allowed.relative * base.abs().max().item() if allowed else 0.0
    demand(near(output(host, model, x), base, absolute), "a fresh method changes the logits")
    demand(all(module.training for module in model.modules()), "the mode of training is changed")
    demand(all(p.grad is None for p in model.parameters() if not p.requires_grad), "an old gradient is left")


def check_training(host: Host, model: nn.Module, x: Tensor) -> None:
    """What was promised moves, and not a bit of the rest but what the base itself moves in training."""
    promised = {name for name, p in model.named_parameters() if p.requires_grad}
    demand(bool(promised), "nothing is trained")
    values = {name: t.detach().clone() for name, t in tensors(model).items()}
    fit(host, model, x)
    moved = {name for name, t in tensors(model).items() if not equal(t, values[name])}
    statistics = host.bare()[1]
    moved -= {name for name, _ in model.named_buffers() if name.rpartition(".")[2] in statistics}
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules())
    moved -= {f"{path}.{name}" for path, module in modules for name in getattr(module, "trained_buffers", ())}
    demand(moved <= promised, f"{min(moved - promised, default='')} moves, which is called frozen")
    idle = {name.rpartition(".")[0] for name in promised} - {name.rpartition(".")[0] for name in moved}
    demand(not idle, f"nothing of {min(idle, default='')} moves")


def check_disabled(case: Case, host: Host, model: nn.Module, x: Tensor, base: Tensor, tuned: Tensor) -> None:
    """Disabled, it is the base bit for bit, however deep; and then it is back."""
    del case
    with methods.disabled(model):
        demand(equal(output(host, model, x), base), "disabled is not the base")
        with methods.disabled(model):
            demand(equal(output(host, model, x), base), "disabled twice is not the base")
        demand(equal(output(host, model, x), base), "disabled is not the base once an inner one has ended")
    demand(equal(output(host, model, x), tuned), "what was disabled does not come back")


def check_copies(case: Case, host: Host, model: nn.Module, x: Tensor, base: Tensor, tuned: Tensor) -> None:
    """A deepcopy, and an apply on other weights that loads the state, compute and go on training as the model does."""
    del base
    copies = {"a deepcopy": copy.deepcopy(model)}
    parameters = list(model.named_parameters(remove_duplicate=False))
    shared = len({id(p) for _, p in parameters}) < len(parameters)
    for assign in (False,) if shared else (False, True):  # assign=True itself tears apart what is tied
        with contextlib.suppress(UsageError):  # a model without memory may be refused
            copies[f"load_state_dict(assign={assign}) on a fresh apply"] = fresh(case, host, model, assign=assign)
    for name, other in copies.items():
        demand(equal(output(host, other, x), tuned), f"{name} computes something else")
    one = copy.deepcopy(model)
    fit(host, one, x, 2)
    after = output(host, one, x)
    for name, other in copies.items():
        fit(host, other, x, 2)
        demand(near(output(host, other, x), after), f"{name} goes on training in another way")


def fresh(case: Case, host: Host, model: nn.Module, *, assign: bool) -> nn.Module:
    other = host.model(seed=6).train()
    if host.meta:
        other.to("meta")
    apply(case, host, other, seed=7)
    if host.meta and not assign:
        other.to_empty(device="cpu")
    other.load_state_dict({name: t.clone() for name, t in model.state_dict().items()}, assign=assign)
    return other


def check_merge(case: Case, host: Host, model: nn.Module, x: Tensor, base: Tensor, tuned: Tensor) -> None:
    """Merged, it is a plain model that computes the same; or that is refused, as the registry says."""
    del base
    try:
        merged = methods.merge(model)
    except UsageError as error:
        demand(bool(methods.METHODS[case.name].exemption("merge", case.complete)), f"merge is refused: {error}")
        return
    demand(near(output(host, merged, x), tuned), "merged computes something else")
    added = merged.state_dict().keys() ^ host.bare()[2]
    demand(all(name.endswith("bias") for name in added), "merged is no plain model")  # a prompt becomes a bias
    demand(equal(output(host, model, x), tuned), "merging changes the model that is merged")


@functools.cache
def table(word: str = "") -> dict[tuple[str, str], str]:
    hosts = [host for host in [*HOSTS, *LIBRARY] if word in host.name]
    return {(str(case), host.name): verdict(case, host) for host in hosts for case in ROWS}


def main(word: str = "") -> None:
    cells = table(word)
    hosts = list(dict.fromkeys(host for _, host in cells))
    reasons = list(dict.fromkeys(text for text in cells.values() if text != "right"))
    marks = {text: f"{'W' if text.startswith('WRONG') else 'r'}{i}" for i, text in enumerate(reasons, 1)}
    print("| method |", " | ".join(hosts), "|")
    print("|---" * (len(hosts) + 1) + "|")
    for case in ROWS:
        print(f"| {case} |", " | ".join(marks.get(cells[str(case), host], "right") for host in hosts), "|")
    print(*(f"{mark}: {text}" for text, mark in marks.items()), sep="\n")
    wrong = sum(text.startswith("WRONG") for text in cells.values())
    right = sum(text == "right" for text in cells.values())
    print(f"{len(cells)} cells: {right} right, {len(cells) - right - wrong} refused, {wrong} wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
