"""Methods on models as other people have them: which layers they go to, what is refused, what is left out and said."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hostile_models
import pytest
import torch
from contract import stir
from hostile_models import HOSTS, KINDS, LIBRARY, ROWS, Host, Language
from torch import nn
from torch.nn.utils import parametrizations

from lorabench import methods
from lorabench.errors import UsageError
from lorabench.methods.layers import LeftOutWarning
from lorabench.model import seeded


def trained(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


class TestWhatANamePromises:
    def test_full_trains_all_that_there_is(self) -> None:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))
        methods.apply(model, "full")
        assert trained(model) == set(dict(model.named_parameters()))
        language = Language()
        methods.apply(language, "full")
        assert trained(language) == set(dict(language.named_parameters()))

    def test_full_trains_a_parameter_that_no_layer_has(self) -> None:
        model = nn.Sequential(nn.Linear(3, 3))
        model.register_parameter("scale", nn.Parameter(torch.ones(3)))
        methods.apply(model, "full")
        assert trained(model) == {"scale", "0.weight", "0.bias"}

    def test_bitfit_trains_every_bias(self) -> None:
        model = Language()
        methods.apply(model, "bitfit")
        assert trained(model) == {"fc1.bias", "norm.bias", "fc2.bias"}
        block = nn.TransformerEncoderLayer(16, 4, 32)
        methods.apply(block, "bitfit")
        assert trained(block) == {name for name in dict(block.named_parameters()) if "bias" in name}
        assert "self_attn.in_proj_bias" in trained(block)

    @pytest.mark.parametrize("name", ["full", "bitfit"])
    def test_modules_can_be_named(self, name: str) -> None:
        model = Language()
        methods.apply(model, name, targets=["norm"])
        assert trained(model) == {"norm.bias", "norm.weight"} - ({"norm.weight"} if name == "bitfit" else set())

    @pytest.mark.parametrize(("name", "target"), [("head", None), ("full", ["head"]), ("full", ["tok"])])
    def test_what_others_hold_too_is_not_trained_alone(self, name: str, target: list[str] | None) -> None:
        with pytest.raises(UsageError, match=r"would train (tok|head) too: weight of (tok|head)"):
            methods.apply(Language(), name, targets=target)


class Named(nn.Module):
    """A language model with a head of its own, which it names as the library transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.tok, self.fc, self.out = nn.Embedding(32, 16), nn.Linear(16, 16), nn.Linear(16, 32)

    def get_output_embeddings(self) -> nn.Module:
        return self.out


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_output_head_of_a_language_model_is_no_default_target(name: str) -> None:
    method = methods.METHODS[name]
    if method.in_place:
        assert "out" in methods.targeted(Named(), name)
    elif name != "adapter":  # it has no layer left to go to: its first is fc
        assert methods.targeted(Named(), name) == ["fc"]
        assert "head" not in methods.targeted(Language(), name)
    assert methods.targeted(Named(), name, ["out"]) == ["out"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("host", LIBRARY, ids=str)
def test_the_output_heads_of_the_library_are_no_default_targets(host: Host) -> None:
    """Of a language model; a classifier's head is one, as everybody's last layer is."""
    model: Any = host.model()
    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}
    assert (head is None) == (host.name in ("BERT", "ViT"))
    assert set(methods.targeted(model, "lora")) == {name for name, module in linear.items() if module is not head}


def test_a_prompt_on_a_layer_without_a_bias_merges_into_one_with_it() -> None:
    """No plain layer computes it otherwise; the model's other layers stay as they are."""
    model, x = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)), torch.rand(5, 4)
    methods.apply(model, "prompt")
    plain = methods.merge(stir(model))
    torch.testing.assert_close(plain(x), model(x))
    assert list(plain.state_dict()) == ["0.weight", "0.bias", "1.weight"]
    assert trained(plain) == {"0.weight", "0.bias", "1.weight"}


class OwnLinear(nn.Linear):
    """Its parent may do with its weight what it likes."""


def watch(layer: nn.Module) -> None:
    cast("Any", layer).register_forward_pre_hook(print)


def give_forward(layer: nn.Module) -> None:
    layer.forward = layer.forward


def change_class(layer: nn.Module) -> None:
    layer.__class__ = OwnLinear


def halve(layer: nn.Module) -> None:
    layer.register_forward_hook(hostile_models.halved)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (hostile_models.pruned, "made anew before each call, of weight_orig"),
        (hostile_models.old_weight_norm, "made anew before each call, of weight_g, weight_v"),
        (parametrizations.weight_norm, "parametrised"),
        (parametrizations.spectral_norm, "parametrised"),
        (halve, "a hook"),
        (watch, "a hook"),
        (give_forward, "a hook or a forward of its own"),
        (change_class, "a Linear of its own kind"),
    ],
)
def test_a_layer_that_is_more_than_linear_is_left_out_and_said(change: Callable[[Any], object], reason: str) -> None:
    model = hostile_models.changed(change)
    assert list(methods.linear_layers(model)) == ["0", "4"]
    with pytest.raises(UsageError, match=f"lora cannot adapt '2': .*{reason}"):
        methods.apply(model, "lora", targets=["0", "2"])
    with pytest.warns(LeftOutWarning, match=f"lora: 2 is left out: .*{reason}") as seen:
        methods.apply(model, "lora")
    assert seen[0].filename == __file__
    assert {name.partition(".")[0] for name in trained(model)} == {"0", "4"}


def test_attention_is_answered() -> None:
    model: Any = hostile_models.attention()
    with pytest.warns(
        LeftOutWarning, match=r"attention is left out: nn\.MultiheadAttention reads its weights itself"
    ) as seen:
        methods.apply(model, "lora")
    assert "out_proj" not in str(seen[0].message)
    with pytest.raises(UsageError, match="cannot adapt 'attention'"):
        methods.targeted(hostile_models.attention(), "lora", ["attention"])


@pytest.mark.parametrize(
    ("layer", "name", "reason"),
    [
        (nn.Embedding(9, 4, max_norm=1.0), "lora", "with max_norm it changes its own weight"),
        (nn.Embedding(9, 4), "vera", "of the class Embedding, which lora adapts where it is named"),
        (nn.ConvTranspose2d(1, 2, 3), "lora", "of the class ConvTranspose2d$"),
        (parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), "lora", "parametrised"),
        (nn.Conv2d(1, 2, 3, bias=False), "bitfit", "no bias '1'"),
    ],
)
def test_layers_that_a_method_cannot_adapt(layer: nn.Module, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        methods.targeted(nn.Sequential(nn.Linear(4, 4), layer), name, ["1"])


def test_embeddings_and_convolutions_are_saved_and_switched(tmp_path: Path) -> None:
    def base() -> nn.Sequential:
        with seeded(0):
            return nn.Sequential(nn.Embedding(9, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 2, 3, padding="same"))

    model, x = base(), torch.arange(9)
    plain = model(x)
    methods.apply(model, "lora", targets=["0", "2"], k=2)
    tuned = stir(model)(x)
    assert {module.training for module in model.modules()} == {True}
    for name in "ab":
        methods.save(model, tmp_path / name)
    again = base()
    methods.load(again, tmp_path / "a")
    methods.load(again, tmp_path / "b")
    assert torch.equal(again(x), tuned)
    methods.use(again, None)
    assert torch.equal(again(x), plain)
    methods.use(again, "a")
    assert torch.equal(again(x), tuned)
    assert [group["lr"] for group in methods.parameter_groups(again, 0.1)] == [0.1]
    torch.testing.assert_close(methods.merge(again)(x), tuned)
    methods.remove(again)
    assert torch.equal(again(x), plain)


class Keys(nn.Module):
    """An attention of which the first layer makes keys."""

    def __init__(self, key: str, value: str) -> None:
        super().__init__()
        self.add_module(key, nn.Linear(4, 4))
        self.add_module(value, nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("key", "value"),
    [("k_proj", "v_proj"), ("key", "value"), ("linear_Keys", "linear_Values"), ("to_k", "to_v"), ("K", "V")],
)
def test_a_prompt_does_not_go_to_keys_by_itself(key: str, value: str) -> None:
    model = nn.Sequential(Keys(key, value))
    with pytest.raises(UsageError, match=f"prompt would learn nothing: .*'0.{key}', makes an attention's keys"):
        methods.apply(model, "prompt")
    assert methods.targeted(model, "prompt", ["*"]) == methods.targeted(model, "prompt", variant="deep")
    assert methods.targeted(nn.Sequential(Keys(value, key)), "prompt") == [f"0.{value}"]
    assert methods.targeted(nn.Sequential(Keys(key, "other")), "prompt") == [f"0.{key}"]


def test_what_shares_a_weight_is_left_out_and_said() -> None:
    with pytest.warns(LeftOutWarning, match=r"^lora: 0 is left out: 2 has its weight too.*; 2 is left out: 0 has its"):
        methods.apply(hostile_models.shared_weight(), "lora")
    with warnings.catch_warnings(action="error"):  # the head of a language model is no layer that one expects
        methods.apply(Language(), "lora")


def test_a_reason_is_said_once_for_all_its_layers() -> None:
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1)) for _ in range(12)]
    with pytest.warns(LeftOutWarning, match=r"^lora: \*\.1, last are left out: it is of the class Conv1d$"):
        methods.apply(
            nn.Sequential(OrderedDict({**{str(i): b for i, b in enumerate(blocks)}, "last": nn.Conv1d(4, 4, 1)})),
            "lora",
        )


def test_the_layer_of_one_block_keeps_its_name() -> None:
    with pytest.warns(LeftOutWarning, match=r"^lora: 0\.1 is left out: "):
        methods.apply(nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1))), "lora")


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["lora", "adapter"])
def test_torchscript_is_refused_with_a_way_out(name: str) -> None:
    model, x = hostile_models.plain(), torch.ones(2, 16)
    methods.apply(model, name)
    with pytest.raises(UsageError, match=r"script methods\.merge\(model\)"):
        cast("Any", torch.jit).script(model)
    if name == "lora":
        assert torch.equal(cast("Any", torch.jit).script(methods.merge(model))(x), model(x))


def test_what_is_left_out_is_said_where_nothing_else_is_there() -> None:
    with pytest.raises(UsageError, match="among none; 0 is left out: it is of the class Conv1d"):
        methods.targeted(nn.Sequential(nn.Conv1d(1, 2, 3)), "dora")


def test_a_quantised_weight() -> None:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UsageError, match="quantised"):
        methods.targeted(cast("nn.Module", nn.Sequential(layer)), "lora")


WRAPPING = {str(case) for case in ROWS if not methods.METHODS[case.name].in_place}
NOT_LORA = {str(case) for case in ROWS if not methods.METHODS[case.name].wider} - {"full", "bitfit"}
IDS = {*NOT_LORA, "bitfit", *(str(case) for case in ROWS if "dropout" in case.options)}
REFUSED: dict[str, set[str]] = {
    "tied": {"head"},
    "named pruned": {*WRAPPING, "head"},
    "shared weight": {"adapter"},
    "a Linear": WRAPPING,
    "no bias": {"bitfit"},
    "Conv2d": {"adapter"},
    "Conv2d named": NOT_LORA,
    "groups named": {*NOT_LORA, "bitfit"},
    "tied Embedding named": {str(case) for case in ROWS},
    "Embedding named": IDS,
    "bf16 Embedding named": IDS,
    "attention": {"adapter"},
    "GPT-2": {"head"},
    "Llama": {"bitfit"},
    "T5": {"bitfit", "head"},
    "Whisper": {"head", "prompt"},
}
"""What each model is refused; every other method must be right on it."""
OF_WEIGHTS = {
    *("plain", "bf16", "no bias", "Conv1D", "zero weight", "meta", "shared weight", "DDP", "batchnorm"),
    *(host.name for host in HOSTS if host.targets),
}
"""Where it is the weights or the layers that are strange, to each method in its own way; else its kind decides."""


@pytest.mark.filterwarnings("ignore")  # of PyTorch and of the library
@pytest.mark.parametrize("host", [host for host in [*HOSTS, *LIBRARY] if host.name != "compile"], ids=str)
def test_right_or_refused_and_never_silently_wrong(host: Host) -> None:
    """`python tests/hostile_models.py` prints the whole table; torch.compile, slow, is in that alone."""
    for case in ROWS if host.name in OF_WEIGHTS else [case for case in ROWS if case.name in KINDS]:
        told = hostile_models.verdict(case, host)
        if str(case) in REFUSED.get(host.name, ()):
            assert told.startswith("refused: "), f"{case}: {told}"
        else:
            assert told == "right", f"{case}: {told}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in ("GPT-2", "Llama") for method in ("lora", "full")]
)
def test_a_vocabulary_grows_after_apply(name: str, method: str) -> None:
    """The base's tokens keep their logits."""
    host = next(host for host in LIBRARY if host.name == name)
    model, x = cast("Any", host.model()).eval(), host.inputs()
    methods.apply(model, method)
    with torch.no_grad():
        before = host.use(model, x)
        model.resize_token_embeddings(40, mean_resizing=False)
        after = host.use(model, x)
    assert after.shape[-1] == 40
    torch.testing.assert_close(after[..., :32], before)
