"""Folders that PEFT 0.21.2 saves, read by what their tensors say; and folders that nobody should read."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lorabench import checkpoint, methods
from lorabench.data.ways import import_datasets
from lorabench.errors import InputError
from lorabench.exchange import peft_format
from lorabench.model import SimpleMnistClassifier

torch.manual_seed(0)
BASE, IMAGES = SimpleMnistClassifier().eval(), torch.rand(64, 784)
LAYERS = methods.linear_layers(BASE)
SAVED: list[tuple[str, dict[str, Any], str]] = [
    ("Lora", {"lora_alpha": 7, "lora_dropout": 0.1, "target_modules": ["fc2"]}, "lora"),
    ("Lora", {"use_rslora": True, "r": 5}, "rslora"),
    ("Lora", {"use_dora": True, "use_rslora": True, "r": 6, "lora_alpha": 7}, "dora"),
    ("Lora", {"target_modules": "fc[12]", "fan_in_fan_out": True}, "lora"),
    ("Lora", {"target_modules": "all-linear", "exclude_modules": ["fc2"]}, "lora"),
    ("Lora", {"rank_pattern": {"fc1": 2}, "alpha_pattern": {"fc[23]": 9}}, "lora"),
    ("Lora", {"rank_pattern": {"fc1": 2}, "use_rslora": True, "lora_alpha": 3}, "lora"),
    ("Lora", {"rank_pattern": {"fc1": 2}, "use_dora": True, "lora_alpha": 3}, "dora"),
    ("Lora", {"init_lora_weights": "orthogonal", "r": 4}, "lora"),
    ("Lora", {"bias": "all"}, "bias: "),
    ("Lora", {"modules_to_save": ["fc3"], "target_modules": ["fc1"]}, "modules_to_save is "),
    ("Lora", {"lora_bias": True}, "lora_bias is "),
    ("Lora", {"init_lora_weights": "olora"}, "init_lora_weights: "),
    ("Vera", {"r": 8}, "lora"),
    ("Vera", {"r": 4, "target_modules": "fc[13]", "vera_dropout": 0.1, "d_initial": 0.5}, "lora"),
    ("Vera", {"r": 4, "save_projection": False}, "save_projection: "),
    ("IA3", {"feedforward_modules": []}, "ia3"),
    ("IA3", {"feedforward_modules": ["fc1", "fc2"], "target_modules": ["fc1", "fc2"]}, "ia3"),
    ("IA3", {"feedforward_modules": ["fc1"]}, "the inputs of some layers and the outputs of others"),
    ("AdaLora", {"total_step": 9}, "adalora"),
    ("AdaLora", {"total_step": 9, "init_r": 6, "target_r": 3, "lora_alpha": 3, "target_modules": "fc[12]"}, "adalora"),
    ("AdaLora", {"total_step": 9, "use_rslora": True}, "use_rslora is true"),
    ("LoHa", {}, "loha"),
    ("LoHa", {"rank_pattern": {"fc1": 2}, "alpha_pattern": {"fc2": 3}, "alpha": 5, "module_dropout": 0.1}, "loha"),
    ("LoKr", {}, "lokr"),
    ("LoKr", {"r": 2, "decompose_both": True, "rank_dropout": 0.1, "rank_dropout_scale": True}, "lokr"),
    ("LoKr", {"rank_pattern": {"fc1": 2}, "alpha_pattern": {"fc2": 3}, "init_weights": "lycoris"}, "lokr"),
    ("LoKr", {"decompose_factor": 4}, "decompose_factor: "),
    ("Hira", {"r": 4, "hira_dropout": 0.1}, "hira"),
    ("Hira", {"rank_pattern": {"fc2": 3}, "init_weights": "gaussian"}, "hira"),
    ("OFT", {"oft_block_size": 2, "use_cayley_neumann": False, "module_dropout": 0.1}, "oft"),
    ("OFT", {"r": 49, "oft_block_size": 0, "use_cayley_neumann": False, "target_modules": ["fc1"]}, "oft"),
    (
        "OFT",
        {"r": 32, "oft_block_size": 0, "use_cayley_neumann": False, "target_modules": "fc[23]"},
        "its blocks are of 4, 8",
    ),
    ("OFT", {"oft_block_size": 2}, "use_cayley_neumann: "),
    ("OFT", {"oft_block_size": 2, "use_cayley_neumann": False, "block_share": True}, "block_share is "),
    ("OFT", {"oft_block_size": 2, "use_cayley_neumann": False, "coft": True}, "coft is "),
    ("Miss", {"r": 5, "miss_dropout": 0.1}, "miss"),
    ("Miss", {"bias": "all"}, "bias: "),
]


@pytest.fixture(scope="session")
def peft() -> Any:
    import_datasets()  # without it PEFT, which imports torchvision, cannot be imported where that does not load
    return import_module("peft")


def saved(peft: Any, folder: Path, kind: str, options: dict[str, Any]) -> nn.Module:
    """An adapter as PEFT saves it, everything that it trains stirred."""
    config = getattr(peft, f"{kind}Config")(**{"target_modules": [*LAYERS], **options})
    wrapped = peft.get_peft_model(cast("Any", copy.deepcopy(BASE)), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_((0.5 if kind == "Hira" else 0.1) * torch.randn_like(parameter))
    wrapped.save_pretrained(str(folder))
    return wrapped.eval()


def ours(folder: Path) -> tuple[peft_format.Adapter, nn.Module]:
    adapter, model = peft_format.read(folder, LAYERS), copy.deepcopy(BASE)
    usual = {name: default for name, (_, default) in methods.METHODS[adapter.method].options.items()}
    methods.apply(model, adapter.method, targets=adapter.targets, **{**usual, **adapter.options})
    checkpoint.restore(model, adapter.tensors)
    return adapter, model


@pytest.mark.parametrize(("kind", "options", "expected"), SAVED)
@pytest.mark.filterwarnings("ignore")
def test_what_peft_saves_computes_the_same_or_is_refused(
    peft: Any, tmp_path: Path, kind: str, options: dict[str, Any], expected: str
) -> None:
    logits = saved(peft, tmp_path, kind, options)(IMAGES)
    if expected not in methods.METHODS:
        with pytest.raises(InputError) as stop:
            peft_format.read(tmp_path, LAYERS)
        assert expected in str(stop.value)
        assert "\n" not in str(stop.value)
        return
    adapter, model = ours(tmp_path)
    assert adapter.method == expected
    assert (logits - BASE(IMAGES)).abs().max() > 0.01
    assert (model(IMAGES) - logits).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("kind", "options", "unsaid", "message"),
    [
        ("Lora", {"alpha_pattern": {"fc[23]": 9}}, ["trainable_token_indices"], "alpha_pattern for fc2"),
        ("LoHa", {"alpha_pattern": {"fc1": 9}, "rank_pattern": {"fc.": 4}}, ["peft_version"], "alpha_pattern for fc1"),
        ("LoKr", {"alpha": 4}, ["exclude_modules", "peft_version"], "leaves alpha out in LoKr; set it to r of fc1"),
        ("LoKr", {"alpha_pattern": {"fc1": 9}}, ["exclude_modules", "peft_version"], "leaves alpha out in LoKr"),
    ],
)
def test_what_releases_of_peft_read_differently_is_refused_if_nobody_says_which_wrote_it(
    peft: Any, tmp_path: Path, kind: str, options: dict[str, Any], unsaid: list[str], message: str
) -> None:
    """0.13.2 looks for one key in both patterns, of LoRA after a dot, and leaves LoKr's alpha out: measured."""
    logits = saved(peft, tmp_path, kind, options)(IMAGES)
    assert (ours(tmp_path)[1](IMAGES) - logits).abs().max() <= 1e-4
    config = json.loads((tmp_path / peft_format.CONFIG).read_text())
    kept = {key: value for key, value in config.items() if key not in unsaid}
    (tmp_path / peft_format.CONFIG).write_text(json.dumps(kept))
    with pytest.raises(InputError, match=message):
        peft_format.read(tmp_path, LAYERS)


def test_a_pruned_adalora_is_read(peft: Any, tmp_path: Path) -> None:
    """PEFT saves the ranks that are left of each layer, and which they were."""
    wrapped: Any = saved(peft, tmp_path, "AdaLora", {"total_step": 9, "init_r": 4})
    kept = {f"{name}.lora_E": [True, False, number < 2, number < 1] for number, name in enumerate(LAYERS)}
    wrapped.peft_config["default"].rank_pattern = kept
    wrapped.base_model.resize_modules_by_rank_pattern(kept, "default")
    wrapped.save_pretrained(str(tmp_path))
    adapter, model = ours(tmp_path)
    assert [
        len(load((tmp_path / peft_format.TENSORS).read_bytes())[f"base_model.model.{name}.lora_E"]) for name in LAYERS
    ] == [3, 2, 1]
    assert adapter.options["k"] == 3
    assert (model(IMAGES) - wrapped(IMAGES)).abs().max() <= 1e-4


def test_the_rank_of_a_hira_is_that_of_its_tensors(peft: Any, tmp_path: Path) -> None:
    saved(peft, tmp_path, "Hira", {"r": 4, "rank_pattern": {"fc2": 3}})
    A, B = (f"base_model.model.fc2.hira_{side}" for side in "AB")  # noqa: N806
    tensors(lambda t: t.update({A: t[A][:3].contiguous(), B: t[B][:, :3].contiguous()}))(tmp_path)
    adapter = peft_format.read(tmp_path, LAYERS)
    assert adapter.options == {"k": 4}
    assert adapter.tensors["fc2.A"].count_nonzero(0).tolist() == [256, 256, 256, 0]


@pytest.mark.parametrize(
    "init", [True, False, "gaussian", "orthogonal", "mica", "eva", "pissa", "pissa_niter_4", "olora"]
)
@pytest.mark.filterwarnings("ignore")
def test_initialisations_that_leave_the_base_alone_are_read(peft: Any, tmp_path: Path, init: Any) -> None:
    """Measured: what PEFT does to the base's weights as it loads the folder."""
    saved(peft, tmp_path, "Lora", {"r": 4, "lora_alpha": 4})
    edited(init_lora_weights=init)(tmp_path)
    wrapped = peft.PeftModel.from_pretrained(cast("Any", copy.deepcopy(BASE)), str(tmp_path))
    state = wrapped.state_dict()
    if all(
        torch.equal(state[f"base_model.model.{n}.base_layer.weight"], BASE.state_dict()[f"{n}.weight"]) for n in LAYERS
    ):
        assert (ours(tmp_path)[1](IMAGES) - wrapped(IMAGES)).abs().max() <= 1e-4
    else:
        with pytest.raises(InputError, match="init_lora_weights"):
            peft_format.read(tmp_path, LAYERS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_spellings_in_half_precision_from_a_hubs_cache(peft: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    snapshot, blobs = tmp_path / "models--me--x" / "snapshots" / "0123", tmp_path / "models--me--x" / "blobs"
    saved(peft, snapshot, "Lora", {"r": 4, "use_dora": True})
    tensors(lambda t: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))(snapshot)
    expected = peft_format.read(snapshot, LAYERS)

    def respelled(named: dict[str, Tensor]) -> None:
        for name in list(named):
            head, _, tail = name.removeprefix("base_model.model.").partition(".weight")
            tensor = named.pop(name)
            vector = tensor.ndim == 1
            named[f"base_model.model.{head}.mine{'.weight' if vector else '.weight' + tail}"] = (
                tensor[:, None] if vector else tensor
            )

    tensors(respelled)(snapshot)
    blobs.mkdir()
    for name in (peft_format.CONFIG, peft_format.TENSORS):
        (snapshot / name).rename(blobs / name.replace(".", "-"))
        (snapshot / name).symlink_to(blobs / name.replace(".", "-"))
    again = peft_format.read(snapshot, LAYERS)
    assert all(torch.equal(tensor, expected.tensors[name]) for name, tensor in again.tensors.items())


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LoRA of rank 4 on every layer."""
    tensors = {
        f"{name}.{own}": torch.rand(shape)
        for name, (n, m) in LAYERS.items()
        for own, shape in (("A", (n, 4)), ("B", (4, m)))
    }
    place = tmp_path / "folder"
    place.mkdir()
    for name, data in peft_format.encode(
        peft_format.Adapter("lora", {"k": 4, "alpha": 4.0}, (*LAYERS,), tensors)
    ).items():
        (place / name).write_bytes(data)
    return place


@pytest.mark.parametrize("how", HOSTILE)
def test_a_bad_folder_is_one_clear_line(folder: Path, how: str) -> None:
    spoil, message = HOSTILE[how]
    spoil(folder)
    with pytest.raises(InputError) as stop:
        peft_format.read(folder, LAYERS)
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)
    assert "\x1b" not in str(stop.value)
    assert len(str(stop.value)) < 400 + len(str(folder))


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    opened = f"c__builtin__\nexec\n(Vimport pathlib; pathlib.Path({str(ran)!r}).touch()\ntR.".encode()
    (folder / peft_format.TENSORS).rename(folder / "adapter_model.bin")
    (folder / "adapter_model.bin").write_bytes(opened)
    with pytest.raises(InputError, match=r"adapter_model\.bin: a pickle can run code and is never opened"):
        peft_format.read(folder, LAYERS)
    assert not ran.exists()
    pickle.loads(opened)
    assert ran.exists()
