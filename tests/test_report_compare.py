"""Runs side by side: only what differs, every result with its difference, paired where the images are the same."""

from __future__ import annotations

import json

import numpy as np
from report_factory import IMAGES, failed, finetune, fmnist, pretrain, render, squeezed, study, widest

from lorabench import report, stats
from lorabench.report.accuracy import NO_DIFFERENCE
from lorabench.report.compare import compare
from lorabench.report.setting import flatten, shown

LABELS = np.repeat(np.arange(10), IMAGES).astype(np.uint8)


def predictions(wrong: range) -> dict[str, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """Right but for the images in `wrong`, on both sets."""
    digits = LABELS.copy()
    digits[wrong.start : wrong.stop] = (digits[wrong.start : wrong.stop] + 1) % 10
    return {"mnist": LABELS.copy(), "fmnist": digits}


def test_only_settings_that_differ_are_shown() -> None:
    other = finetune(
        0, settings=finetune(0).settings | {"lr": 0.1}, env={"torch": "2.14.0", "packages": {"numpy": "2.4.6"}}
    )
    found = report.compare_data([finetune(0), other])
    assert found["settings"] == [
        {"key": "lr", "values": [0.003, 0.1]},
        {"key": "env.torch", "values": ["2.13.0", "2.14.0"]},
    ]
    text = render(report.compare_report([finetune(0), other]))
    assert "lr" in text
    assert "epochs" not in text


def test_a_setting_that_one_run_lacks_differs() -> None:
    found = {row["key"]: row["values"] for row in report.compare_data([pretrain(), finetune()])["settings"]}
    assert found["k"] == [None, 4]
    assert found["base"] == [None, pretrain().id]
    assert found["stage"] == ["pretrain", "finetune"]


def test_equal_settings_are_said_to_be_equal() -> None:
    assert "the settings are the same" in render(report.compare_report([finetune(0), finetune(0)]))


def test_every_metric_stands_with_its_difference_from_the_first() -> None:
    runs = [pretrain(0), finetune(0)]
    found = {row["label"].strip(): row for row in report.compare_data(runs)["metrics"]}
    assert found["MNIST accuracy, %"]["values"] == [97.78, 97.78]
    assert found["F-MNIST accuracy, %"]["values"] == [93.26, 97.74]
    assert found["trained"]["differences"] == [0, -228_898]
    text = squeezed(render(report.compare_report(runs)))
    assert "MNIST accuracy, % 97.78 97.78 0.00" in text
    assert "F-MNIST accuracy, % 93.26 97.74 +4.48" in text
    assert "flipped 13.54 94.62 +81.08" in text
    assert "trained 235,146 6,248 -228,898" in text
    assert "checkpoint, B 941,136 25,616 -915,520" in text


def test_many_runs_take_several_tables_of_80_columns() -> None:
    runs = [run for run in study(range(10)) if run.stage == "finetune"]
    text = render(report.compare_report(runs))
    assert widest(text) <= 80
    for letter, run in zip("ABCDEFGHIJ", runs, strict=True):
        assert f"{letter}     {run.id}" in text
    for letter in "BCDEFGHIJ":
        assert f"{letter} - A" in text


def test_the_28th_run_has_a_letter_too() -> None:
    runs = [finetune(0, id=f"lora-k4-s0-{i:08x}") for i in range(28)]
    lines = render(report.compare_report(runs)).splitlines()
    assert [line.split()[0] for line in lines[26:29]] == ["Z", "AA", "AB"]


def test_a_failed_run_shows_its_error_and_no_results() -> None:
    text = render(report.compare_report([finetune(0), failed()]))
    assert failed().id in text
    assert "the loss is NaN" in squeezed(text)
    assert "94.62  -      -" in text
    halfway = finetune(1, status="interrupted")
    assert report.compare_data([finetune(0), halfway])["metrics"][0]["values"][1] is None


def test_runs_without_results() -> None:
    assert "no run has a result" in render(report.compare_report([failed(), fmnist()]))


def test_two_runs_on_the_same_images_are_paired() -> None:
    runs = [pretrain(0), finetune(0)]
    given = {runs[0].id: predictions(range(500, 560)), runs[1].id: predictions(range(550, 580))}
    mnist, f = compare(runs, given, LABELS).paired
    assert (mnist.lost, mnist.gained, mnist.p, mnist.detectable) == (0, 0, 1.0, False)
    assert (f.n, f.lost, f.gained) == (10_000, 20, 50)
    low, high = stats.paired_difference(20, 50, 10_000)
    assert (f.difference, f.low, f.high) == (0.3, 100 * low, 100 * high)
    assert f.p == stats.mcnemar_exact(20, 50)
    text = squeezed(render(report.compare_report(runs, given, LABELS)))
    assert f"F-MNIST +0.30 [{100 * low:+.2f}, {100 * high:+.2f}] 20 50 p = {f.p:.4f}" in text
    assert NO_DIFFERENCE in text
    assert report.compare_data(runs, given, LABELS)["paired"][1]["lost"] == 20


def test_nothing_is_paired_without_labels_or_predictions_or_with_three_runs() -> None:
    runs = [pretrain(0), finetune(0)]
    given = {run.id: predictions(range(10)) for run in runs}
    assert compare(runs, given, None).paired == []
    assert compare(runs, None, LABELS).paired == []
    assert compare(runs, {runs[0].id: given[runs[0].id]}, LABELS).paired == []
    assert compare([*runs, finetune(1)], given, LABELS).paired == []


def test_a_fine_tuned_run_is_paired_with_its_own_base() -> None:
    own = predictions(range(20)) | {f"before_{name}": p for name, p in predictions(range(10, 80)).items()}
    found = report.run_data(finetune(0), own, LABELS)["paired"]
    assert [(row["set"], row["lost"], row["gained"]) for row in found] == [("mnist", 0, 0), ("fmnist", 10, 60)]
    text = render(report.run_report(finetune(0), own, LABELS))
    assert "tuned - base" in text
    assert widest(text) <= 80
    assert report.run_data(finetune(0))["paired"] == []


def test_the_data_are_plain_json() -> None:
    runs = [pretrain(0), finetune(0), failed()]
    found = report.compare_data(runs)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["runs"] == [run.id for run in runs]


def test_settings_in_a_users_words() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [1]}) == {"a.b.c": 1, "d": [1]}
    assert [shown(value) for value in (None, True, False, [2, 3], "x", 0.01)] == ["-", "yes", "no", "2, 3", "x", "0.01"]
