"""Runs taken elsewhere and brought back: merged weights, PEFT folders (opened by the real PEFT), F-MNIST as files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from command_line import CommandLine
from safetensors.torch import load, save
from torch import Tensor, nn

from lorabench import checkpoint, config, data, evaluate, exchange, methods
from lorabench.analysis.settings import collect
from lorabench.data.ways import import_datasets
from lorabench.errors import ConfigError, InputError, LorabenchError, RunFailedError, UsageError
from lorabench.exchange import peft_format
from lorabench.exchange.base import import_base
from lorabench.exchange.merged import LIMIT
from lorabench.exchange.peft import import_adapter
from lorabench.model import SimpleMnistClassifier
from lorabench.report import tables
from lorabench.runner import make, measure, stages
from lorabench.runner.measure import apply_method, load_model
from lorabench.runner.session import Session
from lorabench.runs import Run, Store

ALL = ("fc1", "fc2", "fc3")
KINDS: dict[str, list[str]] = {
    "lora-alpha": [
        "finetune.method=lora",
        "finetune.alpha=2.5",
        "finetune.init=kaiming",
        "finetune.targets=[fc3, fc1]",
    ],
    "rslora": ["finetune.k=3"],
    "dora": [],
    "pissa": [],
    **{method: [] for method in ("vera", "adalora", "loha", "hira", "oft", "miss")},
    "ia3": ["finetune.targets=[fc2]"],
    "ia3-in": ["finetune.method=ia3", "finetune.place=in"],
    "lokr": [],
    "lokr-whole": ["finetune.method=lokr", "finetune.k=16"],
}
"""Ways to PEFT, each its own: for each, what is set besides the method."""


class FewTestImages(Session):
    """A session in which MNIST has a tenth of its test images."""

    def mnist(self, settings: config.Config) -> data.Mnist:
        whole = super().mnist(settings)
        return dataclasses.replace(whole, test_images=whole.test_images[:1000], test_labels=whole.test_labels[:1000])


class Shop:
    """A base, trained for an epoch, and runs on it, whose weights are stirred instead of trained."""

    def __init__(self, store: Store, data_dir: Path) -> None:
        self.session = FewTestImages(store, data_dir, torch.device("cpu"), torch.get_num_threads(), lambda _: None)
        self.store = store
        self.images = torch.from_numpy(self.session.mnist(config.Config()).test_images)

    def run(self, kind: str, *sets: str) -> Run:
        """The run of a stage or method or of one of `KINDS`, made when it is first asked for."""
        named = kind in ("pretrain", "fmnist") or any("finetune.method=" in text for text in KINDS.get(kind, ()))
        flags: dict[str, Any] = {} if named else {"finetune.method": kind}
        fast = ["pretrain.epochs=1", "pretrain.batch_size=512"]
        chosen = config.load([], [*fast, *KINDS.get(kind, []), *sets], flags).config
        todo = stages.chain(chosen, "finetune")
        made = [make.perform(stage, session=self.session)[0] for stage in todo[:2]]
        if kind in ("fmnist", "pretrain"):
            return made[kind == "pretrain"]
        born = checkpoint.trained(apply_method(load_model(made[1], self.store), todo[2].config.finetune))
        torch.manual_seed(0)
        far = 0.3 if kind in ("vera", "adalora", "hira", "oft") else 0.05
        stirred = {name: tensor + far * torch.randn_like(tensor) for name, tensor in born.items()}
        return make.perform(todo[2], session=self.session, tensors=stirred)[0]

    def base(self) -> nn.Module:
        model = SimpleMnistClassifier()
        path = self.store.path(self.run("pretrain").id) / "model.safetensors"
        model.load_state_dict(load(path.read_bytes()))
        return model

    def logits(self, model: nn.Module) -> Tensor:
        return evaluate.predict(model, self.images)

    def run_logits(self, run: Run) -> Tensor:
        return self.logits(load_model(run, self.store))


@pytest.fixture(scope="session")
def peft() -> Any:
    import_datasets()  # without it PEFT, which imports torchvision, cannot be imported where that does not load
    return import_module("peft")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Shop:
    return Shop(Store(tmp_path_factory.mktemp("shop") / "runs"), data_dir)


@pytest.fixture(scope="session")
def exported(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT folder of a LoRA run; read only."""
    folder = tmp_path_factory.mktemp("exported") / "peft"
    exchange.export([shop.run("lora")], "peft", folder, shop.session)
    return folder


def same(old: Tensor, new: Tensor) -> None:
    assert (old - new).abs().max() <= 1e-4
    assert torch.equal(old.argmax(1), new.argmax(1))


def moved(shop: Shop, run: Run) -> None:
    """The run is no copy of its base, so that an export that forgot the adapter would be seen."""
    assert (shop.run_logits(run) - shop.logits(shop.base())).abs().max() > 0.1


def with_peft(peft: Any, shop: Shop, folder: Path) -> nn.Module:
    return peft.PeftModel.from_pretrained(cast("Any", shop.base()), str(folder))


@pytest.mark.parametrize("method", ["lora", "prompt", "adapter"])
def test_merged_equals_unmerged(shop: Shop, tmp_path: Path, method: str) -> None:
    run = shop.run(method)
    out = tmp_path / "out"
    if exempt := methods.METHODS[method].exemption("merge", run.settings):
        with pytest.raises(UsageError, match="does not merge") as stop:
            exchange.export([run], "merged", out, shop.session)
        assert exempt.reason in str(stop.value)
        assert list(tmp_path.iterdir()) == []
        return
    moved(shop, run)
    done = exchange.export([run], "merged", out, shop.session)
    plain = SimpleMnistClassifier()
    plain.load_state_dict(load((out / "model.safetensors").read_bytes()))
    assert sum(p.numel() for p in plain.parameters()) == 235_146
    same(shop.run_logits(run), shop.logits(plain))
    assert [(found.name, found.images, found.flips) for found in done.compared] == [
        ("mnist", 1_000, 0),
        ("fmnist", 1_000, 0),
    ]
    assert all(found.logit_change is not None and found.logit_change <= LIMIT for found in done.compared)
    (file,) = done.files
    content = (out / "model.safetensors").read_bytes()
    assert file == exchange.File("model.safetensors", len(content), hashlib.sha256(content).hexdigest())


def test_a_reprogrammed_prompt_does_not_merge(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clamped"):
        exchange.export([shop.run("prompt", "finetune.variant=reprogram")], "merged", tmp_path / "out", shop.session)


def test_a_base_is_exported_as_itself(shop: Shop, tmp_path: Path) -> None:
    base = shop.run("pretrain")
    done = exchange.export([base], "merged", tmp_path / "out", shop.session)
    assert exchange.export([base], "merged", tmp_path / "twin", shop.session).files == done.files
    assert [found.logit_change for found in done.compared] == [0, 0]
    exported = load((tmp_path / "out" / "model.safetensors").read_bytes())
    assert all(torch.equal(tensor, exported[name]) for name, tensor in shop.base().state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_what_is_exported_and_it_comes_back(peft: Any, shop: Shop, tmp_path: Path, kind: str) -> None:
    run = shop.run(kind)
    moved(shop, run)
    out = tmp_path / "out"
    done = exchange.export([run], "peft", out, shop.session)
    assert {file.name for file in done.files} == {"adapter_config.json", "adapter_model.safetensors"}
    if run.method == "vera":  # PEFT before 0.21 draws the frozen half of its own type again
        assert json.loads((out / "adapter_config.json").read_text())["peft_type"] == "LORA"
    wrapped = with_peft(peft, shop, out)
    adapted = {name.split(".")[2] for name, _ in wrapped.named_parameters() if "base_layer" not in name} & {*ALL}
    modules = dict(cast("Any", wrapped.named_modules()))
    adapted &= {name.split(".")[2] for name in modules if name.endswith("base_layer")}
    assert adapted == set(run.settings["targets"] or ALL)
    same(shop.run_logits(run), shop.logits(wrapped))

    back, cached = import_adapter(out, shop.run("pretrain"), shop.session)
    same(shop.run_logits(run), shop.run_logits(back))
    assert (back.status, back.stage, cached) == ("done", "finetune", False)
    assert back.method == ("lora" if run.method in ("pissa", "vera") else run.method)
    assert back.parents == run.parents
    assert {name: metrics.confusion for name, metrics in back.metrics.items()} == {
        name: metrics.confusion for name, metrics in run.metrics.items()
    }
    assert {name: metrics.correct for name, metrics in back.before.items()} == {
        name: metrics.correct for name, metrics in run.before.items()
    }
    old, new = shop.store.predictions(run), shop.store.predictions(back)
    assert all(np.array_equal(old[name], new[name]) for name in ("labels", "mnist", "fmnist", "before_fmnist"))


def test_an_adapter_whose_logits_overflow_is_refused(shop: Shop, exported: Path, tmp_path: Path) -> None:
    changed(exported, tmp_path / "folder", 3e38)
    before = shop.store.scan()
    with pytest.raises(InputError, match="gives logits that are not finite numbers"):
        import_adapter(tmp_path / "folder", shop.run("pretrain"), shop.session)
    assert shop.store.scan() == before


def changed(folder: Path, copy: Path, factor: float) -> None:
    """A copy of the folder, the last tensor multiplied."""
    shutil.copytree(folder, copy)
    tensors = load((copy / peft_format.TENSORS).read_bytes())
    tensors[max(tensors)] *= factor
    (copy / peft_format.TENSORS).write_bytes(save(tensors))


def test_an_imported_base_is_a_base_of_no_known_recipe(shop: Shop, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    session = dataclasses.replace(shop.session, store=store)
    trained = shop.run("pretrain")
    shutil.copytree(shop.store.path(trained.id), store.path(trained.id))
    file = tmp_path / "mine.safetensors"
    file.write_bytes(save({f"module.{name}": tensor.half() for name, tensor in shop.base().state_dict().items()}))
    base, cached = import_base(file, session)
    assert (base.stage, base.status, base.label, cached) == ("pretrain", "done", "imported", False)
    assert base.settings.keys() == {"tensors_sha256"}
    assert base.cost is None
    assert abs(base.metrics["mnist"].correct - trained.metrics["mnist"].correct) <= 2
    assert import_base(file, session) == (base, True)
    text = (store.path(base.id) / "config.yaml").read_text()
    assert f"# lorabench import-base {file}\n" in text
    assert "pretrain:" not in text

    chosen = config.load([], ["finetune.epochs=1", "finetune.batch_size=2048"]).config
    images, tune = stages.on_base(chosen, base)
    assert tune.command == f"lorabench finetune lora --base {base.id}"
    tuned, _ = make.perform(tune, session=session)
    assert (tuned.parents.base, tuned.parents.data) == (base.id, images.id)
    assert stages.cached(tune, store) == tuned
    assert tuned.before["mnist"].correct == base.metrics["mnist"].correct
    twin, _ = make.perform(stages.on_base(chosen, trained)[1], session=session)
    known = collect([base, trained, tuned, twin])
    mark = base.settings["tensors_sha256"][:12]
    assert [setting.label for setting in known.settings] == [f"lora-k4 pretrain.tensors={mark}", "lora-k4"]
    assert [*known.bases_by_recipe] == [f"base tensors={mark}", "base"]
    for runs in ([base, tuned, twin], [base, tuned, tuned, twin]):
        assert len(collect(runs).settings) == len(collect(runs).bases_by_recipe) == 2, "nor with one that is not there"

    for bad, message in ((tuned, "is no finished base"), (trained.model_copy(update={"holdout": 5}), "holdout 5")):
        with pytest.raises(InputError, match=message):
            stages.on_base(chosen, bad)
    assert stages.on_base(stages.chain(config.load().config, "fmnist")[0].config, trained)[1].parents.base == trained.id


def test_only_a_base_can_be_adapted(shop: Shop, exported: Path) -> None:
    with pytest.raises(InputError, match="must be pretrain"):
        import_adapter(exported, shop.run("lora"), shop.session)


@pytest.mark.parametrize(
    ("kind", "message"), [("full", "method full does not go to PEFT"), ("pretrain", "stage pretrain")]
)
def test_what_is_no_lora_does_not_go_to_peft(shop: Shop, tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        exchange.export([shop.run(kind)], "peft", tmp_path / "out", shop.session)


@pytest.mark.parametrize("kind", ["fmnist", "lora"])
def test_idx_files_are_the_runs_f_mnist(shop: Shop, tmp_path: Path, kind: str) -> None:
    done = exchange.export([shop.run(kind)], "idx", tmp_path / "out", shop.session)
    assert [(found.images, found.logit_change) for found in done.compared] == [(60_000, None), (1_000, None)]
    assert len(done.files) == 6
    images = data.read_idx(tmp_path / "out" / "MNIST" / "raw" / "t10k-images-idx3-ubyte")
    assert hashlib.sha256(images.tobytes()).hexdigest() == shop.run("fmnist").checks["test"]["sha256"]


def test_what_is_there_is_not_overwritten(peft: Any, shop: Shop, tmp_path: Path) -> None:
    run, out = shop.run("lora"), tmp_path / "out"
    out.mkdir()
    first = exchange.export([run], "peft", out, shop.session)
    assert exchange.export([run], "peft", out, shop.session) == first, "the same again changes nothing"
    other = shop.run("rslora")
    with pytest.raises(UsageError, match="holds another export"):
        exchange.export([other], "peft", out, shop.session)
    exchange.export([other], "peft", out, shop.session, force=True)
    same(shop.run_logits(other), shop.logits(with_peft(peft, shop, out)))
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        exchange.export([run], "peft", out, shop.session, force=True)
    for no_folder in (out / "notes.txt", out.relative_to(out)):
        with pytest.raises(UsageError, match="new or empty"):
            exchange.export([run], "peft", no_folder, shop.session)
    with pytest.raises(InputError, match="cannot be written"):
        exchange.export([run], "peft", out / "notes.txt" / "below", shop.session)
    same(shop.run_logits(other), shop.logits(with_peft(peft, shop, out)))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "notes.txt",
        "out",
    ]


def one_bias_off(patch: pytest.MonkeyPatch) -> None:
    merge = methods.merge

    def wrong(model: nn.Module) -> nn.Module:
        plain = merge(model)
        plain.get_parameter("fc3.bias").data[0] += 0.01
        return plain

    patch.setattr(methods, "merge", wrong)


def another_alpha(patch: pytest.MonkeyPatch) -> None:
    encode = peft_format.encode
    patch.setattr(peft_format, "encode", lambda a: encode(dataclasses.replace(a, options={**a.options, "alpha": 4.4})))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType, reportUnknownMemberType]


def one_pixel_off(patch: pytest.MonkeyPatch) -> None:
    read = data.read_idx

    def wrong(path: Path) -> Any:
        array = read(path)
        array.flat[-1] ^= 1
        return array

    patch.setattr(data, "read_idx", wrong)


@pytest.mark.parametrize(("to", "spoil"), [("merged", one_bias_off), ("peft", another_alpha), ("idx", one_pixel_off)])
def test_an_export_that_computes_something_else_leaves_nothing(
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    spoil: Callable[[pytest.MonkeyPatch], None],
) -> None:
    run = shop.run("lora")
    spoil(monkeypatch)
    with pytest.raises(RunFailedError, match="nothing was exported") as stop:
        exchange.export([run], to, tmp_path / "new" / "out", shop.session)
    assert stop.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_one_that_was_there(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = shop.run("lora"), tmp_path / "out"
    done = exchange.export([run], "merged", out, shop.session)
    one_bias_off(monkeypatch)
    with pytest.raises(RunFailedError, match="nothing was exported"):
        exchange.export([run], "merged", out, shop.session, force=True)
    assert hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest() == done.files[0].sha256
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model.safetensors", "out"]


def test_the_same_adapter_is_the_same_run(shop: Shop, exported: Path, tmp_path: Path) -> None:
    run, cached = import_adapter(exported, shop.run("pretrain"), shop.session)
    assert not cached
    shutil.copytree(exported, tmp_path / "elsewhere")
    assert import_adapter(tmp_path / "elsewhere", shop.run("pretrain"), shop.session) == (run, True)
    assert measure.measure_again(run, shop.session).metrics == run.metrics
    assert "frozen_unchanged" not in run.checks
    changed(exported, tmp_path / "changed", 1.01)
    assert import_adapter(tmp_path / "changed", shop.run("pretrain"), shop.session)[0].id != run.id


def test_an_export_as_plain_data(shop: Shop, tmp_path: Path) -> None:
    run = shop.run("lora")
    done = exchange.export([run], "merged", tmp_path / "two words", shop.session)
    document = tables.export_data(done)
    assert json.loads(json.dumps(document)) == document
    assert (document["runs"], document["to"], document["folder"]) == ([run.id], "merged", str(tmp_path / "two words"))
    assert [file["name"] for file in document["files"]] == ["model.safetensors"]
    assert [same["flips"] for same in document["compared"]] == [0, 0]
    assert done.following == f"lorabench report {run.id}"


def test_a_target_may_take_several_runs(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [shop.run("pretrain"), shop.run("lora")]
    with pytest.raises(UsageError, match="--to idx takes one run; these are 2"):
        exchange.place(runs, "idx", tmp_path)
    monkeypatch.setitem(exchange.TARGETS, "idx", dataclasses.replace(exchange.TARGETS["idx"], together=True))
    assert exchange.place(runs, "idx", tmp_path) == tmp_path / "idx"


def test_the_commands(shop: Shop, tmp_path: Path) -> None:
    run, base = shop.run("lora"), shop.run("pretrain")
    commands = CommandLine(shop.store.root, cast("Path", shop.session.data_dir))
    out = tmp_path / "peft"
    to_peft = ("export", run.id, "--to", "peft", "--out", str(out))
    text = commands.run(*to_peft).stdout
    for needed in ("adapter_model.safetensors", "25,616", "F-MNIST: 10,000 images, 0 labels flipped, largest logit"):
        assert needed in text, needed
    assert f"\nnext  lorabench import-peft {out} --base {base.id}\n" in text
    assert f'peft.PeftModel.from_pretrained(base, "{out}")\n' in text
    found = commands.json("import-peft", str(out), "--base", base.id)
    assert found["next"] == f"lorabench report {base.id} {found['id']}"
    assert "lorabench import-peft" in (shop.store.path(found["id"]) / "config.yaml").read_text()
    assert found["id"] in commands.run("report", found["id"]).stdout
    assert "--to merged takes one run" in commands.fails(2, "export", "*", "--to", "merged")
    assert "known: merged, peft, idx" in commands.fails(2, "export", found["id"], "--to", "onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["bitfit", "--init", "kaiming"],
            "--init  finetune.init  unknown key of the method bitfit; known keys: method",
        ),
        (["rslora", "--init", "kaiming"], "of the method rslora; known keys: method, targets, epochs"),
        (["lora", "--init", "zeros"], "--init  finetune.init  input should be 'talk', 'kaiming', 'gaussian'"),
        (["lora", "--alpha", -1.0], "--alpha  finetune.alpha  input should be greater than 0"),
    ],
)
def test_a_setting_that_the_method_has_not_is_refused(arguments: list[Any], message: str) -> None:
    method, flag, value = arguments
    flags = {"finetune.method": method, f"finetune.{flag.removeprefix('--')}": value}
    with pytest.raises(ConfigError) as stop:
        config.load([], [], flags)
    assert message in str(stop.value)


def test_init_and_alpha_are_flags(shop: Shop, data_dir: Path) -> None:
    commands = CommandLine(shop.store.root, data_dir)
    flags = ("--init", "gaussian", "--alpha", "8", "--k", "2", "--dry-run")
    one, other = (commands.json(*command, *flags) for command in (["finetune-lora"], ["finetune", "lora"]))
    assert one == other
    assert {key: one["settings"]["finetune"][key] for key in ("method", "k", "init", "alpha")} == {
        "method": "lora",
        "k": 2,
        "init": "gaussian",
        "alpha": 8.0,
    }


def test_an_unfinished_run_is_not_exported(shop: Shop, tmp_path: Path) -> None:
    run = shop.run("lora").model_copy(update={"status": "failed"})
    with pytest.raises(LorabenchError, match="its status is failed"):
        exchange.export([run], "merged", tmp_path / "out", shop.session)
