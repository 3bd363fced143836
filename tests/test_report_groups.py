"""Many runs: seeds fold into one row for each setting, paired with the baseline's by seed, all worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from report_factory import failed, finetune, fmnist, pretrain, render, squeezed, student, study, two_ways, widest

from lorabench import stats
from lorabench.analysis.groups import Groups, SettingRow, front, groups, groups_data
from lorabench.analysis.inference import Estimate
from lorabench.analysis.number import NO_DIFFERENCE
from lorabench.analysis.settings import records
from lorabench.errors import UsageError
from lorabench.report.groups import groups_report
from lorabench.report.shown import study_shown
from lorabench.runs import Broken, Params, Parents, Run


def tuned(seed: int, errors: int, trained: int = 6_248, label: str = "adapter", **changes: Any) -> Run:
    run = finetune(seed, fmnist_errors=errors)
    settings = {**run.settings, "method": label, **changes.pop("settings", {})}
    return run.model_copy(
        update={
            "id": f"{label}-s{seed}-{trained:08x}",
            "method": label,
            "k": None,
            "params": Params(total=235_146, trainable=trained, frozen=235_146),
            "settings": settings,
            **changes,
        }
    )


def some(seeds: int = 5) -> list[Run]:
    """A base that errs on 674 images; LoRA on 226 + 5·seed; an adapter on 40 - seed less, full as LoRA by ±3."""
    runs: list[Run] = []
    for seed in range(seeds):
        errors = 226 + 5 * seed
        runs += [pretrain(seed), finetune(seed, fmnist_errors=errors)]
        runs += [tuned(seed, errors - 40 + seed), tuned(seed, errors + 3 * (-1) ** seed, 235_146, "full")]
    return runs


def rows(found: Groups) -> dict[str, SettingRow]:
    return {row.label: row for row in found.rows}


def estimate(row: SettingRow, key: str) -> Estimate:
    found = row.estimate(key)
    assert found is not None
    return found


def test_seeds_fold_into_a_row_for_each_setting() -> None:
    found = groups(some())
    assert list(rows(found)) == ["pretrain", "lora-k4", "adapter", "full"]
    lora = rows(found)["lora-k4"]
    assert (lora.values["params.trainable"], lora.values["checkpoint_bytes"], lora.lr) == (6_248, 25_616, 0.003)
    assert [(run.id, run.seed) for run in lora.setting.runs] == [(finetune(seed).id, seed) for seed in range(5)]
    means = [100 - (226 + 5 * seed) / 100 for seed in range(5)]
    assert student(estimate(lora, "fmnist.accuracy")) == stats.t_interval(means)
    assert estimate(lora, "fmnist.flipped.accuracy").mean == pytest.approx(100 * 584 / 613)
    assert estimate(lora, "cost.train_s").mean == pytest.approx(4.1)


def test_differences_are_paired_by_seed_with_the_first_row() -> None:
    found = groups([run for run in some() if run.stage == "finetune"])
    assert found.baseline == "lora-k4"
    lora, adapter, full = found.rows
    assert (lora.baseline, lora.difference) == (True, {})
    gap = adapter.difference["fmnist"]
    assert student(gap.estimate) == pytest.approx(stats.t_interval([(40 - seed) / 100 for seed in range(5)]))
    other = full.difference["fmnist"]
    p = [stats.paired_t(values).p for values in ([40.0 - seed for seed in range(5)], [-3.0, 3, -3, 3, -3])]
    assert [gap.p, other.p] == pytest.approx(p)
    assert [gap.holm, other.holm] == pytest.approx(stats.holm(p))
    assert (gap.detectable, other.detectable) == (True, False)
    assert adapter.difference["mnist"].estimate.mean == 0


def test_a_fine_tune_and_a_base_are_partners_where_one_was_made_from_the_other() -> None:
    """Fine-tunes of five seeds, all of base 0; bases of seeds 0 and 1."""
    of_zero = [finetune(seed, parents=finetune(0).parents) for seed in range(5)]
    bases = [pretrain(0), pretrain(1, mnist_errors=900)]
    found = rows(groups([*bases, *of_zero]))["lora-k4"]
    assert found.difference["fmnist"].estimate.mean == pytest.approx(97.74 - 93.26)
    assert found.difference["fmnist"].estimate.n == 5
    reverse = rows(groups([*of_zero, *bases]))["pretrain"].difference["mnist"]
    assert reverse.estimate.n == 2


def test_fine_tunes_of_one_seed_and_several_bases_keep_their_bases() -> None:
    """Seed 0 on two bases: two members of a row, each the partner of the other method's on the same base."""
    other = Parents(base="pretrain-s1-1b2c3d41", data=fmnist().id)
    lora = [finetune(0), finetune(0, fmnist_errors=400, parents=other, id="lora-k4-s0-00000001")]
    adapter = [tuned(0, 200), tuned(0, 350, parents=other, id="adapter-s0-00000001")]
    found = rows(groups([*reversed(lora), *adapter]))["adapter"]
    assert found.difference["fmnist"].estimate.values == pytest.approx((0.26, 0.50))


def test_fine_tunes_of_bases_trained_in_other_ways_have_rows_of_their_own() -> None:
    slow = pretrain(1, settings=pretrain(1).settings | {"epochs": 9})
    runs = [finetune(0), finetune(1)]
    labels = [row.label for row in groups(runs, bases={pretrain(0).id: pretrain(0), slow.id: slow}).rows]
    assert labels == ["lora-k4 pretrain.epochs=4", "lora-k4 pretrain.epochs=9"]
    assert [row.label for row in groups(runs, bases={slow.id: slow}).rows] == ["lora-k4"]
    beside = pretrain(1, parents=Parents(data="fmnist-s1-00000000"))
    bases = {base.id: base for base in (pretrain(0), beside)}
    assert [row.label for row in groups(runs, bases=bases).rows] == ["lora-k4"], "F-MNIST has no part in a base"
    assert [row.label for row in groups(runs, bases={r.id: r for r in (pretrain(0), pretrain(1))}).rows] == ["lora-k4"]


def test_fine_tunes_of_one_seed_are_paired_with_the_bases_and_the_fine_tunes_on_bases_of_the_same_seed() -> None:
    """As `finetune.seed=0` with several seeds leaves them, with bases trained in two ways."""
    runs = [run.model_copy(update={"seed": 0}) if run.stage == "finetune" else run for run in two_ways()]
    found = rows(groups(runs, bases=records(runs)))
    assert list(found) == [
        "pretrain epochs=4",
        "lora-k4 pretrain.epochs=4",
        "pretrain epochs=2",
        "lora-k4 pretrain.epochs=2",
    ]
    assert found["lora-k4 pretrain.epochs=2"].difference["mnist"].estimate.values == pytest.approx([-0.9] * 3)
    tuned = [run for run in runs if run.stage == "finetune"]
    against = rows(groups(tuned, bases=records(runs)))["lora-k4 pretrain.epochs=2"]
    assert against.difference["mnist"].estimate.n == 3
    assert [row.label for row in study_shown(runs).rows()] == list(found)


def test_the_baseline_is_the_setting_of_the_runs_that_are_named() -> None:
    found = groups(some(), baseline={tuned(3, 0).id})
    assert found.baseline == "adapter"
    assert rows(found)["pretrain"].difference["fmnist"].estimate.mean < -4
    with pytest.raises(UsageError, match="names 2 settings: pretrain, adapter"):
        groups(some(), baseline={tuned(3, 0).id, pretrain(0).id})
    with pytest.raises(UsageError, match="no run that it names is finished"):
        groups([*some(), failed()], baseline={failed().id})


def test_without_a_common_seed_there_is_no_difference() -> None:
    found = groups([finetune(0), finetune(1), tuned(2, 200), tuned(3, 200)])
    assert rows(found)["adapter"].difference == {}
    assert "no partner" in render(groups_report(found))


def test_the_pareto_front() -> None:
    assert front([(1, 5), (2, 5), (2, 6), (3, 6), None, (1, 5), (9, 9)]) == [
        True,
        False,
        True,
        False,
        False,
        True,
        True,
    ]
    assert front([None]) == [False]
    assert [row.label for row in groups(some()).rows if row.front] == ["adapter"]
    for seeds in (1, 2, 5):
        small = [tuned(seed, 300 + 9 * seed, 394, "bitfit") for seed in range(seeds)]
        marked = [row.label for row in groups([*some(), *small]).rows if row.front]
        assert marked == (["adapter", "bitfit"] if seeds == 5 else ["adapter"]), "few seeds get no mark and take none"


def test_the_tables_say_all_of_it_in_80_columns() -> None:
    text = render(groups_report(groups([fmnist(), *some(), failed()])))
    flat = squeezed(text)
    assert widest(text) <= 80
    assert text.isascii()
    assert "comparison 4 settings, 20 runs" in flat
    assert "adapter 98.02 +- 0.12 5 +4.76 +- 0.12" in flat
    assert "adapter 0.30 < 0.0001" in flat[flat.index("statistics MNIST +- MNIST p F-MNIST +- F-MNIST p") :]
    assert "paired t test of the difference, which decides, adjusted for 3 rows by Holm" in flat
    assert "difference: from pretrain, paired by seed" in flat
    assert "adapter 98.02 95.27 +- 0.64 6,248 25,616 4.10 0.003 *" in flat
    assert f"left out, they hold no model: {fmnist().id}" in flat
    assert "the loss is NaN" in flat
    against = render(groups_report(groups([run for run in some() if run.stage == "finetune"])))
    assert NO_DIFFERENCE in against


def test_one_seed_shows_no_spread_and_says_so() -> None:
    text = render(groups_report(groups(some(1))))
    assert text.count("1 seed ") == 8
    assert "+-" not in text
    assert "1 seed: no interval over seeds" in text
    two = squeezed(render(groups_report(groups(some(2)))))
    assert "+-" not in two
    assert "fewer than 3 seeds: no interval, no verdict" in two
    assert "lora-k4 97.72 (97.74, 97.69) 2 +4.46 (+4.48, +4.43) 2 seeds decide nothing" in two
    assert "*" not in two.split("*: Pareto")[0]
    mixed = squeezed(render(groups_report(groups([*some(), tuned(0, 300, 394, "bitfit")]))))
    assert "bitfit 97.00 1 seed +3.74 baseline" not in mixed
    assert "bitfit 97.00 1 seed +3.74" in mixed


def test_one_setting_is_compared_with_nothing() -> None:
    text = render(groups_report(groups([finetune(seed) for seed in range(3)])))
    assert "lora-k4     97.74 (all 3)  3" in text
    assert "baseline" not in text
    assert "*" not in text.split("size and cost")[1].split("stored:")[0].splitlines()[1]


def test_what_is_not_the_same_is_warned_of() -> None:
    odd: dict[str, Any] = {
        "env": {"torch": "2.14.0", "device": "cuda", "threads": 8},
        "parents": Parents(base=pretrain(1).id, data="fmnist-s1-00000000"),
        "checks": {"base_sha256": "ab" * 32},
    }
    batch = {"batch_size": 256}
    same = [finetune(seed, settings=finetune(seed).settings | batch) for seed in range(2)]
    same = [run.model_copy(update={"env": {"torch": "2.13.0", "device": "cpu", "threads": 1}}) for run in same]
    found = groups(
        [*same, tuned(0, 200, settings={"batch_size": 128}), tuned(1, 200, label="odd", settings=batch, **odd)]
    ).unequal
    assert {one.what: one.values for one in found} == {
        "base weights of seed 1": {"efefefef": ["lora-k4"], "abababab": ["odd"]},
        "F-MNIST": {
            fmnist().id: ["lora-k4", "adapter"],
            "fmnist-s1-00000000": ["odd"],
        },
        "budget of finetune": {
            "240,640 images": ["lora-k4", "odd"],
            "120,320 images": ["adapter"],
        },
        "torch": {"2.13.0": ["lora-k4", "adapter"], "2.14.0": ["odd"]},
        "device": {"cpu": ["lora-k4"], "cuda": ["odd"]},
        "threads": {"1": ["lora-k4"], "8": ["odd"]},
    }
    assert groups(some()).unequal == []


def test_of_several_seeds_with_other_base_weights_the_first_is_told() -> None:
    other = [tuned(seed, 200, checks={"base_sha256": "ab" * 32}) for seed in range(3)]
    found = groups([*(finetune(seed) for seed in range(3)), *other]).unequal
    assert [one.what for one in found] == ["base weights of seed 0"]


def test_a_warning_names_three_rows_and_counts_the_others() -> None:
    runs = [tuned(0, 200 + i, label=f"method{i}") for i in range(6)]
    other = tuned(0, 300, label="odd", env={"torch": "2.14.0"})
    text = squeezed(render(groups_report(groups([*runs, other]))))
    assert "not the same torch: 2.13.0 (method0, method1, method2 and 3 more); 2.14.0 (odd)" in text


def test_folders_that_cannot_be_read_are_named() -> None:
    broken = [Broken(f"lora-k4-s{i}-aaaaaaaa", "no valid run record") for i in range(3)]
    found = groups(some(), broken=broken)
    text = render(groups_report(found))
    assert all(folder.id in text for folder in broken)
    assert [folder["id"] for folder in groups_data(found)["broken"]] == [folder.id for folder in broken]


def test_many_long_settings_stay_within_80_columns() -> None:
    runs = [
        finetune(seed, settings=finetune(seed).settings | {"lr": lr, "alpha": alpha, "init": init})
        for seed in range(2)
        for lr in (0.001, 0.003)
        for alpha in (8.0, 16.0)
        for init in ("talk", "kaiming")
    ]
    text = render(groups_report(groups(runs)))
    assert widest(text) <= 80
    assert "alpha=16.0" in text
    assert "0.001" in text


def test_nothing_finished_and_nothing_measured() -> None:
    assert "no run has a result" in render(groups_report(groups([failed(), fmnist(), failed(8)])))
    bare: dict[str, Any] = {"metrics": {}, "params": None, "cost": None, "checkpoint_bytes": None}
    found = groups([finetune(0), tuned(0, 1, **bare), tuned(1, 1, **bare)])
    row = rows(found)["adapter"]
    assert (row.values, row.front) == ({}, False)
    assert widest(render(groups_report(found))) <= 80


def test_the_data_are_plain_json() -> None:
    found = groups_data(groups(study()))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [row["label"] for row in found["rows"]] == ["pretrain", "lora-k4"]
    assert found["without_model"] == [fmnist().id]
