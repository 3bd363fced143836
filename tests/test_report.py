"""The report of a study: tables say what the data say, in 80 columns; the ledger; the gate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from report_factory import (
    FMNIST,
    failed,
    finetune,
    fmnist,
    pretrain,
    render,
    squeezed,
    study,
    study_data,
    study_report,
    two_ways,
    widest,
    without_escapes,
)

from lorabench import stats
from lorabench.analysis import claims, settings
from lorabench.analysis.inference import Difference, corrected, difference
from lorabench.analysis.number import AFTER_HOLM, NO_DIFFERENCE, age, ranges, signed, verdict
from lorabench.analysis.quantities import Count
from lorabench.analysis.settings import collect, featured_setting
from lorabench.config import Expectation
from lorabench.errors import ConfigError
from lorabench.report import overview
from lorabench.report.shown import study_shown
from lorabench.runs import Params, Parents, Run


def rows(runs: list[Run]) -> dict[str, claims.Row]:
    return {row.key: row for row in claims.ledger(runs)}


def other(method: str, seed: int = 0, errors: int = 230) -> Run:
    run = finetune(seed, fmnist_errors=errors)
    return run.model_copy(
        update={
            "id": f"{method}-s{seed}-0000000{seed}",
            "method": method,
            "k": None,
            "settings": {"method": method, "lr": 0.001, "seed": seed},
        }
    )


def test_the_whole_report_fits_80_columns_with_and_without_colour() -> None:
    for runs in (study(), study([3]), [*study(), failed(), other("full"), other("adapter")]):
        plain = render(study_report(runs))
        assert widest(plain) <= 80
        assert without_escapes(render(study_report(runs), color=True)) == plain
        assert plain.isascii()


def statistics(text: str) -> str:
    """The 2x2 with its intervals and tests, and what it says of them."""
    return text[text.index("accuracy, %") :].split("what the talk says")[0]


def test_the_first_screen_says_what_fmnist_is_and_no_p() -> None:
    text = render(study_report(study()))
    first = "\n".join(text.splitlines()[:24])
    assert "F-MNIST is MNIST with 30% of the twos and threes mirrored" in squeezed(first)
    assert "not Fashion-MNIST" in squeezed(first)
    assert re.search(r"lora-k4 +97\.\d\d +97\.\d\d\n", first)
    assert "p = " not in first
    assert "p < " not in first
    assert "p < 0.0001" in statistics(text)


def test_the_2x2_holds_the_mean_interval_and_paired_difference() -> None:
    text = squeezed(render(study_report(study())))
    tuned = stats.t_interval([100 - (226 + 5 * seed) / 100 for seed in range(5)])
    gain = stats.t_interval([(222 + 452 - 226 - 5 * seed) / 100 for seed in range(5)])
    assert tuned.low is not None
    assert tuned.high is not None
    assert gain.low is not None
    assert gain.high is not None
    assert "base 97.78 (all 5) 93.26 (all 5)" in text
    assert f"{tuned.mean:.2f} [{tuned.low:.2f}, {tuned.high:.2f}]" in text
    assert f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]" in text
    assert "mean over 5 seeds" in text


def test_a_difference_whose_interval_holds_0_is_said_aloud() -> None:
    found = study_data(study())["accuracy"][1]["difference"]
    assert found["mnist"]["detectable"] is False
    assert found["fmnist"]["detectable"] is True
    gain = stats.paired_t([(448 - 5 * seed) / 100 for seed in range(5)]).p
    assert (found["fmnist"]["p"], found["fmnist"]["holm"]) == pytest.approx((gain, gain))
    assert (found["fmnist"]["sign_flip"], found["fmnist"]["least_sign_flip"]) == (0.0625, 0.0625)
    lines = render(study_report(study())).splitlines()
    below = next(lines[i + 1] for i, line in enumerate(lines) if line.startswith("  lora-k4 - base"))
    assert squeezed(below) == f"{NO_DIFFERENCE} p < 0.0001"
    assert "5 seeds cannot give it a p below 0.0625" in "\n".join(lines)


def test_two_seeds_and_equal_ones_show_their_values_and_no_verdict() -> None:
    text = statistics(render(study_report(study(range(2)))))
    assert "[" not in text
    assert "97.74, 97.69" in text
    assert "2 seeds decide nothing" in text
    assert NO_DIFFERENCE not in text
    equal = [fmnist(), *(run for seed in range(4) for run in (pretrain(seed), finetune(seed)))]
    text = squeezed(render(study_report(equal)))
    assert "97.74 (all 4)" in text
    assert "lora-k4 - base 0.00 (all 4) +4.48 (all 4) spread below one image" in text


def test_the_parts_are_corrected_for_their_number() -> None:
    """As the mirrored images of `study` gain 497 + seed, the other digits lose 20 - 9·seed."""
    runs = study()
    for run in (run for run in runs if run.stage == "finetune"):
        slices, right = run.metrics["fmnist"].slices, 7_780 + 9 * run.seed
        slices["rest"] = slices["rest"].model_copy(update={"correct": right, "accuracy": right / 7_958})
    tested = [row["difference"] for row in study_data(runs)["slices"] if row["difference"]["p"] is not None]
    assert [one["holm"] for one in tested] == stats.holm([one["p"] for one in tested])
    assert [one["of"] for one in tested] == [2, 2]


def test_what_is_said_of_a_difference() -> None:
    def apart(*gained: int) -> Difference:
        found = difference([(Count(9_300, 10_000), Count(9_300 + more, 10_000)) for more in gained])
        assert found is not None
        return found

    alone, none = apart(3, 8, 12, 1, 9), apart(-5, 6, 1, -2, 4)
    assert (verdict(alone), verdict(none)) == ("", NO_DIFFERENCE)
    assert [verdict(one) for one in corrected([alone, none, none])] == [AFTER_HOLM, NO_DIFFERENCE, NO_DIFFERENCE]
    assert [verdict(apart(*few)) for few in ((5,), (5, 9), (5, 5, 5))] == [
        "",
        "2 seeds decide nothing",
        "spread below one image",
    ]


def test_an_accuracy_stands_with_what_other_images_would_give() -> None:
    found = study_data(study())["accuracy"][1]["accuracy"]["fmnist"]
    assert found["images"]["low"] < found["low"] < found["high"] < found["images"]["high"]
    text = squeezed(render(study_report(study())))
    assert f"images too [{found['images']['low']:.2f}, {found['images']['high']:.2f}]" in text


def test_a_collapsed_seed_is_shown_beside_the_mean() -> None:
    runs = [*study(range(4)), pretrain(4), finetune(4, fmnist_errors=900)]
    assert "97.74, 97.69, 97.64, 97.59, 91.00" in squeezed(render(study_report(runs)))
    assert "91.00" not in render(study_report(study()))


def test_a_difference_has_the_number_of_its_pairs() -> None:
    """Five fine-tunes, of which one has a base that nobody measured."""
    lost = finetune(4, fmnist_errors=246).model_copy(
        update={"before": {}, "parents": Parents(base="gone", data=FMNIST)}
    )
    found = study_data([*study(range(4)), lost])["accuracy"][1]
    assert (found["accuracy"]["fmnist"]["n"], found["difference"]["fmnist"]["estimate"]["n"]) == (5, 4)
    shown = next(
        line
        for line in render(study_report([*study(range(4)), lost])).splitlines()
        if line.startswith("  lora-k4 - base")
    )
    assert shown.count("n=4") == 2


def test_one_seed_has_no_interval_and_no_spread() -> None:
    text = render(study_report(study([3])))
    above, _ = text.split("what the talk says")
    assert "1 seed: no interval" in above
    assert "mean over" not in above
    assert "97.59" in text
    assert "[" not in above.replace("[95%", "")
    assert "±" not in text
    assert NO_DIFFERENCE not in text
    assert study_data(study([3]))["accuracy"][1]["difference"]["mnist"]["detectable"] is None


def test_more_seeds_than_the_sign_flip_test_takes() -> None:
    runs = study(range(10))
    many = [
        run.model_copy(update={"seed": run.seed + 10 * i}) for i in range(3) for run in runs if run.stage == "finetune"
    ]
    found = study_data(many)["accuracy"][1]["difference"]["fmnist"]
    assert found["estimate"]["n"] == 30
    assert (found["sign_flip"], found["least_sign_flip"], found["detectable"]) == (None, None, True)
    assert "sign-flip" not in render(study_report(many))


def test_a_seed_whose_fine_tune_failed_counts_for_the_base_alone() -> None:
    runs = [*study(range(4)), pretrain(4), failed(4)]
    found = study_data(runs)
    assert found["accuracy"][0]["accuracy"]["mnist"]["n"] == 5
    assert found["accuracy"][1]["accuracy"]["mnist"]["n"] == 4
    assert found["unfinished"] == [
        {
            "id": failed(4).id,
            "status": "failed",
            "error": "RunFailedError: the loss is NaN at step 12 of 940; try a smaller finetune.lr",
        }
    ]
    text = squeezed(render(study_report(runs)))
    assert f"{failed(4).id} failed RunFailedError: the loss is NaN" in text
    assert "] n=4" in text


def test_the_base_is_what_its_fine_tunes_measured() -> None:
    measured = finetune(0).before
    lied = pretrain(0, mnist_errors=900)
    found = study_data([fmnist(), lied, finetune(0)])["accuracy"][0]
    assert found["accuracy"]["mnist"]["mean"] == 100 * measured["mnist"].accuracy
    alone = study_data([fmnist(), lied, finetune(0, before={})])["accuracy"]
    assert alone[0]["accuracy"]["mnist"]["mean"] == 100 * lied.metrics["mnist"].accuracy
    assert alone[1]["difference"]["mnist"]["estimate"]["mean"] == pytest.approx(6.78)  # pyright: ignore[reportUnknownMemberType]


def test_missing_metrics_leave_gaps_and_not_errors() -> None:
    runs = [fmnist(), finetune(0, metrics={}, before={}, params=None, checkpoint_bytes=None, checks={})]
    assert "not measured" in render(study_report(runs))
    no_mnist = finetune(0, before={}, metrics={"fmnist": finetune(0).metrics["fmnist"]})
    assert "97.74" in render(study_report([no_mnist]))


def test_nothing_finished() -> None:
    assert "no run of this study is finished" in render(study_report([failed()]))
    assert failed().id in render(study_report([failed()]))
    assert all(row.verdict == "not run here" for row in claims.ledger([]) if not row.key.startswith("gpt3."))


def test_tables_and_data_agree() -> None:
    found = study_data(study())
    text = squeezed(render(study_report(study())))
    for row in found["accuracy"]:
        for cell in row["accuracy"].values():
            interval = "(all 5)" if cell["lacks"] else f"[{cell['low']:.2f}, {cell['high']:.2f}]"
            assert f"{cell['mean']:.2f} {interval}" in text
    for row in found["slices"]:
        assert re.search(rf"{row['base']['mean']:.2f} {row['tuned']['mean']:.2f} \+?-?\d.{{0,40}} {row['n']:,} ", text)
    for row in found["parameters"]:
        assert f"{row['total']:,} {row['trainable']:,} {row['share']:.2f}% {row['checkpoint_bytes']:,} B" in text
    for change in found["confusion"]["changes"]:
        assert f"{change['true']}->{change['predicted']} {change['before']:,} to {change['after']:,}" in text
    for row in found["ledger"]:
        assert squeezed(f"{row['label']} {row['talk']} {row['ours_text'] or row['note']} {row['verdict']}") in text


def test_the_data_are_plain_json() -> None:
    found = study_data(study())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["study"] == "demo"
    assert found["seeds"] == [0, 1, 2, 3, 4]
    assert [row["share"] for row in found["parameters"]] == [100, pytest.approx(100 * 6_248 / 235_146)]
    assert found["confusion"]["before"][3][8] == 5 * 173
    assert found["confusion"]["after"][3][8] == 5 * 9


def test_the_largest_changes_come_first() -> None:
    text = squeezed(render(study_report(study())))
    assert "largest changes 9->4 0 to 1,135 4->9 1,110 to 0 3->8 865 to 45 2->5 665 to 0" in text


# Arms


def test_arms_are_runs_that_differ_in_their_seed_alone() -> None:
    slow = [finetune(s, settings=finetune(s).settings | {"lr": 0.1}) for s in (0, 1)]
    found = collect([*study([0, 1]), *slow, other("full"), failed()]).settings
    assert [(arm.label, [run.seed for run in arm.runs]) for arm in found] == [
        ("lora-k4 lr=0.003", [0, 1]),
        ("lora-k4 lr=0.1", [0, 1]),
        ("full", [0]),
    ]


def test_another_f_mnist_makes_another_arm() -> None:
    elsewhere = finetune(1, parents=Parents(base="b", data="fmnist-s9-00000000"))
    assert [arm.label for arm in collect([finetune(0), elsewhere]).settings] == [
        f"lora-k4 data={FMNIST}",
        "lora-k4 data=fmnist-s9-00000000",
    ]


def test_fine_tunes_of_one_seed_on_several_bases_all_count() -> None:
    """As `finetune.seed=0` with five seeds leaves them."""
    runs = study()
    fixed = [run.model_copy(update={"seed": 0}) if run.stage == "finetune" else run for run in runs]
    assert [len(arm.runs) for arm in collect(fixed).settings] == [5]
    assert study_data(fixed)["accuracy"] == study_data(runs)["accuracy"]


def test_fine_tunes_of_bases_trained_in_other_ways_are_other_arms() -> None:
    runs = two_ways()
    assert [(arm.label, [run.seed for run in arm.runs]) for arm in collect(runs).settings] == [
        ("lora-k4 pretrain.epochs=4", [0, 1, 2]),
        ("lora-k4 pretrain.epochs=2", [0, 1, 2]),
    ]
    unknown = [run for run in runs if run.id != "pretrain-s0-2b2c3d40"]
    assert [(arm.label, len(arm.runs)) for arm in collect(unknown).settings] == [("lora-k4", 6)]


def test_every_arm_is_compared_with_its_own_bases() -> None:
    found = study_data(two_ways())["accuracy"]
    assert [(row["label"], row["accuracy"]["mnist"]["mean"]) for row in found] == [
        ("base epochs=4", pytest.approx(97.78)),
        ("base epochs=2", pytest.approx(96.78)),
        ("lora-k4 pretrain.epochs=4", pytest.approx(97.98)),
        ("lora-k4 pretrain.epochs=2", pytest.approx(96.88)),
    ]
    assert [row["difference"]["mnist"]["estimate"]["mean"] for row in found[2:]] == pytest.approx([0.2, 0.1])
    assert {row["accuracy"]["mnist"]["n"] for row in found} == {3}
    assert rows(two_ways())["mnist.base"].value == pytest.approx(97.78)  # pyright: ignore[reportUnknownMemberType]
    full = {"method": "full", "k": None}
    of_two = [run.model_copy(update=full) if "k4-s" in run.id and "-4f3c" in run.id else run for run in two_ways()]
    assert rows(of_two)["mnist.base"].value == pytest.approx(96.78)  # pyright: ignore[reportUnknownMemberType]
    text = render(study_report(two_ways()))
    assert widest(text) <= 80
    assert "base epochs=2" in text[: text.index("on F-MNIST, %")]


def test_a_seed_twice_counts_once() -> None:
    assert [len(arm.runs) for arm in collect([finetune(0), finetune(0), finetune(1)]).settings] == [2]


def test_the_talks_lora_is_shown_in_full() -> None:
    k8 = finetune(0, k=8, id="lora-k8-s0-00000000")
    found = collect([other("full"), k8, finetune(0)]).settings
    assert [arm.label for arm in found] == ["full", "lora-k8", "lora-k4"]
    assert featured_setting(found) is found[2]
    assert featured_setting(found[:2]) is found[1]
    assert featured_setting(found[:1]) is found[0]
    assert featured_setting([]) is None


# Ledger


def trained(base_errors: Sequence[int], tuned_errors: Sequence[int], **settings: Any) -> list[Run]:
    """A base and its LoRA for each of the errors on MNIST of the one and on F-MNIST of the other."""
    runs = [fmnist()]
    for seed, (before, after) in enumerate(zip(base_errors, tuned_errors, strict=True)):
        base = pretrain(seed, before)
        tuned = finetune(seed, fmnist_errors=after, before=base.metrics)
        runs += [base, tuned.model_copy(update={"settings": tuned.settings | settings})]
    return runs


SPREAD = trained([212, 217, 222, 227, 232], [216, 221, 226, 231, 236])


def test_every_figure_of_the_talk_has_a_row() -> None:
    found = claims.ledger(SPREAD)
    assert [(row.key, row.talk, row.source, row.verdict) for row in found] == [
        ("params.total", "235,146", "counted", "exact"),
        ("mnist.base", "97.78", "measured", "reproduced"),
        ("flipped.train", "30%", "counted", "exact"),
        ("flipped.test", "30%", "counted", "exact"),
        ("fmnist.base", "92.87", "measured", "reproduced"),
        ("params.trainable", "6,248", "counted", "exact"),
        ("params.share", "3%", "counted", "rounds to 3%"),
        ("fmnist.tuned", "97.74", "measured", "reproduced"),
        ("lora.birth", "the same", "measured", "exact"),
        ("gpt3.checkpoint", "-99.99%", "computed", "holds"),
        ("cost.checkpoint", "-99.99%", "counted", "differs"),
        ("gpt3.speed", "+25%", "computed", "possible"),
        ("cost.speed", "+25%", "measured", "not run here"),
        ("gpt3.gpus", "a third", "computed", "holds"),
        ("cost.memory", "a third", "computed", "holds"),
        ("cost.peak", "a third", "measured", "no verdict"),
        ("fmnist.full", "named", "measured", "not run here"),
        ("fmnist.adapter", "named", "measured", "not run here"),
        ("fmnist.prompt", "named", "measured", "not run here"),
    ]


def test_exact_figures_are_counted_from_the_records() -> None:
    found = rows(study())
    assert (found["params.total"].value, found["params.total"].ours_text) == (235_146, "235,146")
    assert (found["params.trainable"].value, found["params.trainable"].ours_text) == (6_248, "6,248")
    assert found["params.share"].ours_text == "2.66%"
    assert (found["flipped.train"].value, found["flipped.train"].ours_text) == (
        3_626,
        "1,787 + 1,839, 29.99%",
    )
    assert (found["flipped.test"].value, found["flipped.test"].ours_text) == (613, "310 + 303, 30.02%")
    assert found["cost.checkpoint"].ours_text == "-97.28%"
    assert "1,040,552 of 3,762,336 B" in found["cost.memory"].note

    small = Params(total=1_000, trainable=500, frozen=500)
    changed = rows([pretrain(params=small), finetune(params=small)])
    assert (changed["params.total"].value, changed["params.total"].verdict) == (1_000, "differs")
    assert (changed["params.trainable"].value, changed["params.trainable"].verdict) == (500, "differs")
    assert (changed["params.share"].ours_text, changed["params.share"].verdict) == ("50.00%", "differs")


def test_gpt3s_figures_are_computed_and_the_papers_quoted() -> None:
    found = rows(study())
    assert [found[f"gpt3.{key}"].ours_text for key in ("checkpoint", "speed", "gpus")] == [
        "-99.99%",
        "up to +50%",
        "25.00%",
    ]
    text = squeezed(render(overview.ledger_table(claims.ledger(study()))))
    assert "computed: 37.75 MB of 350.5 GB" in text
    assert "quoted from the paper: +33%" in text
    assert "computed: 11 of 44 of 32 GB, at fp16" in text
    assert found["cost.memory"].value == pytest.approx(27.66, abs=0.005)  # pyright: ignore[reportUnknownMemberType]
    large = Params(total=300_000, trainable=235_146, frozen=64_854)
    assert rows([pretrain(), finetune(params=large)])["cost.memory"].verdict == "no"


def test_another_shift_than_the_talks_answers_nothing_of_it() -> None:
    settings = {"shift": "blur", "fraction": 0.3, "classes": [2, 3], "seed": 0}
    blurred = [run.model_copy(update={"settings": settings}) if run.stage == "fmnist" else run for run in study()]
    found = rows(blurred)
    assert found["flipped.train"].note == found["fmnist.tuned"].note == "here with shift=blur"
    assert found["flipped.train"].value is found["fmnist.tuned"].value is None


def test_another_count_of_the_talks_flip_differs() -> None:
    run = fmnist()
    checks = {split: counts | {"flipped": [0, 0, 1787, 0, 0, 0, 0, 0, 0, 0]} for split, counts in run.checks.items()}
    assert rows([run.model_copy(update={"checks": checks})])["flipped.train"].verdict == "differs"
    none = {split: counts | {"flipped": [0] * 10} for split, counts in run.checks.items()}
    found = rows([run.model_copy(update={"checks": none})])["flipped.train"]
    assert (found.ours_text, found.value, found.verdict) == ("none", 0, "differs")


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([216, 226, 236], "reproduced"),
        # The 90% interval is the mean ± 1.69 sd: of these, sd 20, ± 0.34 points.
        ([226 - 16 + d for d in (-20, 0, 20)], "reproduced"),
        ([226 - 17 + d for d in (-20, 0, 20)], "undecided"),
        ([226 + 16 + d for d in (-20, 0, 20)], "reproduced"),
        ([226 + 17 + d for d in (-20, 0, 20)], "undecided"),
        # The 95% interval is ± 2.48 sd: ± 0.50 points.
        ([226 + 49 + d for d in (-20, 0, 20)], "undecided"),
        ([226 + 50 + d for d in (-20, 0, 20)], "below"),
        ([226 - 49 + d for d in (-20, 0, 20)], "undecided"),
        ([226 - 50 + d for d in (-20, 0, 20)], "above"),
        # 88.29 with an interval that holds 97.74 is not below it.
        ([126, 526, 2861], "undecided"),
        # Off by 0.1 points for sure, which is as good as reproduced.
        ([235, 236, 237], "reproduced"),
        # Too few seeds, or none that differ.
        ([226], "no verdict"),
        ([225, 227], "no verdict"),
        ([1000, 1001], "no verdict"),
        ([226] * 5, "no verdict"),
        ([1000] * 5, "no verdict"),
    ],
)
def test_a_verdict_follows_from_the_interval(errors: list[int], verdict: str) -> None:
    found = rows(trained([222] * len(errors), errors))["fmnist.tuned"]
    assert (found.verdict, found.n) == (verdict, len(errors))
    assert found.value == pytest.approx(100 - sum(errors) / len(errors) / 100)  # pyright: ignore[reportUnknownMemberType]
    assert (found.low is None) == (verdict == "no verdict") == ("[" not in found.ours_text)


@pytest.mark.parametrize(
    ("settings", "open_rows"),
    [
        ({"init": "kaiming"}, {"fmnist.tuned", "lora.birth"}),
        ({"alpha": 2.0}, {"fmnist.tuned", "lora.birth"}),
        ({"alpha": 4.0}, set[str]()),  # alpha / k is 1
        ({"targets": ["fc1", "fc2", "fc3"]}, set[str]()),
        *(
            (
                change,
                {"params.trainable", "params.share", "fmnist.tuned", "lora.birth"}
                | {"cost.checkpoint", "cost.memory", "cost.peak"},
            )
            for change in ({"targets": ["fc1"]}, {"k": 8})
        ),
    ],
)
def test_another_lora_than_the_talks_answers_nothing_of_it(settings: dict[str, Any], open_rows: set[str]) -> None:
    asked = rows(SPREAD)
    runs = trained([212, 222, 232], [216, 226, 236], **settings)
    runs = [run.model_copy(update={"k": run.settings["k"]}) if run.stage == "finetune" else run for run in runs]
    found = rows(runs)
    assert {key for key, row in found.items() if row.verdict == "not run here"} == open_rows | {
        key for key, row in asked.items() if row.verdict == "not run here"
    }
    assert all(found[key].value is None and not found[key].ours_text for key in open_rows)
    assert [row.label for row in found.values()] == [row.label for row in asked.values()]
    assert ("here with" in found["fmnist.tuned"].note) == bool(open_rows)
    wanted = {key: Expectation(value=0, tolerance=1e9) for key in open_rows}
    assert len(claims.check(wanted, list(found.values()))) == len(open_rows)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": fmnist().settings | {"classes": [4, 7]}},
        {"settings": fmnist().settings | {"fraction": 0.5}},
        {"settings": fmnist().settings | {"axis": "vertical"}},
        {"holdout": 5000},
    ],
)
def test_another_f_mnist_than_the_talks_answers_nothing_of_it(change: dict[str, Any]) -> None:
    _, *runs = [*SPREAD, other("full")]
    if "holdout" in change:
        runs = [run.model_copy(update=change) for run in runs]
    found = rows([fmnist().model_copy(update=change), *runs])
    unanswered = {"flipped.train", "flipped.test", "fmnist.base", "fmnist.tuned", "lora.birth", "fmnist.full"}
    for key in unanswered | ({"mnist.base"} if "holdout" in change else set[str]()):
        assert (found[key].verdict, found[key].value) == ("not run here", None), key
    assert (found["mnist.base"].value is None) == ("holdout" in change)
    assert found["params.trainable"].verdict == "exact"


def test_an_f_mnist_that_is_not_there_is_not_the_talks() -> None:
    found = rows(SPREAD[1:])
    assert (found["fmnist.tuned"].verdict, found["fmnist.base"].verdict) == ("not run here", "not run here")
    assert found["mnist.base"].verdict == "reproduced"


def test_of_two_f_mnists_the_talks_answers() -> None:
    vertical = fmnist().model_copy(
        update={"id": "fmnist-s0-00000000", "settings": fmnist().settings | {"axis": "vertical"}}
    )
    moved = Parents(base=pretrain().id, data=vertical.id)
    runs = [finetune(seed, fmnist_errors=900, parents=moved, id=f"lora-k4-s{seed}-0000000{seed}") for seed in range(3)]
    found = rows([vertical, *runs, *SPREAD])
    assert found["fmnist.tuned"] == rows(SPREAD)["fmnist.tuned"]
    assert found["fmnist.base"] == rows(SPREAD)["fmnist.base"]
    assert found["flipped.test"].verdict == "exact"


def test_the_measured_peak_stands_beside_the_computed_state() -> None:
    def using(run: Run, peak: int, before: int | None) -> Run:
        assert run.cost is not None
        return run.model_copy(
            update={"cost": run.cost.model_copy(update={"peak_rss_bytes": peak, "rss_before_bytes": before})}
        )

    mb = 10**6
    runs = [
        using(run, 400 * mb + (150 + run.seed if run.stage == "finetune" else 30) * mb, 400 * mb) if run.cost else run
        for run in SPREAD
    ]
    found = rows(runs)["cost.peak"]
    assert (found.verdict, found.n) == ("above", 5)
    assert found.value == pytest.approx(100 * 152 / 30, rel=1e-3)  # pyright: ignore[reportUnknownMemberType]
    assert found.note == "152 MB; 30 MB to train the base"
    assert "peak: " in render(overview.ledger_note(claims.ledger(runs)))
    old = [using(run, 700 * mb, None) if run.cost else run for run in SPREAD]  # the peak of a worker's whole life
    assert (rows(old)["cost.peak"].verdict, rows(old)["cost.peak"].value) == ("not run here", None)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([2.7, 2.8, 2.9], "above"),
        ([1.1, 1.11, 1.12], "below"),
        ([0.6, 1.3, 4.0], "undecided"),
        ([1.249, 1.25, 1.251], "reproduced"),
        ([2.8, 2.9], "no verdict"),
        ([], "no verdict"),  # of a bench before it kept them
    ],
)
def test_the_speed_is_judged_by_its_range(ratios: list[float], verdict: str) -> None:
    cost = {"label": "lora k=4", "speedup": 2.8, "ratios": ratios, "state_bytes": 1, "noisy": True}
    record = {"batch_size": 256, "threads": 1, "rounds": len(ratios), "costs": [cost]}
    found = {row.key: row for row in claims.ledger([], record)}["cost.speed"]
    assert found.verdict == verdict
    assert (found.low is None) == (verdict == "no verdict") == ("[" not in found.ours_text)
    assert "noisy" in found.note


def test_a_measured_row_shows_its_one_seed_or_its_interval() -> None:
    one = rows(study([0]))["fmnist.tuned"]
    assert (one.ours_text, one.low, one.high, one.n) == ("97.74", None, None, 1)
    five = rows(study())["fmnist.tuned"]
    assert re.fullmatch(r"97\.64 \[97\.\d\d, 97\.\d\d\]", five.ours_text)
    assert five.n == 5


def test_the_legend_explains_the_verdicts_that_are_there() -> None:
    for runs in (study([0, 1]), study(), SPREAD, [*SPREAD, other("full")], []):
        found = claims.ledger(runs)
        text = render(overview.ledger_note(found))
        there = {row.verdict for row in found}
        for word in ("exact", "differs", "reproduced", "no verdict", "not run here", "runs", "undecided", "holds"):
            assert (f"{word}: " in text) == (word in there), word
        assert widest(text) <= 80


def test_lora_counts_as_the_talks_if_nothing_changes_at_birth() -> None:
    assert rows(study())["lora.birth"].value == 0.0
    moved = finetune(0, checks={"max_logit_change_at_birth": 0.002, "frozen_unchanged": True})
    found = rows([fmnist(), moved, finetune(1)])["lora.birth"]
    assert (found.verdict, found.value, found.ours_text) == ("differs", 0.002, "change by up to 0.002")


def test_other_ways_to_fine_tune_are_open_until_they_run() -> None:
    found = rows([*study(), other("full"), other("prompt", errors=640)])
    assert (found["fmnist.full"].verdict, found["fmnist.full"].ours_text) == ("runs", "97.70")
    assert found["fmnist.prompt"].value == pytest.approx(93.6)  # pyright: ignore[reportUnknownMemberType]
    assert (found["fmnist.adapter"].verdict, found["fmnist.adapter"].note) == ("not run here", "no run in this study")
    head = other("full").model_copy(update={"settings": other("full").settings | {"targets": ["fc3"]}})
    part = rows([*study(), head])["fmnist.full"]
    assert (part.verdict, part.value, part.note) == ("not run here", None, "here with targets=fc3")


def test_a_study_without_lora_leaves_its_rows_open() -> None:
    found = rows([fmnist(), pretrain(), other("full")])
    assert {key for key, row in found.items() if row.verdict == "not run here"} == {
        *("params.trainable", "params.share", "fmnist.tuned", "lora.birth"),
        *("cost.checkpoint", "cost.speed", "cost.memory", "cost.peak", "fmnist.adapter", "fmnist.prompt"),
    }


# Gate


def test_expectations_that_hold_are_silent() -> None:
    wanted = {
        "params.total": Expectation(value=235_146),
        "params.trainable": Expectation(value=6_248),
        "mnist.base": Expectation(value=97.78),
        "fmnist.tuned": Expectation(value=97.74, tolerance=0.1),
        "flipped.train": Expectation(value=3_626),
        "lora.birth": Expectation(value=0),
    }
    assert claims.check(wanted, claims.ledger(study())) == []
    assert claims.check({}, []) == []


def test_expectations_that_do_not_hold_say_by_how_much() -> None:
    wanted = {
        "fmnist.tuned": Expectation(value=97.74, tolerance=0.05),
        "params.trainable": Expectation(value=6_249),
        "fmnist.full": Expectation(value=97.8, tolerance=0.3),
    }
    assert claims.check(wanted, claims.ledger(study())) == [
        "fmnist.tuned  expected 97.74% within 0.05 points, got 97.64%",
        "params.trainable  expected 6,249, got 6,248",
        "fmnist.full  expected 97.8% within 0.3 points, and nothing measured it",
    ]


def test_a_tolerance_includes_its_end() -> None:
    row = replace(claims.ledger([])[1], value=97.74)
    assert claims.check({row.key: Expectation(value=97.64, tolerance=0.1)}, [row]) == []
    assert claims.check({row.key: Expectation(value="97.64%", tolerance="0.1%")}, [row]) == []
    assert claims.check({row.key: Expectation(value=97.63, tolerance=0.1)}, [row]) != []
    assert claims.check({row.key: Expectation(value=97.64, tolerance=0.09999999)}, [row]) != []


@pytest.mark.parametrize(
    ("key", "wanted", "hint"),
    [
        ("mnist.base", Expectation(value=0.9778), "write 0.9778% or 97.78%"),
        ("cost.checkpoint", Expectation(value=-1), "write -1% or -100%"),
        ("params.total", Expectation(value="97%"), "without %"),
        ("flipped.test", Expectation(value=613, tolerance="1%"), "without %"),
        ("params.trainable", Expectation(value=6248.5), "a whole number"),
    ],
)
def test_an_expectation_in_another_unit_than_its_rows_is_refused(key: str, wanted: Expectation, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        claims.check_keys({key: wanted})


def test_an_unknown_expectation_is_a_config_error_with_the_nearest_first() -> None:
    with pytest.raises(ConfigError) as caught:
        claims.check_keys({"fmnist.tund": Expectation(value=1), "params.totl": Expectation(value=1)})
    first, second = caught.value.problems
    assert first.startswith("expect.fmnist.tund  unknown key; known keys: fmnist.tuned, ")
    assert second.startswith("expect.params.totl  unknown key; known keys: params.total, ")
    assert all(row.key in first for row in claims.ledger([]))


# Numbers


def test_numbers() -> None:
    assert [signed(value) for value in (4.871, -0.001, 0.004, -0.02)] == ["+4.87", "0.00", "0.00", "-0.02"]
    assert ranges([4, 0, 1, 2, 7]) == "0-2, 4, 7"
    assert ranges([]) == ""


def test_ages() -> None:
    from datetime import UTC, datetime

    now = datetime(2025, 11, 23, 12, 0, tzinfo=UTC)
    since = [
        "2025-11-23T11:59:30+00:00",
        "2025-11-23T11:57:00+00:00",
        "2025-11-23T11:59:00+00:00",
        "2025-11-23T09:00:00",
        "2025-11-18T12:00:00+00:00",
    ]
    assert [age(text, now) for text in [*since, "", "2025-11-23T12:00:09+00:00"]] == [
        "30 s",
        "3 min",
        "1 min",
        "3 h",
        "5 d",
        "",
        "0 s",
    ]


def test_importing_the_report_loads_nothing_slow() -> None:
    code = (
        "import importlib, lorabench.report as report, pkgutil, sys\n"
        "for room in pkgutil.iter_modules(report.__path__, 'lorabench.report.'):\n"
        "    importlib.import_module(room.name)\n"
        "sys.exit(any(m in sys.modules for m in ('matplotlib', 'numpy', 'scipy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_report_forms_bases_and_settings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger, which is of the test set, is about the talk's F-MNIST alone and so about other bases."""
    calls: list[str] = []

    def counted(owner: object, name: str) -> None:
        made = getattr(owner, name)

        def counting(*given: Any) -> Any:
            calls.append(name)
            return made(*given)

        monkeypatch.setattr(owner, name, counting)

    counted(settings.Collection.bases, "func")
    counted(settings, "group_by_setting")
    study_shown([run.model_copy(update={"holdout": 5000}) for run in study()])
    assert sorted(calls) == ["func", "group_by_setting"]
