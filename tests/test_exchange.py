"""Runs taken elsewhere and brought back: merged weights, PEFT folders (opened by the real PEFT), F-MNIST as files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import struct
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from command_line import CommandLine
from safetensors.torch import load, save

from lorabench import checkpoint, config, data, evaluate, exchange, methods
from lorabench.data.vision import import_datasets
from lorabench.errors import ConfigError, InputError, LorabenchError, RunFailedError, UsageError
from lorabench.exchange import peft_format
from lorabench.exchange.merged import LIMIT
from lorabench.exchange.peft import import_adapter
from lorabench.model import SimpleMnistClassifier
from lorabench.report import summary as tables
from lorabench.runner import make, measure, stages
from lorabench.runner.load import apply_method, load_model
from lorabench.runner.session import Session
from lorabench.runs import Run, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

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


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({"lora_alpha": 7, "lora_dropout": 0.1, "target_modules": ["fc2"]}, "lora"),
        ({"use_rslora": True, "r": 5}, "rslora"),
        ({"use_dora": True, "use_rslora": True, "r": 6, "lora_alpha": 7}, "dora"),
        ({"target_modules": "fc[12]", "fan_in_fan_out": True}, "lora"),
        ({"target_modules": "all-linear", "exclude_modules": ["fc2"]}, "lora"),
        ({"rank_pattern": {"fc1": 2}, "alpha_pattern": {"fc[23]": 9}}, "lora"),
        ({"rank_pattern": {"fc1": 2}, "use_rslora": True, "lora_alpha": 3}, "lora"),
        ({"rank_pattern": {"fc1": 2}, "use_dora": True, "lora_alpha": 3}, "dora"),
        ({"init_lora_weights": "orthogonal"}, "lora"),
    ],
)
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_what_peft_saves_is_imported(
    peft: Any, shop: Shop, tmp_path: Path, options: dict[str, Any], method: str
) -> None:
    given = {"r": 4, "lora_alpha": 4, "target_modules": list(ALL), **options}
    wrapped = saved_by_peft(peft, shop, tmp_path, given)
    expected = shop.logits(wrapped)
    run, _ = import_adapter(tmp_path, shop.run("pretrain"), shop.session)
    assert (run.method, run.k) == (method, given["r"])
    assert run.id.startswith(f"peft-{method}-k{given['r']}-s0-")
    assert run.params
    assert "rank_pattern" in options or run.params.trainable == sum(
        p.numel() for name, p in wrapped.named_parameters() if "lora_" in name
    )
    same(expected, shop.run_logits(run))
    assert np.array_equal(shop.store.predictions(run)["mnist"], expected.argmax(1).numpy())


def saved_by_peft(peft: Any, shop: Shop, folder: Path, options: dict[str, Any]) -> nn.Module:
    """An adapter as PEFT saves it, its B random and not zero."""
    wrapped = peft.get_peft_model(cast("Any", shop.base()), peft.LoraConfig(**options))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
            elif "magnitude" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    wrapped.save_pretrained(str(folder))
    return wrapped


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_spellings_in_half_precision_from_a_hubs_cache(shop: Shop, tmp_path: Path, dtype: torch.dtype) -> None:
    snapshot, blobs = tmp_path / "models--me--x" / "snapshots" / "0123", tmp_path / "models--me--x" / "blobs"
    exchange.export([shop.run("dora")], "peft", tmp_path / "out", shop.session)
    shutil.move(tmp_path / "out", snapshot)
    tensors(lambda t: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))(snapshot)
    expected, _ = import_adapter(snapshot, shop.run("pretrain"), shop.session)

    def respelled(found: dict[str, Tensor]) -> None:
        for name in list(found):
            head, _, tail = name.removeprefix("base_model.model.").partition(".weight")
            tensor = found.pop(name)
            vector = tensor.ndim == 1
            found[f"base_model.model.{head}.mine{'.weight' if vector else '.weight' + tail}"] = (
                tensor[:, None] if vector else tensor
            )

    tensors(respelled)(snapshot)
    blobs.mkdir()
    for name in (peft_format.CONFIG, peft_format.TENSORS):
        (snapshot / name).rename(blobs / name.replace(".", "-"))
        (snapshot / name).symlink_to(blobs / name.replace(".", "-"))
    again, cached = import_adapter(snapshot, shop.run("pretrain"), shop.session)
    assert (again.id, cached) == (expected.id, True)


@pytest.mark.parametrize(
    "init", [True, False, "gaussian", "orthogonal", "mica", "eva", "pissa", "pissa_niter_4", "olora"]
)
@pytest.mark.filterwarnings("ignore")
def test_initialisations_that_leave_the_base_alone_are_read(peft: Any, shop: Shop, tmp_path: Path, init: Any) -> None:
    """Measured: what PEFT does to the base's weights as it loads the folder."""
    config = {"r": 4, "lora_alpha": 4, "target_modules": list(ALL)}
    saved_by_peft(peft, shop, tmp_path, config)
    edited(init_lora_weights=init)(tmp_path)
    wrapped = with_peft(peft, shop, tmp_path)
    base = shop.base().state_dict()
    kept = all(
        torch.equal(wrapped.state_dict()[f"base_model.model.{name}.base_layer.weight"], base[f"{name}.weight"])
        for name in ALL
    )
    if kept:
        run, _ = import_adapter(tmp_path, shop.run("pretrain"), shop.session)
        same(shop.logits(wrapped), shop.run_logits(run))
    else:
        with pytest.raises(InputError, match="init_lora_weights"):
            import_adapter(tmp_path, shop.run("pretrain"), shop.session)


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "all"},
        {"modules_to_save": ["fc3"], "target_modules": ["fc1"]},
        {"lora_bias": True},
        {"init_lora_weights": "olora"},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_we_cannot_represent_is_refused(peft: Any, shop: Shop, tmp_path: Path, options: dict[str, Any]) -> None:
    saved_by_peft(peft, shop, tmp_path, {"r": 4, "target_modules": list(ALL), **options})
    with pytest.raises(InputError) as stop:
        import_adapter(tmp_path, shop.run("pretrain"), shop.session)
    assert next(iter(options)) in str(stop.value)
    assert "\n" not in str(stop.value)


def edited(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / peft_format.CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        found = load((folder / peft_format.TENSORS).read_bytes())
        change(found)
        (folder / peft_format.TENSORS).write_bytes(save(found))

    return apply


def content(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def linked(path: Path) -> None:
    """The file, behind a symbolic link."""
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


A1, B1 = "base_model.model.fc1.lora_A.weight", "base_model.model.fc1.lora_B.weight"
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / peft_format.CONFIG).unlink(), "adapter_config.json: cannot be read"),
    "no tensors": (lambda f: (f / peft_format.TENSORS).unlink(), "adapter_model.safetensors: cannot be read"),
    "no JSON": (content(peft_format.CONFIG, b"{"), "no readable JSON"),
    "no UTF-8": (content(peft_format.CONFIG, b"\xff\xfe\xff"), "no readable JSON"),
    "deep JSON": (content(peft_format.CONFIG, b"[" * 200_000), "no readable JSON"),
    "a list": (content(peft_format.CONFIG, b"[]"), "adapter_config.json: "),
    "much JSON": (content(peft_format.CONFIG, b" " * 2_000_000), "2,000,000 bytes"),
    "another type": (edited(peft_type="BOFT"), "peft_type"),
    "no rank": (edited(r=0), "r: "),
    "half a rank": (edited(r=4.5), "r: "),
    "a huge rank": (edited(r=10**9), "r: "),
    "another rank": (edited(r=3), "must be torch.float32 (3, 784)"),
    "alpha zero": (edited(lora_alpha=0), "lora_alpha: "),
    "alpha infinite": (edited(lora_alpha=float("inf")), "lora_alpha: "),
    "alpha without measure": (edited(lora_alpha=1e300), "lora_alpha: "),
    "logits overflow": (tensors(lambda t: t[B1].fill_(3e38)), "gives logits that are not finite numbers"),
    "no layers": (edited(target_modules=[]), "target_modules: "),
    "a pattern of nothing": (edited(target_modules="(a+)+$"), "target_modules selects none of the base's layers"),
    "a long pattern": (edited(target_modules="a" * 501), "target_modules: "),
    "all excluded": (edited(exclude_modules="fc."), "target_modules selects none of the base's layers"),
    "two adapters": (tensors(lambda t: t.update({A1.replace("weight", "b.weight"): t[A1].clone()})), "of two adapters"),
    "a rank that is another": (edited(rank_pattern={"fc1": 2}), "must be torch.float32 (2, 784)"),
    "a base that is changed": (edited(init_lora_weights="pissa"), "init_lora_weights: "),
    "double precision": (tensors(lambda t: t.update({A1: t[A1].double()})), "torch.float64"),
    "a strange layer": (edited(target_modules=["fc1", "fc9"]), "no layer 'fc9'"),
    "fewer layers": (edited(target_modules=["fc1"]), "does not belong to this model"),
    "the future": (edited(use_magic=True), "use_magic is true"),
    "one missing": (tensors(lambda t: t.pop(B1)), f"lacks the tensor {B1}"),
    "one more": (tensors(lambda t: t.update(more=torch.zeros(1))), "more"),
    "transposed": (tensors(lambda t: t.update({A1: t[A1].t().contiguous()})), "(784, 4), must be"),
    "another base": (tensors(lambda t: t.update({A1: torch.zeros(4, 785)})), "(4, 785), must be"),
    "NaN": (tensors(lambda t: t[A1].fill_(torch.nan)), "not finite numbers"),
    "cut off": (lambda f: content(peft_format.TENSORS, (f / peft_format.TENSORS).read_bytes()[:-9])(f), "damaged"),
    "empty": (content(peft_format.TENSORS, b""), "damaged"),
    "a huge header": (content(peft_format.TENSORS, struct.pack("<Q", 2**60) + b"{}"), "damaged"),
    "a pickle by another name": (content(peft_format.TENSORS, b"\x80\x04."), "damaged"),
    "a linked config": (lambda f: linked(f / peft_format.CONFIG), "adapter_config.json: is a symbolic link"),
    "linked tensors": (lambda f: linked(f / peft_format.TENSORS), "adapter_model.safetensors: is a symbolic link"),
    "a folder": (lambda f: folder_instead(f / peft_format.CONFIG), "no regular file"),
    "a hostile key": (edited(**{"\x1b[2J\n" + "x" * 500: True}), "which lorabench cannot represent"),
    "a hostile layer": (edited(target_modules=["\x1b[2J\n" + "x" * 500]), "the base has no layer"),
    "a hostile tensor": (tensors(lambda t: t.update({"\x1b\n" + "x" * 500: torch.zeros(1)})), "does not belong"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_bad_folder_is_one_clear_line(shop: Shop, exported: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(exported, folder)
    spoil, message = HOSTILE[how]
    spoil(folder)
    before = shop.store.scan()
    with pytest.raises(InputError) as stop:
        import_adapter(folder, shop.run("pretrain"), shop.session)
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    assert "\x1b" not in str(stop.value)
    assert len(str(stop.value)) < 400 + len(str(folder))
    assert shop.store.scan() == before


def test_a_pickle_is_not_opened(shop: Shop, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(exported, folder)
    ran = tmp_path / "ran"
    opened = f"c__builtin__\nexec\n(Vimport pathlib; pathlib.Path({str(ran)!r}).touch()\ntR.".encode()
    (folder / peft_format.TENSORS).rename(folder / "adapter_model.bin")
    (folder / "adapter_model.bin").write_bytes(opened)
    with pytest.raises(InputError, match=r"adapter_model\.bin: a pickle can run code and is never opened"):
        import_adapter(folder, shop.run("pretrain"), shop.session)
    assert not ran.exists()
    import pickle

    pickle.loads(opened)
    assert ran.exists()


def test_only_a_base_can_be_adapted(shop: Shop, exported: Path) -> None:
    with pytest.raises(InputError, match="must be pretrain"):
        import_adapter(exported, shop.run("lora"), shop.session)


@pytest.mark.parametrize(("kind", "message"), [("full", "method full is not in PEFT"), ("pretrain", "stage pretrain")])
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
    tensors(lambda t: t[A1].mul_(1.01))(tmp_path / "elsewhere")
    assert import_adapter(tmp_path / "elsewhere", shop.run("pretrain"), shop.session)[0].id != run.id


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
        (["lora", "--init", "zeros"], "--init  finetune.init  input should be 'talk', 'kaiming' or 'gaussian'"),
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
