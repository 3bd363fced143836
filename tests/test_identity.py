"""The same id means the same result: what an id covers, and that a run is taken for its record, not for its name."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from report_factory import finetune, fmnist, pretrain, render, squeezed, study_data, study_report
from torch import nn

from lorabench import config, data, methods
from lorabench.analysis.listing import listing_data, select
from lorabench.errors import InputError
from lorabench.methods import registry
from lorabench.report import listing, sweep
from lorabench.report.shown import runs_shown
from lorabench.runner import make, measure, session, stages
from lorabench.runner.measure import load_model
from lorabench.runner.session import Session, open_session
from lorabench.runner.stages import Stage
from lorabench.runs import Parents, Run, Store, earlier, make_id
from lorabench.sweep import Counts, GridPoint, SweepResult, tuned_run

ALIKE = ("0.0031557", "0.0119462")
"""Two learning rates whose fine-tunes, with `QUICK`, have the same first 8 digits."""
PRETRAINED = ["805b3841", "3e6fa660", "4742efed", "4e6b0272", "beaf7b25"]
TUNED = ["cd82ada0", "9b0ca862", "a781e11a", "4f8f5809", "4d223d08"]
"""How the ids of the default study ended in version 0.1, by seed."""
QUICK = ("pretrain.epochs=1", "pretrain.lr=1.5e-2", "finetune.epochs=1")


def settings(*sets: str) -> config.Config:
    return config.load(sets=sets).config


def made(stage: Stage, store: Store, /, **changes: Any) -> Run:
    """A finished run of `stage`, without the work; `changes` are what its record says else."""
    record = stages.placed(stage, store).new_record.model_copy(update=changes)
    with store.locked(record.id), store.start(record, "") as folder:
        folder.finish(folder.run)
    return folder.run


def made_earlier(stage: Stage, store: Store, **changes: Any) -> Run:
    """The same by a lorabench whose ids had 8 digits, those of parents too."""
    base, images = stage.parents.base, stage.parents.data
    parents = Parents(base=earlier(base) if base else None, data=earlier(images) if images else None)
    return made(stage, store, **{"id": earlier(stage.id), "parents": parents, "mnist": None, **changes})


def test_an_id_goes_on_where_that_of_an_earlier_lorabench_ended() -> None:
    fmnist, base, tuned = stages.chain(settings(), "finetune")
    assert [earlier(stage.id) for stage in (fmnist, base, tuned)] == [
        "fmnist-s0-2704cd07",
        "pretrain-s0-805b3841",
        "lora-k4-s0-cd82ada0",
    ]
    assert all(len(stage.id) == len(earlier(stage.id)) + 4 for stage in (fmnist, base, tuned))


def test_an_id_depends_on_the_whole_of_its_parents_ids() -> None:
    one, other = (make_id("lora", 0, {}, base=f"pretrain-s0-00000000{end}") for end in ("aaaa", "bbbb"))
    assert one != other
    assert earlier(one) == earlier(other) == make_id("lora", 0, {}, base="pretrain-s0-00000000")[:-4]


def test_a_study_of_an_earlier_lorabench_is_found_whole() -> None:
    """Its 11 ids, of 8 digits, are how those of today begin."""
    found = {earlier(stage.id) for stage in stages.study(settings())}
    assert found == {
        "fmnist-s0-2704cd07",
        *(f"pretrain-s{seed}-{end}" for seed, end in enumerate(PRETRAINED)),
        *(f"lora-k4-s{seed}-{end}" for seed, end in enumerate(TUNED)),
    }


VARIANTS = [
    ("prompt", "variant=border", 0.3, "variant=deep", 0.1),
    ("ia3", "place=in", 0.1, "place=out", 0.3),
    ("lora-fa", "k=16", 0.03, "k=8", 0.1),
    ("lora", "init=orthogonal", 0.01, "init=kaiming", 0.03),
]


@pytest.mark.parametrize(("method", "variant", "lr", "other", "usual"), VARIANTS)
def test_a_variant_trains_with_the_rate_that_was_chosen_for_it(
    method: str, variant: str, lr: float, other: str, usual: float
) -> None:
    def rate(option: str, *sets: str) -> float:
        return stages.finetune(settings(f"finetune.method={method}", f"finetune.{option}", *sets)).settings["lr"]

    assert (rate(variant), rate(other), rate(variant, "finetune.lr=0.5")) == (lr, usual, 0.5)


def test_every_variant_with_a_rate_of_its_own_is_one_that_the_method_takes() -> None:
    kept = [(name, dict(when)) for name, method in methods.METHODS.items() for when, _ in method.lr_of]
    assert len(kept) == len(VARIANTS)
    for name, when in kept:
        assert methods.complete(name, when).items() >= when.items()


def test_two_settings_whose_hashes_begin_alike_are_two_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = (stages.finetune(settings(*QUICK, f"finetune.lr={lr}")) for lr in ALIKE)
    assert earlier(one.id) == earlier(other.id)
    assert one.id != other.id
    _, _, old = (made_earlier(stage, store) for stage in stages.chain(one.config, "finetune"))
    assert stages.cached(one, store) == old
    assert stages.cached(other, store) is None
    assert stages.placed(other, store).id == other.id


def test_children_of_bases_whose_hashes_begin_alike_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, one = Store(tmp_path), stages.finetune(settings())
    made_earlier(stages.fmnist(settings()), store)
    base = stages.pretrain(settings())
    # The folder of that short name holds a base that was trained in another way.
    made_earlier(base, store, settings={**base.settings, "lr": 0.5})
    child = made_earlier(one, store)
    assert stages.cached(base, store) is None
    assert stages.cached(one, store) is None
    made(base, store)
    assert stages.placed(one, store).parents.base == base.id
    assert made(one, store).id != child.id


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {**stages.finetune(settings()).settings, "lr": 0.5}}, "lr is 0.5"),
        ({"settings": {**stages.finetune(settings()).settings, "new": 1}}, "new is 1"),
        ({"holdout": 5000}, "holdout is 5000"),
        ({"stage": "pretrain"}, "stage is 'pretrain'"),
        ({"mnist": "ab" * 32}, "mnist is"),
        ({"reuse": False}, "reuse is False"),
        ({"parents": Parents(base="pretrain-s0-0123456789ab", data=stages.fmnist(settings()).id)}, "its base is"),
        ({"parents": Parents(base=stages.pretrain(settings()).id, data="fmnist-s0-0123456789ab")}, "its F-MNIST is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_record_that_is_not_what_is_asked_for_is_not_taken(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    store, stage = Store(tmp_path), stages.finetune(settings())
    made(stage, store, **changes)
    with pytest.raises(InputError, match=said):
        stages.cached(stage, store)
    made(stage, store)
    assert stages.cached(stage, store)


def test_a_study_of_an_earlier_lorabench_is_there_already(tmp_path: Path) -> None:
    store = Store(tmp_path)
    todo = stages.study(settings("study.seeds=0-1"))
    old = [made_earlier(stage, store) for stage in todo]
    assert [stages.cached(stage, store) for stage in todo] == old
    further = stages.placed(stages.finetune(settings("finetune.k=8")), store)
    assert further.parents == old[-2].parents, "what is new starts from the folders that are there"
    run = made(further, store)
    assert run.id == further.id != earlier(further.id)
    assert stages.cached(stages.finetune(settings("finetune.k=8")), store) == run


def test_where_an_earlier_parent_is_gone_only_a_long_id_is_believed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    short, long = stages.finetune(settings()), stages.finetune(settings("finetune.k=8"))
    base = made_earlier(stages.pretrain(settings()), store)
    made_earlier(short, store)
    run = made(long, store)
    assert run.parents.base == base.id
    (store.path(base.id) / "run.json").unlink()
    made(stages.pretrain(settings()), store)
    assert stages.cached(short, store) is None
    assert stages.cached(long, store) == run


def test_a_base_is_the_same_whatever_fmnist_it_was_first_measured_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = made(stages.pretrain(settings("fmnist.fraction=0.9")), store)
    assert stages.cached(stages.pretrain(settings()), store) == run


def test_what_is_in_no_id_is_all_that_leaves_it_alone() -> None:
    """Each setting either is in the id of a fine-tune, or is one of those that cannot change it."""
    changed = {
        "device": "cpu",
        "threads": 2,
        "study.name": "other",
        "study.seeds": "7-8",
        "study.workers": 2,
        "sweep.name": "other",
    }
    usual = stages.finetune(settings()).id
    assert {stages.finetune(settings(f"{key}={value}")).id for key, value in changed.items()} == {usual}
    counted = {
        "seed": 1,
        "holdout": 5000,
        "reuse": "false",
        "pretrain.epochs": 4,
        "pretrain.batch_size": 128,
        "pretrain.lr": 0.01,
        "pretrain.warmup": 0.1,
        "pretrain.seed": 1,
        "fmnist.fraction": 0.5,
        "fmnist.classes": "[4, 7]",
        "fmnist.axis": "vertical",
        "fmnist.seed": 1,
        "finetune.method": "dora",
        "finetune.targets": "[fc1]",
        "finetune.epochs": 5,
        "finetune.batch_size": 128,
        "finetune.lr": 0.01,
        "finetune.warmup": 0.1,
        "finetune.seed": 1,
        "finetune.k": 8,
        "finetune.dropout": 0.1,
    }
    found = [stages.finetune(settings(f"{key}={value}")).id for key, value in counted.items()]
    assert len({usual, *found}) == 1 + len(counted)
    every = {key for key, _ in _keys(settings().model_dump(mode="json"))}
    told_elsewhere = {"finetune.init", "finetune.alpha", "study.methods", "sweep.grid", "expect"}
    assert every == {*changed, *counted, *told_elsewhere}


def _keys(values: dict[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("grid", "expect"):
            yield from _keys(value, f"{above}{key}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield above + key, value


class Later:
    """The module `toy` after a year: `apply` takes one option more."""

    @staticmethod
    def apply(model: nn.Module, targets: Iterable[str], dropout: float) -> None:
        assert dropout == 0.0
        toy.apply(model, targets)


def test_an_option_that_a_method_gains_changes_no_id_and_no_run(
    tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(methods.METHODS, "toy", toy.ENTRY)
    monkeypatch.setitem(sys.modules, "lorabench.methods.toy", toy)
    quick = ("pretrain.epochs=1", "finetune.epochs=1", "finetune.method=toy")
    store, chosen = Store(tmp_path), settings(*quick)
    before = stages.chain(chosen, "finetune")
    with open_session(store, few_images, chosen, lambda event: None) as session:
        for stage in before:
            make.perform(stage, session=session)

    entry = replace(toy.ENTRY, options={"dropout": registry.since("0.2", float, 0.0)})
    monkeypatch.setitem(methods.METHODS, "toy", entry)
    monkeypatch.setitem(sys.modules, "lorabench.methods.toy", Later)
    after = stages.chain(settings(*quick), "finetune")
    assert after[-1].config.finetune.options == {"dropout": 0.0}
    assert [stage.id for stage in after] == [stage.id for stage in before]
    run = stages.cached(after[-1], store)
    assert run
    assert run.env["machine"].startswith(platform.machine() + " ")
    with open_session(store, few_images, chosen, lambda event: None) as session:
        assert measure.measure_again(run, session).metrics["fmnist"].correct == run.metrics["fmnist"].correct
    assert stages.finetune(settings(*quick, "finetune.dropout=0.5")).id != after[-1].id

    # An option that is added without a word changes the id, and what was made without it cannot be read any more.
    monkeypatch.setitem(methods.METHODS, "toy", replace(toy.ENTRY, options={"dropout": (float, 0.0)}))
    assert stages.finetune(settings(*quick)).id != after[-1].id
    with pytest.raises(InputError, match="does not say its dropout"):
        load_model(run, store)


def test_a_setting_of_the_recipe_can_be_added_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pretrain(config.Pretrain):
        dropout: float = registry.since("0.2", float, 0.0)[0].__metadata__[0]

    Pretrain.model_fields["dropout"].default = 0.0
    usual = config.Pretrain().model_dump(mode="json")
    assert config.hashed(Pretrain(dropout=0.0)) == usual
    assert config.hashed(Pretrain(dropout=0.1)) == {**usual, "dropout": 0.1}


@pytest.mark.parametrize("name", sorted({*config.Finetune.model_fields, "also_train", "data", "base"}))
def test_an_option_cannot_have_the_name_of_a_setting_of_every_run(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(toy.ENTRY, options={name: (float, 0.5)})


def test_a_record_says_which_mnist() -> None:
    assert stages.finetune(settings()).new_record.mnist == data.CHECKSUM


MADE_WITH = {"lorabench": "1", "torch": "2.13.0", "device": "cpu", "machine": "x86_64 AVX2", "threads": 1}


@pytest.mark.parametrize("key", ["lorabench", "torch", "device", "machine"])
def test_runs_of_another_ground_are_marked_wherever_they_stand_beside_others(key: str, tmp_path: Path) -> None:
    one, *others = (finetune(seed, env=MADE_WITH) for seed in range(3))
    odd = one.model_copy(update={"env": {**MADE_WITH, key: "other"}})
    runs = [fmnist(), *(pretrain(seed, env=MADE_WITH) for seed in range(3)), odd, *others]
    tuned = tuple(tuned_run(run, run.seed) for run in runs if run.stage == "finetune")
    points = (GridPoint((1,), tuned[:1], ()), GridPoint((2,), tuned[1:], ()))
    swept = SweepResult("sweep", ("k",), points, (0,), 0, *[Counts(0, 0, 0)] * 2)
    shown = [
        render(study_report(runs)),
        render(listing.listing(select(runs), now=datetime.now(UTC))),
        render(sweep.sweep_report(swept)),
        render(runs_shown(Store(tmp_path), runs).table),
    ]
    assert all(f"not the same {key}: " in squeezed(text) for text in shown)
    assert all(f"other ({odd.id})" in squeezed(text) for text in shown[:3])
    documents = [
        study_data(runs),
        listing_data(select(runs)),
        sweep.sweep_data(swept),
        runs_shown(Store(tmp_path), runs).data,
    ]
    assert [[found["what"] for found in document["unequal"]] for document in documents] == [[key]] * 4
    same = [run.model_copy(update={"env": {**MADE_WITH, "platform": "other", "threads": 2}}) for run in runs]
    assert study_data(same)["unequal"] == []


def test_a_run_says_what_computed_it() -> None:
    told = Session(Store(Path()), None, torch.device("cpu"), 3, print).environment()
    assert (told["device"], told["threads"]) == ("cpu", 3)
    assert told["machine"] == f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@pytest.mark.parametrize("place", ["own", "hook", "installed", "untracked"])
def test_a_run_names_lorabenchs_own_commit_and_never_a_strangers(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    root = tmp_path / "site-packages" if place == "installed" else tmp_path
    file = root / "lorabench" / "runner" / "session.py"
    file.parent.mkdir(parents=True)
    for path in (file, file.parent.parent / "__init__.py", tmp_path / "theirs.txt"):
        path.write_text("")
    git("init", "-q")
    git("add", "theirs.txt" if place == "untracked" else ".")
    git("commit", "-q", "-m", "x")
    ours = {"commit": git("rev-parse", "HEAD"), "dirty": False} if place in ("own", "hook") else None
    if place == "hook":
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "nothing"))
    monkeypatch.setattr(session, "__file__", str(file))
    session._git.cache_clear()  # pyright: ignore[reportPrivateUsage]
    try:
        assert Session(Store(tmp_path), None, torch.device("cpu"), 1, print).environment()["git"] == ours
    finally:
        session._git.cache_clear()  # pyright: ignore[reportPrivateUsage]
