"""The contract, over the registry: every method, with its variants, on the talk's classifier and on a Transformer."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any, cast

import pytest
import torch
import toy
from contract import (
    CASES,
    CHECKS,
    CLASSIFIER,
    SIZES,
    SUBJECTS,
    TRANSFORMER,
    Case,
    Subject,
    check_atomic,
    check_fast_path,
    labels,
    logits,
    same_form,
    stir,
)
from torch import nn

from lorabench import config, methods, train
from lorabench.errors import UsageError
from lorabench.methods import METHODS
from lorabench.methods.adalora import AdaLoRALayer, Allocator
from lorabench.model import seeded

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=str)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("case", "subject"),
    [*((case, CLASSIFIER) for case in [*CASES, *SIZES]), *((case, TRANSFORMER) for case in CASES)],
    ids=str,
)
def test_contract(check: str, case: Case, subject: Subject) -> None:
    CHECKS[check](case, subject)


@every_case
def test_apply_changes_all_or_nothing(case: Case) -> None:
    check_atomic(case)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@every_case
def test_fast_path(case: Case) -> None:
    check_fast_path(case)


def test_every_method_is_a_case() -> None:
    assert {case.name for case in CASES} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_an_exemption_gives_its_reason(name: str) -> None:
    for exemption in METHODS[name].exemptions:
        assert len(exemption.reason) > 20
        assert set(exemption.when) <= set(METHODS[name].options)
        assert (exemption.clause == "birth") == bool(exemption.absolute or exemption.relative)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@every_subject
def test_a_toy_method_is_one_file_and_one_entry(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lorabench.methods.toy", toy)
    monkeypatch.setitem(METHODS, "toy", toy.ENTRY)
    case = Case("toy", 3)
    for check in CHECKS.values():
        check(case, subject)
    check_atomic(case)
    check_fast_path(case)
    assert config.load(sets=["finetune.method=toy"]).config.finetune.options == {}


@every_case
def test_the_seed_decides_what_is_drawn(case: Case) -> None:
    first, same, other = (CLASSIFIER.tuned(case, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(t, same[name]) for name, t in first.items())
    drawn = case.name not in ("full", "bitfit", "head", "prompt", "ia3", "pissa", "olora", "oft", "miss", "boft")
    assert drawn == any(not torch.equal(t, other[name]) for name, t in first.items())


@every_case
def test_a_tuned_model_survives_deepcopy_and_pickle(case: Case) -> None:
    model = stir(CLASSIFIER.tuned(case))
    images = CLASSIFIER.images()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(again, images), logits(model, images))
        assert methods.count(again) == methods.count(model)
        with methods.disabled(again):
            assert torch.equal(logits(again, images), logits(CLASSIFIER.base(), images))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("lora", {}, ["fc1", "fc2", "fc3"]),
        ("adapter", {}, ["fc2", "fc3"]),
        ("head", {}, ["fc3"]),
        ("prompt", {}, ["fc1"]),
        ("prompt", {"variant": "deep"}, ["fc1", "fc2", "fc3"]),
    ],
)
def test_where_a_method_goes_by_itself(name: str, options: dict[str, str], expected: list[str]) -> None:
    base = CLASSIFIER.base()
    assert methods.targeted(base, name, **options) == expected
    assert methods.targeted(base, name, ["fc2"], **options) == ["fc2"]
    methods.apply(base, name, targets=["fc2"], **options)
    assert {p.split(".")[0] for p, t in base.named_parameters() if t.requires_grad} == {"fc2"}


def test_layers_that_are_not_quite_linear_are_left_alone() -> None:
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "fc": nn.Linear(8, 4)})
    assert methods.linear_layers(model) == {"fc": (8, 4)}


@every_case
def test_a_layer_under_two_names(case: Case) -> None:
    """It is one layer before, during and after: adapted once, under both names."""
    with seeded(0):
        layer = nn.Linear(100, 100)
        model: Any = nn.Sequential(nn.Linear(100, 100), layer, nn.ReLU(), nn.Sequential(layer))
        methods.apply(model, case.name, targets=["1"], **case.options)
    x = torch.rand(5, 100)
    with methods.disabled(model):
        assert model[1] is model[3][0] is layer
        base = logits(model, x)
    stir(model)
    tuned = logits(model, x)
    assert model[1] is model[3][0]
    with methods.disabled(model):
        assert torch.equal(logits(model, x), base)
    assert torch.equal(logits(model, x), tuned)
    assert not torch.equal(tuned, base)
    if not methods.METHODS[case.name].exemption("merge", case.complete):
        plain: Any = methods.merge(model)
        assert plain[1] is plain[3][0]
        torch.testing.assert_close(logits(plain, x), tuned)


@pytest.mark.filterwarnings("ignore::lorabench.methods.layers.LeftOutWarning")
@pytest.mark.parametrize("name", ["lora", "prompt", "adapter"])  # a weight made anew, a bias, neither
def test_the_fast_path_compiles(name: str) -> None:
    torch.compiler.reset()
    model = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True).eval()
    methods.apply(model, name)
    stir(model)
    x = torch.rand(3, 7, 16)
    compiled = cast("nn.Module", torch.compile(model, backend="eager", fullgraph=True))
    torch.testing.assert_close(logits(compiled, x), logits(model, x))


def test_without_a_bias() -> None:
    for case in CASES:
        inner = nn.Linear(100, 100, bias=False)
        model = nn.Sequential(nn.Linear(100, 100, bias=False), inner)
        x = torch.rand(5, 100)
        expected = logits(model, x)
        if case.name == "bitfit":
            with pytest.raises(UsageError, match="finds no bias"):
                methods.apply(model, case.name, **case.options)
            continue
        methods.apply(model, case.name, **case.options)
        torch.testing.assert_close(logits(model, x), expected, atol=0.01, rtol=0)
        if not methods.METHODS[case.name].exemption("merge", case.complete):
            torch.testing.assert_close(logits(methods.merge(stir(model)), x), logits(model, x), atol=1e-5, rtol=1e-5)


class TestRefusals:
    def test_an_unknown_method(self) -> None:
        with pytest.raises(UsageError, match="no method is called 'lore'; the nearest: lora"):
            methods.apply(CLASSIFIER.base(), "lore")

    def test_an_unknown_layer(self) -> None:
        with pytest.raises(UsageError, match="no linear layer 'fc4'; it has fc1, fc2, fc3"):
            methods.apply(CLASSIFIER.base(), "lora", targets=["fc1", "fc4"])

    def test_no_layer_to_go_to(self) -> None:
        with pytest.raises(UsageError, match="adapter finds no linear layer to adapt among 0"):
            methods.apply(nn.Sequential(nn.Linear(3, 3)), "adapter")

    @pytest.mark.parametrize("options", [{"k": 0}, {"r": 4}, {"init": "randn"}, {"alpha": -1.0}, {"k": "4"}])
    def test_an_option_that_cannot_be(self, options: dict[str, Any]) -> None:
        base = CLASSIFIER.base()
        with pytest.raises(UsageError, match=next(iter(options))) as error:
            methods.apply(base, "lora", **options)
        assert "pydantic" not in str(error.value)
        assert all(p.requires_grad for p in base.parameters())

    @pytest.mark.parametrize(
        ("word", "own"), [("r", "k"), ("rank", "k"), ("lora_alpha", "alpha"), ("target_modules", "targets")]
    )
    def test_an_unknown_option_is_told_the_known_ones(self, word: str, own: str) -> None:
        known = f"lora has no option '{word}'; here that is {own}; it has k, init, alpha, dropout"
        with pytest.raises(UsageError, match=known):
            methods.apply(CLASSIFIER.base(), "lora", **cast("Any", {word: 2}))

    @pytest.mark.parametrize(
        ("targets", "message"),
        [((), "finds no "), (["fc1", "fc2", "fc1"], "'fc1' is named twice"), ("fc1", "list of names")],
    )
    @pytest.mark.parametrize("name", ["lora", "full"])
    def test_targets_that_cannot_be(self, name: str, targets: Any, message: str) -> None:
        base = CLASSIFIER.base()
        with pytest.raises(UsageError, match=message):
            methods.apply(base, name, targets=targets)
        assert same_form(base, CLASSIFIER.base())

    def test_a_model_that_is_itself_a_linear_layer(self) -> None:
        """It cannot be replaced; it can be trained in place."""
        layer = nn.Linear(8, 4)
        with pytest.raises(UsageError, match="itself a linear layer"):
            methods.apply(layer, "lora")
        assert all(p.requires_grad for p in layer.parameters())
        methods.apply(layer, "bitfit")
        assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]

    def test_a_border_prompt_on_an_image_that_is_no_more_than_its_frame(self) -> None:
        with pytest.raises(UsageError, match="not 64 inputs"):
            methods.apply(nn.Sequential(nn.Linear(64, 3)), "prompt", variant="border")

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("lora", {"init": "orthogonal", "k": 3}, "k must be even, not 3"),
            ("gralora", {}, "share 5 outputs among 2 blocks"),
            ("gralora", {"k": 3}, "share 3 ranks among 2 blocks"),
            ("boft", {}, "10 inputs into runs of 8, which 2 factors need"),
            ("hra", {"k": 3}, "multiple of 2"),
            ("oft", {}, "10 inputs into blocks of 4"),
            ("prompt", {"variant": "border"}, "not 10 inputs"),
        ],
    )
    def test_sizes_that_do_not_fit(self, name: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            methods.apply(nn.Sequential(nn.Linear(10, 4 + (name == "gralora" and not options))), name, **options)


def test_a_rank_that_adds_nothing_is_warned_of() -> None:
    shapes = [(784, 256), (128, 10)]
    assert methods.warnings(shapes, {"k": 10}) == []
    assert "k = 11 is above 10" in methods.warnings(shapes, {"k": 11})[0]
    assert methods.warnings(shapes, {"k": 256}, "vera") == []
    assert methods.warnings(shapes, {}, "full") == []


def test_the_registry_needs_no_torch() -> None:
    script = (
        "import sys; from lorabench import methods\n"
        "for name in methods.METHODS:\n"
        "    options = methods.METHODS[name].defaults\n"
        "    assert methods.METHODS[name].trainable([(784, 256), (256, 128)], options) > 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_lora_plus_tells_the_loop_that_b_learns_faster() -> None:
    model = CLASSIFIER.tuned(Case("lora-plus", 6248, {"ratio": 8.0}))
    rates = {id(p): group["lr"] for group in methods.parameter_groups(model, 0.5) for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert found == {f"fc{i}.{part}": rate for i in (1, 2, 3) for part, rate in (("At", 0.5), ("B", 4.0))}


def adalora_layers(model: nn.Module) -> list[AdaLoRALayer]:
    modules: list[nn.Module] = list(model.modules())
    return [module for module in modules if isinstance(module, AdaLoRALayer)]


class TestAdaLoRA:
    """What AdaLoRA asks of the training loop: `penalty()` in the loss, `after_step()` after each step."""

    @staticmethod
    def trained(epochs: int, keep: float) -> list[AdaLoRALayer]:
        model = TRANSFORMER.tuned(Case("adalora", 0, {"keep": keep}))
        recipe = train.Recipe(epochs=epochs, batch_size=20, lr=0.01, warmup=0.2)
        train.fit(model, TRANSFORMER.images(), labels().flip(0), recipe, seed=0)
        return adalora_layers(model)

    def test_ranks_are_pruned_to_the_budget_and_p_and_q_become_orthogonal(self) -> None:
        layers = self.trained(12, 0.5)
        ranks = [int(layer.E.count_nonzero()) for layer in layers]
        assert sum(ranks) == 4 * len(layers) // 2
        assert len(set(ranks)) > 1, "the budget was cut evenly, not shared out"
        born = adalora_layers(TRANSFORMER.tuned(Case("adalora", 0)))
        for layer, before in zip(layers, born, strict=True):
            assert layer.penalty().item() < 0.5 * before.penalty().item()

    def test_the_budget_falls_from_all_to_the_target(self) -> None:
        with seeded(0):
            layers = [AdaLoRALayer(nn.Linear(9, 9), k=6) for _ in range(5)]
        allocator = Allocator(layers, keep=2 / 3)
        budgets = [allocator.budget(step, 100) for step in range(100)]
        assert budgets[:9] == [30] * 9
        assert budgets == sorted(budgets, reverse=True)
        assert budgets[39:] == [20] * 61

    def test_keeping_all_prunes_nothing(self) -> None:
        assert all(layer.E.count_nonzero() == 4 for layer in self.trained(2, 1.0))
