"""`lorabench.methods` on models that are not lorabench's own: right, or refused before anything changes."""

from __future__ import annotations

import contextlib
import copy
import importlib.resources
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from contract import CASES, CLASSIFIER, TRANSFORMER, Case, Subject, labels, logits, stir, tensors
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, prune

from lorabench import checkpoint, methods, threads, train
from lorabench.errors import InputError, UsageError
from lorabench.methods.applied import notes
from lorabench.methods.layers import LeftOutWarning
from lorabench.model import seeded

every_case = pytest.mark.parametrize("case", CASES, ids=str)
KINDS = [Case("lora", 0), Case("full", 0), Case("vera", 0, {"k": 4}), Case("lora-fa", 0), Case("pissa", 0)]
some_cases = pytest.mark.parametrize("case", [*KINDS, Case("adalora", 0), Case("bitfit", 0)], ids=str)


def normed() -> nn.Sequential:
    """(n, 16) to (n, 4), with running statistics."""
    with seeded(0):
        return nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


def inputs(n: int = 8) -> Tensor:
    return torch.rand(n, 16, generator=torch.Generator().manual_seed(1))


def applied(model: nn.Module, case: Case, seed: int = 1, **options: Any) -> nn.Module:
    with seeded(seed):
        methods.apply(model, case.name, **{**case.options, **options})
    return model


def descend(model: nn.Module, steps: int = 5, lr: float = 0.01) -> nn.Module:
    """Train as README says: any optimiser, any loop."""
    optimizer = torch.optim.Adam(methods.parameter_groups(model, lr))
    for step in range(steps):
        optimizer.zero_grad()
        loss = model.train()(inputs()).square().mean() + methods.penalty(model)
        loss.backward()
        optimizer.step()
        methods.after_step(model, step, steps)
    return model.eval()


@pytest.mark.parametrize(
    ("case", "subject"),
    [*((case, CLASSIFIER) for case in CASES), *((Case(name, 0), TRANSFORMER) for name in ("full", "adalora"))],
    ids=str,
)
def test_any_loop_trains_as_lorabench_does(case: Case, subject: Subject) -> None:
    """To the same bits: Adam over `parameter_groups`, `penalty` in the loss, `after_step` after each step."""
    recipe = train.Recipe(epochs=2, batch_size=20, lr=0.01, warmup=0.2)
    x, y = subject.images(), labels().flip(0)
    theirs, ours = subject.tuned(case), subject.tuned(case)
    train.fit(ours, x, y, recipe, seed=0, reuse=False)
    groups = methods.parameter_groups(theirs, 1.0)
    scales = [group["lr"] for group in groups]
    optimizer = torch.optim.Adam(groups, betas=train.BETAS, fused=True)
    draw, step = torch.Generator().manual_seed(0), 0
    theirs.train()
    with threads.using(1):
        for rows in (rows for _ in range(2) for rows in torch.split(torch.randperm(len(x), generator=draw), 20)):
            for group, scale in zip(optimizer.param_groups, scales, strict=True):
                group["lr"] = 0.01 * train.triangle(step, 10, 0.2) * scale
            optimizer.zero_grad()
            (F.cross_entropy(theirs(x[rows]), y[rows]) + methods.penalty(theirs)).backward()
            optimizer.step()
            methods.after_step(theirs, step, 10)
            step += 1
    assert all(torch.equal(t, ours.state_dict()[name]) for name, t in theirs.state_dict().items())


class TestDisabled:
    @some_cases
    def test_it_nests(self, case: Case) -> None:
        model, x = stir(CLASSIFIER.tuned(case)), CLASSIFIER.images()
        tuned, base = logits(model, x), logits(CLASSIFIER.base(), x)
        with methods.disabled(model):
            with contextlib.suppress(ZeroDivisionError), methods.disabled(model):
                assert torch.equal(logits(model, x), base)
                raise ZeroDivisionError
            assert torch.equal(logits(model, x), base)
        assert torch.equal(logits(model, x), tuned)

    @some_cases
    def test_running_statistics_are_of_the_base(self, case: Case) -> None:
        model, x = normed(), inputs()
        base = logits(model.eval(), x)
        descend(applied(model, case))
        tuned = logits(model, x)
        for _ in range(2):
            with methods.disabled(model):
                assert torch.equal(logits(model, x), base)
                logits(model.train(), x)  # moves the statistics again, of the base
                model.eval()
        assert torch.equal(logits(model, x), tuned)

    @some_cases
    def test_a_graph_from_before_goes_on(self, case: Case) -> None:
        """As where the base's logits are the reference of a loss."""
        model, x = applied(normed(), case), inputs()
        loss = stir(model).eval()(x).square().sum()
        with methods.disabled(model):
            logits(model, x)
        loss.backward()

    def test_a_tied_weight_is_kept_once(self) -> None:
        embed, head = nn.Embedding(9, 16), nn.Linear(16, 9, bias=False)
        head.weight = embed.weight
        model = nn.Sequential(embed, nn.Linear(16, 16), head)
        x = torch.arange(9)
        base = logits(model, x)
        methods.apply(model, "full")
        tuned = logits(stir(model), x)
        with methods.disabled(model):
            assert torch.equal(logits(model, x), base)
        assert torch.equal(logits(model, x), tuned)
        assert methods.count(model).trainable == 9 * 16 + 16 * 16 + 16

    def test_what_was_tied_and_is_torn_apart(self, tmp_path: Path) -> None:
        """`load_state_dict(assign=True)` makes two parameters of one: both are the base again, and are saved."""

        def tied() -> Any:
            with seeded(0):
                embed, head = nn.Embedding(9, 16), nn.Linear(16, 9, bias=False)
                head.weight = embed.weight
                return nn.Sequential(embed, nn.Linear(16, 16), head)

        model, x = tied(), torch.arange(9)
        base = logits(model, x)
        methods.apply(model, "full")
        methods.save(stir(model), tmp_path / "tied")
        assert set(checkpoint.read(tmp_path / "tied")[1]) == {"0.weight", "1.bias", "1.weight"}
        model.load_state_dict({name: t.clone() for name, t in model.state_dict().items()}, assign=True)
        assert model[0].weight is not model[2].weight
        tuned = logits(model, x)
        with methods.disabled(model):
            assert torch.equal(logits(model, x), base)
        assert torch.equal(logits(model, x), tuned)
        methods.save(model, tmp_path / "torn")
        again = tied()
        methods.load(again, tmp_path / "tied")
        methods.load(again, tmp_path / "torn")  # both have the same values
        assert torch.equal(logits(again, x), tuned)
        model[2].weight.data.add_(1)
        methods.save(model, tmp_path / "other")
        with pytest.raises(InputError, match="weight is tied to another here"):
            methods.load(again, tmp_path / "other")
        assert torch.equal(logits(again, x), tuned)
        methods.remove(model)
        assert torch.equal(logits(model, x), base)

    @pytest.mark.parametrize("name", ["lora", "full"])
    def test_a_part_of_the_model_is_refused(self, name: str) -> None:
        model = nn.Sequential(normed(), nn.Linear(4, 4))
        methods.apply(model, name)
        for use in (methods.disabled(model[0]).__enter__, lambda: methods.merge(model[0])):
            with pytest.raises(UsageError, match="a part of"):
                use()

    def test_what_would_not_come_back_is_refused_inside(self, tmp_path: Path) -> None:
        model = applied(normed(), Case("lora", 0))
        with methods.disabled(model):
            for use in (
                lambda: methods.merge(model),
                lambda: methods.remove(model),
                lambda: methods.save(model, tmp_path / "a"),
                lambda: methods.use(model, "lora"),
            ):
                with pytest.raises(UsageError, match="disabled here"):
                    use()


class TestBefore:
    @some_cases
    def test_an_earlier_optimiser_does_not_move_the_base(self, case: Case) -> None:
        model = normed()
        early = torch.optim.SGD(model.parameters(), lr=1.0)
        model(inputs()).sum().backward()
        values = {name: t.clone() for name, t in model.state_dict().items()}
        applied(model, case)
        early.step()
        with methods.disabled(model):
            assert all(torch.equal(t, values[name]) for name, t in model.state_dict().items())

    @some_cases
    def test_flags_and_mode_are_as_before(self, case: Case) -> None:
        for merging in (True, False):
            model: Any = normed()
            model[0].weight.requires_grad_(False)
            applied(model, case)
            with methods.disabled(model):
                model.eval()
            assert not any(module.training for module in model.modules())
            plain = methods.merge(model) if merging else model
            methods.remove(model)
            assert [name for name, p in plain.named_parameters() if not p.requires_grad] == ["0.weight"]
            assert not any(module.training for module in plain.modules())
            assert list(plain.state_dict()) == list(normed().state_dict())
            methods.apply(plain, "lora")


class TestState:
    """What a state dict holds is enough."""

    @every_case
    def test_it_is_loaded_into_an_apply_on_other_weights(self, case: Case) -> None:
        model, x = descendant(case), CLASSIFIER.images()
        for assign in (False, True):
            other = CLASSIFIER.base()
            stir_all(other)
            applied(other, case, seed=9)
            other.load_state_dict(copy.deepcopy(model.state_dict()), assign=assign)
            assert torch.equal(logits(other, x), logits(model, x))
            continued = [train_once(m) for m in (copy.deepcopy(model), other)]
            assert all(torch.equal(t, continued[1][name]) for name, t in continued[0].items())

    @every_case
    def test_it_survives_the_device_meta(self, case: Case) -> None:
        model, x = descendant(case), CLASSIFIER.images()
        other = copy.deepcopy(model).to("meta").to_empty(device="cpu")
        other.load_state_dict(model.state_dict())
        assert torch.equal(logits(other, x), logits(model, x))
        with methods.disabled(other):
            assert torch.equal(logits(other, x), logits(CLASSIFIER.base(), x))

    @pytest.mark.parametrize("name", ["pissa", "olora"])
    def test_parts_of_weights_without_values_are_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match="has none"):
            methods.apply(normed().to("meta"), name)

    def test_a_base_without_values_is_refused(self) -> None:
        model = normed().to("meta")
        methods.apply(model, "full")
        model.to_empty(device="cpu")
        with pytest.raises(UsageError, match="there is no base"), methods.disabled(model):
            pass

    @every_case
    def test_tensors_are_contiguous(self, case: Case, tmp_path: Path) -> None:
        model = CLASSIFIER.tuned(case)
        trained = [p for p in model.parameters() if p.requires_grad]
        assert parameters_to_vector(trained).numel() == methods.count(model).trainable
        save_file(model.state_dict(), tmp_path / "model.safetensors")
        optimizer = torch.optim.LBFGS(trained, max_iter=2)

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(model(CLASSIFIER.images()), labels().flip(0))
            value.backward()
            return value

        assert optimizer.step(loss).isfinite()


def stir_all(model: nn.Module) -> None:
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))


def descendant(case: Case) -> nn.Module:
    model = CLASSIFIER.tuned(case)
    recipe = train.Recipe(epochs=1, batch_size=20, lr=0.01, warmup=0.2)
    train.fit(model, CLASSIFIER.images(), labels().flip(0), recipe, seed=0)
    return model


def train_once(model: nn.Module) -> dict[str, Tensor]:
    optimizer = torch.optim.SGD(methods.parameter_groups(model, 0.01))
    (F.cross_entropy(model(CLASSIFIER.images()), labels()) + methods.penalty(model)).backward()
    optimizer.step()
    methods.after_step(model, 0, 4)
    return model.state_dict()


class TestHalfPrecision:
    @every_case
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_small_steps_move_what_is_added_and_merging_rounds_once(self, case: Case, dtype: torch.dtype) -> None:
        model: Any = stir(CLASSIFIER.tuned(case, dtype))
        if methods.METHODS[case.name].in_place:
            return
        before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for name in before:
                model.get_parameter(name).add_(1e-6)
        assert all((model.get_parameter(name) != t).float().mean() > 0.9 for name, t in before.items())
        if methods.METHODS[case.name].exemption("merge", case.complete):
            return
        plain = methods.merge(model)
        for name in methods.targeted(CLASSIFIER.base(), case.name, **case.options):
            wrapper = model.get_submodule(name)
            assert torch.equal(plain.get_parameter(f"{name}.weight"), wrapper.merged_weight().to(dtype))
            assert wrapper.merged_weight().dtype == torch.float32 or case.name == "prompt"

    @every_case
    def test_it_can_be_asked_for(self, case: Case, tmp_path: Path) -> None:
        model = stir(CLASSIFIER.tuned(case, torch.bfloat16).bfloat16())
        assert all(t.dtype == torch.bfloat16 for t in tensors(model).values() if t.is_floating_point())
        images = CLASSIFIER.images(4, torch.bfloat16)
        expected = logits(model, images)
        assert expected.dtype == torch.bfloat16
        methods.save(model, tmp_path / "a")
        again = CLASSIFIER.base(torch.bfloat16)
        methods.load(again, tmp_path / "a")
        assert torch.equal(logits(again, images), expected)

    @some_cases
    def test_what_stands_aside_follows_a_cast(self, case: Case, tmp_path: Path) -> None:
        model, x = descend(applied(normed(), case)), inputs()
        methods.save(model, tmp_path / "a")
        expected, again = logits(model, x), loaded(tmp_path / "a")
        methods.use(again, None)
        again.double()
        methods.use(again, "a")
        torch.testing.assert_close(logits(again, x.double()).float(), expected, rtol=1e-4, atol=1e-5)


class TestLayersThatAreMore:
    @pytest.mark.parametrize("name", ["lora", "ia3"])
    def test_a_hook_that_came_later_is_seen_when_merging(self, name: str) -> None:
        model: Any = stir(applied(normed(), Case(name, 0)))
        model[0].register_forward_hook(lambda module, args, output: 2 * output)  # pyright: ignore
        methods.merge(model)  # on the wrapper it stays
        model[0].inner.register_forward_hook(lambda module, args, output: 2 * output + 1)  # pyright: ignore
        with pytest.raises(UsageError, match="0 merged would compute something else"):
            methods.merge(model)

    def test_a_pruned_layer_is_refused_when_named(self) -> None:
        model: Any = normed()
        cast("Any", prune).random_unstructured(model[0], "weight", 0.5)
        with pytest.raises(UsageError, match="made anew"):
            methods.apply(model, "lora", targets=["0"])
        assert methods.targeted(model, "lora") == ["3"]
        methods.apply(model, "lora", targets=["3"])  # without a warning: it was asked for
        methods.remove(model)
        with pytest.warns(LeftOutWarning, match="0 is left out"):
            methods.apply(model, "lora")

    def test_a_shared_weight_is_refused_when_named(self) -> None:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        model[2].weight = model[0].weight
        assert methods.targeted(model, "lora") == ["1"]
        with pytest.raises(UsageError, match="'2': 0 has its weight too"):
            methods.apply(model, "lora", targets=["2"])


def test_a_row_of_zeros_under_dora() -> None:
    model: Any = normed()
    model[0].weight.data[3] = 0
    descend(applied(model, Case("dora", 0)))
    assert all(t.isfinite().all() for t in model.state_dict().values() if t.is_floating_point())
    assert not methods.merge(model).get_parameter("0.weight")[3].any()


def test_adalora_ends_with_the_pattern_that_its_last_phase_began_with() -> None:
    model: Any = applied(normed(), Case("adalora", 0, {"keep": 0.5}))
    optimizer = torch.optim.Adam(methods.parameter_groups(model, 0.01))
    patterns: list[list[bool]] = []
    for step in range(40):
        optimizer.zero_grad()
        target = torch.sin((1 + step) * inputs()[:, :4])  # another one in each step
        ((model(inputs()) - target).square().mean() + methods.penalty(model)).backward()
        optimizer.step()
        methods.after_step(model, step, 40)
        patterns.append([bool(e) for layer in (model[0], model[3]) for e in layer.E != 0])
    assert all(pattern == patterns[15] for pattern in patterns[15:])
    assert sum(patterns[15]) == 4


def smallest(name: str, layer: Any) -> bool:
    return name.startswith("fc") and layer.out_features == 10


class TestTargets:
    @pytest.mark.parametrize(
        ("targets", "expected"),
        [
            (["fc[12]"], ["fc1", "fc2"]),
            (["*"], ["fc1", "fc2", "fc3"]),
            (["fc3", "fc*"], ["fc3", "fc1", "fc2"]),
            (smallest, ["fc3"]),
        ],
    )
    def test_patterns_and_predicates(self, targets: Any, expected: list[str]) -> None:
        assert methods.targeted(CLASSIFIER.base(), "lora", targets) == expected

    @pytest.mark.parametrize(
        ("case", "option", "values", "counts"),
        [
            (Case("lora", 0), "k", [8, 2, 4], [8 * 1040, 2 * 384, 4 * 138]),
            (Case("lora", 0, {"init": "kaiming", "k": 1}), "alpha", [8.0, 2.0, None], [1040, 384, 138]),
            (Case("adapter", 0), "bottleneck", [2, 3, 8], [2 * 1569 + 784, 3 * 513 + 256, 8 * 257 + 128]),
            (Case("vera", 0), "k", [2, 2, 256], [258, 130, 266]),
            (Case("adalora", 0), "k", [8, 2, 4], [8 * 1041, 2 * 385, 4 * 139]),
            (Case("ia3", 0), "place", ["in", "out", "out"], [784, 128, 10]),
        ],
        ids=str,
    )
    def test_layers_with_options_of_their_own(
        self, case: Case, option: str, values: list[Any], counts: list[int], tmp_path: Path
    ) -> None:
        """The first key that matches decides; what is not said is of all; a file brings it back."""
        default = {**case.complete, option: values[2]}
        targets = {"fc1": {option: values[0]}, "fc[12]": {option: values[1]}, "fc*": {}}
        model = CLASSIFIER.base()
        with seeded(1):
            methods.apply(model, case.name, targets=targets, **default)
        found = [methods.count(model.get_submodule(name)).trainable for name in ("fc1", "fc2", "fc3")]
        assert found == counts
        methods.save(stir(model), tmp_path / "a")
        again, x = CLASSIFIER.base(), CLASSIFIER.images()
        methods.load(again, tmp_path / "a")
        assert torch.equal(logits(again, x), logits(model, x))
        if case.name == "lora":
            assert [model.get_submodule(name).scale for name in ("fc1", "fc2", "fc3")] == (
                [1, 1, 1] if option == "k" else [8, 2, 1]
            )

    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            ({"fc1": {"r": 2}}, "no option 'r'; here that is k"),
            ({"fc1": {"k": 0}}, "k = 0"),
            ({"fc1": 8}, "'fc1' has options of its own as"),
            ({"fc9": {}}, "no linear layer 'fc9'"),
            ({"fc*": {}, "fc1": {}}, "'fc1' is named twice"),
        ],
        ids=str,
    )
    def test_options_that_a_layer_cannot_have(self, targets: Any, message: str) -> None:
        model = CLASSIFIER.base()
        with pytest.raises(UsageError, match=message):
            methods.apply(model, "lora", targets=targets)
        assert methods.count(model).trainable == 235_146

    @some_cases
    def test_what_is_trained_beside_a_method(self, case: Case, tmp_path: Path) -> None:
        model, x = normed(), inputs()
        base = logits(model.eval(), x)
        applied(model, case, targets=["0"], also_train=["3"])
        alone = methods.count(applied(normed(), case, targets=["0"])).trainable
        assert methods.count(model).trainable == alone + 16 * 4 + 4
        tuned = logits(descend(model), x)
        methods.save(model, tmp_path / "a")
        plain = methods.merge(model)
        torch.testing.assert_close(logits(plain, x), tuned, rtol=1e-5, atol=1e-6)
        with methods.disabled(model):
            assert torch.equal(logits(model, x), base)
            assert torch.equal(logits(loaded(tmp_path / "a"), x), tuned)

    @pytest.mark.parametrize(
        ("beside", "message"),
        [
            (["0"], "which the method adapts"),
            (["2"], "no parameters"),
            (["4"], "no module '4'"),
            ("3", "list of names"),
        ],
    )
    def test_what_cannot_be_trained_beside_it(self, beside: Any, message: str) -> None:
        model = normed()
        with pytest.raises(UsageError, match=message):
            methods.apply(model, "lora", targets=["0"], also_train=beside)
        assert all(p.requires_grad for p in model.parameters())


class TestDropout:
    def test_what_is_computed_once_changes_no_bit(self) -> None:
        """Nor does it drop anything outside training: not in `eval`, not merged."""
        states: list[dict[str, Tensor]] = []
        for reuse, dropout in ((True, 0.5), (False, 0.5), (True, 0.0)):
            model = CLASSIFIER.tuned(Case("lora", 0, {"dropout": dropout}))
            with seeded(7):
                recipe = train.Recipe(epochs=2, batch_size=20, lr=0.01, warmup=0.2)
                train.fit(model, CLASSIFIER.images(), labels().flip(0), recipe, seed=0, reuse=reuse)
            states.append(model.state_dict())
            plain = methods.merge(model.train())
            torch.testing.assert_close(logits(model.eval(), CLASSIFIER.images()), logits(plain, CLASSIFIER.images()))
        assert all(torch.equal(t, states[1][name]) for name, t in states[0].items())
        assert not torch.equal(states[0]["fc1.At"], states[2]["fc1.At"])

    def test_ids_are_not_dropped(self) -> None:
        def model() -> nn.Module:
            return nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4))

        with pytest.raises(UsageError, match="give that layer dropout 0"):
            methods.apply(model(), "lora", targets=["0", "1"], dropout=0.5)
        methods.apply(model(), "lora", targets={"0": {"dropout": 0.0}, "1": {}}, dropout=0.5)


def loaded(path: Path) -> nn.Module:
    model = normed().eval()
    methods.load(model, path)
    return model


class TestAdapters:
    @every_case
    def test_a_file_is_enough(self, case: Case, tmp_path: Path) -> None:
        model, x = descendant(case), CLASSIFIER.images()
        methods.save(model, tmp_path / "a.safetensors")
        again = CLASSIFIER.base()
        state = torch.get_rng_state()
        methods.load(again, tmp_path / "a.safetensors")
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(logits(again, x), logits(model, x))
        assert [n for n, p in again.named_parameters() if p.requires_grad] == [
            n for n, p in model.named_parameters() if p.requires_grad
        ]
        with methods.disabled(again):
            assert torch.equal(logits(again, x), logits(CLASSIFIER.base(), x))

    def test_only_the_adapter_is_saved(self, tmp_path: Path) -> None:
        model = descend(applied(normed(), Case("lora", 0)))
        methods.save(model, tmp_path / "a")
        header, found = checkpoint.read(tmp_path / "a")
        assert set(found) == {f"{i}.{p}" for i in (0, 3) for p in ("At", "B")} | {
            f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
        }
        assert header["method"] == "lora"
        methods.save(applied(normed(), Case("lora", 0)), tmp_path / "b")
        assert set(checkpoint.read(tmp_path / "b")[1]) == {f"{i}.{p}" for i in (0, 3) for p in ("At", "B")}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("other", "other values in 0.weight$"),
            ("more", "has besides 4.bias and 1 more"),
            ("fewer", "lacks 3.bias and 1 more"),
        ],
    )
    def test_another_base_is_refused(self, change: str, message: str, tmp_path: Path) -> None:
        methods.save(applied(normed(), Case("lora", 0)), tmp_path / "a")
        other: Any = normed()
        if change == "other":
            other[0].weight.data.add_(1)
        elif change == "more":
            other.append(nn.Linear(4, 4))
        else:
            del other[3]
        names = list(other.state_dict())
        with pytest.raises(InputError, match=message):
            methods.load(other, tmp_path / "a")
        assert list(other.state_dict()) == names

    @some_cases
    def test_several_on_one_base_are_each_as_if_alone(self, case: Case, tmp_path: Path) -> None:
        alone: dict[str, Tensor] = {}
        x = inputs()
        for name, other in (("a", case), ("b", Case("lora", 0)), ("c", Case("full", 0))):
            tuned = descend(applied(normed(), other, seed=len(alone)), steps=3 + len(alone))
            methods.save(tuned, tmp_path / name)
            alone[name] = logits(tuned, x)
        model, base = normed().eval(), logits(normed().eval(), x)
        for name in alone:
            methods.load(model, tmp_path / name)
        for name in ("a", "c", "b", "a", "b", None, "c"):
            methods.use(model, name)
            assert torch.equal(logits(model, x), base if name is None else alone[name])
            if name:
                single = loaded(tmp_path / name)
                assert methods.count(model) == methods.count(single)
                with methods.disabled(copy.deepcopy(model)) as _, methods.disabled(model):
                    assert torch.equal(logits(model, x), base)
        with pytest.raises(UsageError, match="no adapter 'd'; it has a, b, c"):
            methods.use(model, "d")
        with pytest.raises(UsageError, match="'a' already"):
            methods.load(model, tmp_path / "a")
        methods.remove(model)
        assert torch.equal(logits(model, x), base)
        assert all(p.requires_grad for p in model.parameters())

    @every_case
    def test_several_are_mixed(self, case: Case, tmp_path: Path) -> None:
        """The base and the weighted sum of what each changes, in float64; or refused, and nothing is changed."""
        base, other = CLASSIFIER.base(), Case("lora", 0, {"k": 2})
        tuned = {"a": stir(CLASSIFIER.tuned(case)), "b": stir(CLASSIFIER.tuned(other, seed=2))}
        for name, one in tuned.items():
            methods.save(one, tmp_path / name)
            methods.load(base, tmp_path / name)
        x = CLASSIFIER.images()
        alone = {name: logits(one, x) for name, one in tuned.items()}
        entry = methods.METHODS[case.name]
        if any(entry.exemption(clause, case.complete) for clause in ("merge", "mix")):
            with pytest.raises(UsageError, match=f"'a', {case.name}, cannot be mixed: "):
                methods.use(base, "a", "b")
        else:
            methods.use(base, {"a": 0.5, "b": -2})
            plain, parts = CLASSIFIER.base().state_dict(), {n: methods.merge(m).state_dict() for n, m in tuned.items()}
            for name, weight in base.state_dict().items():
                before, a, b = (state[name].double() for state in (plain, parts["a"], parts["b"]))
                expected = before + 0.5 * (a - before) - 2 * (b - before)
                assert (weight - expected).abs().max() <= 4e-7 * torch.stack((before, a, b)).abs().max()
            mixed = logits(base, x)
            assert methods.count(base).trainable == 0
            assert torch.equal(logits(methods.merge(base), x), mixed)
            with methods.disabled(base):
                assert torch.equal(logits(base, x), logits(CLASSIFIER.base(), x))
            assert torch.equal(logits(base, x), mixed)
            with pytest.raises(UsageError, match="a mixture is not saved"):
                methods.save(base, tmp_path / "c")
            methods.use(base, "b", "a")
            assert not torch.equal(logits(base, x), mixed)
            with pytest.raises(UsageError, match=r"no adapter 'c'; it has a, b$"):
                methods.use(base, "a", "c")
            methods.load(base, tmp_path / "a", name="again")
            assert torch.equal(logits(base, x), alone["a"])
        for name in ("b", "a"):
            methods.use(base, name)
            assert torch.equal(logits(base, x), alone[name])
            assert methods.count(base) == methods.count(tuned[name])
            assert all(adapter.method != "a mixture" for adapter in notes(base)[1].values())
        methods.remove(base)
        assert torch.equal(logits(base, x), logits(CLASSIFIER.base(), x))

    def test_what_does_not_add_up(self, tmp_path: Path) -> None:
        for name in ("full", "prompt"):
            base = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16)) if name == "prompt" else normed()
            tuned = descend(applied(copy.deepcopy(base), Case(name, 0)))
            methods.save(tuned, tmp_path / name)
            methods.load(base.eval(), tmp_path / name)
            reason = {"full": "training moved running_mean", "prompt": "adds a bias to a layer that has none"}[name]
            with pytest.raises(UsageError, match=reason):
                methods.use(base, {name: 0.5})
            assert torch.equal(logits(base, inputs()), logits(tuned, inputs()))

    def test_a_mixture_in_float64(self, tmp_path: Path) -> None:
        base: Any = normed().double()
        for seed, name in enumerate("ab"):
            other = applied(copy.deepcopy(normed().double()), Case("lora", 0, {"alpha": 3.0}), seed, targets=["0"])
            methods.save(stir(other), tmp_path / name)
            methods.load(base, tmp_path / name)
        layers: list[Any] = []
        for name in "ab":
            methods.use(base, name)
            layers.append(base[0])
        changes = [0.75 * (layer.A @ layer.B).t() for layer in layers]
        methods.use(base, "a", "b")
        expected = normed().double().get_parameter("0.weight") + changes[0] + changes[1]
        torch.testing.assert_close(base[0].weight, expected, rtol=1e-14, atol=1e-15, check_stride=False)

    def test_a_load_that_fails_leaves_all_as_it_was(self, tmp_path: Path) -> None:
        model, x = descend(applied(normed(), Case("full", 0))), inputs()
        methods.save(model, tmp_path / "a")
        header, found = checkpoint.read(tmp_path / "a")
        tuned = logits(model, x)
        for name, t in (
            ("0.weight", torch.zeros(2)),
            ("0.weight", torch.full((16, 16), torch.nan)),
            ("9.x", torch.ones(1)),
        ):
            (tmp_path / "b").write_bytes(checkpoint.encode({**found, name: t}, header))
            with pytest.raises(InputError, match=name):
                methods.load(model, tmp_path / "b")
            assert torch.equal(logits(model, x), tuned)
            assert methods.count(model).trainable == methods.count(model).total

    def test_a_frozen_part_that_comes_out_otherwise_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        methods.save(applied(normed(), Case("pissa", 0)), tmp_path / "a")
        with monkeypatch.context() as patch:
            patch.setattr("lorabench.methods.factors.parts_of", lambda inner: 1.001 * inner.weight.detach().double())  # pyright: ignore
            with pytest.raises(InputError, match="comes out otherwise"):
                loaded(tmp_path / "a")


def test_half_precision_is_hashed() -> None:
    halves = [{"a": torch.tensor(value, dtype=torch.bfloat16)} for value in (1.0, 2.0, 1.0)]
    hashes = [checkpoint.tensor_hash(t) for t in halves]
    assert hashes[0] == hashes[2] != hashes[1]


def test_the_package_says_that_it_is_typed() -> None:
    assert (importlib.resources.files("lorabench") / "py.typed").is_file()


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
@pytest.mark.parametrize("name", methods.METHODS)
def test_a_model_with_any_method_can_be_traced(name: str) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    methods.apply(net, name)
    x = torch.randn(2, 8)
    traced = cast("Any", torch.jit).trace(net, x)
    assert torch.allclose(traced(x), net(x), atol=1e-6)
