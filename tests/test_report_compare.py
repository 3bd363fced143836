"""Two runs: only what differs, every result with its difference, image by image where the images are the same."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_factory import FMNIST, IMAGES, failed, finetune, fmnist, pretrain, render, squeezed, widest

from lorabench import stats
from lorabench.analysis.comparison import compare, compare_data
from lorabench.analysis.number import NO_DIFFERENCE, flatten, shown
from lorabench.analysis.paired import Predictions, predictions_of, seen_by
from lorabench.analysis.single import run_data
from lorabench.report import detail
from lorabench.report.detail import compare_report
from lorabench.runs import Metrics, Parents, Run, Store

LABELS = np.repeat(np.arange(10), IMAGES).astype(np.uint8)
FIRST_TWO = int(sum(IMAGES[:2]))
FLIPPED = np.isin(np.arange(10_000), range(FIRST_TWO, FIRST_TWO + 613))
UPRIGHT = np.isin(LABELS, (2, 3)) & ~FLIPPED
PARTS = {"flipped": FLIPPED, "upright": UPRIGHT, "rest": ~FLIPPED & ~UPRIGHT}


def digits(wrong: range) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Right but for the images in `wrong`."""
    found = LABELS.copy()
    found[wrong.start : wrong.stop] = (found[wrong.start : wrong.stop] + 1) % 10
    return found


def seen(fmnist_wrong: range, mnist_wrong: range = range(0), **changes: Any) -> Predictions:
    found = Predictions(LABELS, {"mnist": digits(mnist_wrong), "fmnist": digits(fmnist_wrong)}, PARTS)
    return replace(found, **changes)


def test_only_what_differs_is_shown_under_its_kind() -> None:
    env = {"torch": "2.14.0", "packages": {"numpy": "2.4.6"}, "git": {"commit": "a" * 40, "dirty": True}}
    other = finetune(0, settings=finetune(0).settings | {"lr": 0.1}, env=env, parents=Parents(base="x", data=FMNIST))
    found = compare_data(compare(finetune(0), other))
    assert found["differing"] == [
        {"kind": "config", "key": "lr", "values": [0.003, 0.1]},
        {"kind": "base", "key": "run", "values": [pretrain().id, "x"]},
        {"kind": "code", "key": "commit", "values": [None, "a" * 40]},
        {"kind": "code", "key": "uncommitted", "values": [None, True]},
        {"kind": "environment", "key": "torch", "values": ["2.13.0", "2.14.0"]},
    ]
    text = render(compare_report(compare(finetune(0), other)))
    assert "code commit - aaaaaaaaaaaa uncommitted - yes environment torch 2.13.0 2.14.0" in squeezed(text)
    assert "epochs" not in text


def test_uncommitted_code_is_told_even_of_both() -> None:
    env = {"git": {"commit": "a" * 40, "dirty": True}}
    rows = compare(finetune(0, env=env), finetune(0, env=env)).differing
    assert [(row.key, row.values) for row in rows] == [("uncommitted", [True, True])]
    clean = {"git": {"commit": "a" * 40, "dirty": False}}
    assert compare(finetune(0, env=clean), finetune(0, env=clean)).differing == []


def test_other_data_differ_by_what_chose_them() -> None:
    other = finetune(0, parents=Parents(base=pretrain().id, data="fmnist-s1-00000000"))
    known = {
        finetune(0).id: seen(range(0), shift={"axis": "horizontal", "seed": 0}),
        "other": seen(range(0), shift={"axis": "vertical", "seed": 0}),
    }
    other = other.model_copy(update={"id": "other"})
    assert [(row.kind, row.key, row.values) for row in compare(finetune(0), other, known).differing] == [
        ("data", "F-MNIST", [FMNIST, "fmnist-s1-00000000"]),
        ("data", "F-MNIST axis", ["horizontal", "vertical"]),
    ]


def test_a_setting_that_one_run_lacks_differs() -> None:
    found = {
        (row["kind"], row["key"]): row["values"] for row in compare_data(compare(pretrain(), finetune()))["differing"]
    }
    assert found["config", "k"] == [None, 4]
    assert found["base", "run"] == [None, pretrain().id]
    assert found["config", "stage"] == ["pretrain", "finetune"]


def test_equal_settings_are_said_to_be_equal() -> None:
    assert "the settings are the same" in render(compare_report(compare(finetune(0), finetune(0))))


def test_every_number_stands_with_its_difference() -> None:
    found = {row["label"].strip(): row for row in compare_data(compare(pretrain(0), finetune(0)))["metrics"]}
    assert found["trained"]["difference"] == -228_898
    text = squeezed(render(compare_report(compare(pretrain(0), finetune(0)))))
    assert "trained 235,146 6,248 -228,898" in text
    assert "checkpoint, B 941,136 25,616 -915,520" in text
    assert "F-MNIST loss, nats 0.0712 0.0712 0.0000" in text
    assert "a step, ms 6.49 4.36 -2.13" in text


def test_a_run_without_a_result_leaves_the_others_numbers() -> None:
    text = squeezed(render(compare_report(compare(finetune(0), failed()))))
    assert "the loss is NaN" in text
    assert "trained 6,248 - -" in text
    assert "accuracy, %" not in text
    halfway = compare_data(compare(finetune(0), finetune(1, status="interrupted")))
    assert (halfway["accuracy"], halfway["confusion"], halfway["metrics"][0]["values"][1]) == ([], [], None)
    assert "no run has a result" in render(compare_report(compare(failed(), fmnist())))


# Image by image


def test_the_same_images_are_paired_on_both_sets_and_every_part() -> None:
    wrong = range(FIRST_TWO + 600, FIRST_TWO + 640)  # 13 flipped, 27 upright
    known = {pretrain().id: seen(range(60)), finetune().id: seen(wrong, range(9_990, 10_000))}
    found = compare(pretrain(), finetune(), known)
    rows = {row.name: row for row in found.accuracy}
    assert list(rows) == ["mnist", "fmnist", "fmnist.flipped", "fmnist.upright", "fmnist.rest"]
    assert {name: (row.lost, row.gained) for name, row in rows.items()} == {
        "mnist": (10, 0),
        "fmnist": (40, 60),
        "fmnist.flipped": (13, 0),
        "fmnist.upright": (27, 0),
        "fmnist.rest": (0, 60),
    }
    assert [row.first.n for row in rows.values()] == [10_000, 10_000, 613, 1_429, 7_958]
    f = rows["fmnist"]
    low, high = stats.paired_difference(40, 60, 10_000)
    assert (f.difference, f.low, f.high, f.p) == (0.2, 100 * low, 100 * high, stats.mcnemar_mid_p(40, 60))
    assert (f.first.percent, f.second.percent, f.unpaired) == (99.4, 99.6, None)
    assert [row.detectable for row in rows.values()] == [True, True, True, True, True]


def test_mirroring_is_paired_in_each_run_and_across_them() -> None:
    known = {
        pretrain().id: seen(range(FIRST_TWO, FIRST_TWO + 50), range(5)),
        finetune().id: seen(range(3, 8), range(20, 40)),
    }
    rows = {row.name: (row.lost, row.gained) for row in compare(pretrain(), finetune(), known).mirroring}
    assert rows == {"first": (50, 5), "second": (5, 20), "repair": (3, 3)}
    text = squeezed(render(compare_report(compare(pretrain(), finetune(), known))))
    assert "A to B 99.95 99.95 0.00" in text
    assert "A to B: B on F-MNIST less A on MNIST" in text


def test_no_detectable_difference_is_said_where_the_interval_holds_zero() -> None:
    known = {pretrain().id: seen(range(60)), finetune().id: seen(range(5, 70))}
    found = compare(pretrain(), finetune(), known).accuracy
    assert [row.detectable for row in found] == [False] * 5
    text = render(compare_report(compare(pretrain(), finetune(), known)))
    p = stats.mcnemar_mid_p(5, 10)
    assert f"F-MNIST 99.40 99.35 -0.05 [{found[1].low:+.2f}, {found[1].high:+.2f}]" in squeezed(text)
    assert f"F-MNIST 10 5 {p:.4f}" in squeezed(text[text.index("tests") :])
    accuracy, mirroring = (text.index(title) for title in ("accuracy, %", "mirroring"))
    assert text[accuracy:mirroring].count(NO_DIFFERENCE) == 5


def unpaired(first: Run, second: Run, known: dict[str, Predictions]) -> dict[str, str | None]:
    return {row.name: row.unpaired for row in compare(first, second, known).accuracy}


def test_another_f_mnist_is_still_compared_image_by_image_where_the_images_are_the_same() -> None:
    """Two F-MNISTs mirror 613 twos each, 600 of them in both; each run errs on 40 twos of its own."""
    other = finetune(1, parents=Parents(base=pretrain(1).id, data="fmnist-s1-00000000"))
    flipped = np.isin(np.arange(10_000), range(FIRST_TWO + 13, FIRST_TWO + 626))
    parts = {"flipped": flipped, "upright": np.isin(LABELS, (2, 3)) & ~flipped, "rest": PARTS["rest"]}
    axis = {"axis": "horizontal"}
    known = {
        finetune(0).id: seen(range(FIRST_TWO, FIRST_TWO + 40), shift=axis),
        other.id: seen(range(FIRST_TWO + 20, FIRST_TWO + 60), parts=parts, shift=axis),
    }
    rows = {row.name: row for row in compare(finetune(0), other, known).accuracy}
    assert {row.unpaired for row in rows.values()} == {None}
    counts = {name: (row.first.n, row.second.n, row.lost, row.gained) for name, row in rows.items()}
    assert counts == {
        "mnist": (10_000, 10_000, 0, 0),
        "fmnist": (10_000, 10_000, 20, 20),
        "fmnist.flipped": (600, 600, 20, 7),
        "fmnist.upright": (1_416, 1_416, 0, 0),
        "fmnist.rest": (7_958, 7_958, 0, 0),
    }
    assert [name for name, row in rows.items() if row.told] == ["fmnist", "fmnist.flipped", "fmnist.upright"]
    text = squeezed(render(compare_report(compare(finetune(0), other, known))))
    assert "F-MNIST: by index; the two F-MNISTs change 26 of the 10,000 images unlike" in text
    assert "mirrored: the 600 images that both F-MNISTs have there" in text


def test_the_same_mirrored_images_under_another_name_are_the_same() -> None:
    other = finetune(1, parents=Parents(base=pretrain(1).id, data="fmnist-s0-00000000"))
    known = {run.id: seen(range(30), shift={"axis": "horizontal"}) for run in (finetune(0), other)}
    rows = compare(finetune(0), other, known).accuracy
    assert {(row.told, row.unpaired) for row in rows} == {(None, None)}


@pytest.mark.parametrize(("key", "values"), [("axis", ("horizontal", "vertical")), ("shift", ("mirror", "invert"))])
def test_images_that_are_changed_otherwise_are_other_images(key: str, values: tuple[str, str]) -> None:
    """Whichever option of the shift says so; those that choose images do not."""
    other = finetune(1, parents=Parents(base=pretrain(1).id, data="fmnist-s1-00000000"))
    known = {
        run.id: seen(range(30), shift={key: value, "seed": seed})
        for seed, (run, value) in enumerate(zip((finetune(0), other), values, strict=True))
    }
    rows = {row.name: row for row in compare(finetune(0), other, known).accuracy}
    f = rows["fmnist.flipped"]
    low, high = stats.independent_difference((580, 613), (582, 613))
    assert (f.low, f.high, f.p, f.lost, f.gained) == (100 * low, 100 * high, None, None, None)
    assert (rows["fmnist.rest"].unpaired, rows["fmnist.upright"].told) == (None, None)
    assert rows["fmnist"].told == "by index; the two F-MNISTs change 613 of the 10,000 images unlike"
    text = squeezed(render(compare_report(compare(finetune(0), other, known))))
    assert "compared unpaired (Newcombe's interval), because of another F-MNIST" in text


def test_held_out_images_are_compared_unpaired() -> None:
    confusion = [[490 if t == p else 10 * (p == (t + 1) % 10) for p in range(10)] for t in range(10)]
    half = {
        name: Metrics(n=5_000, correct=4_900, accuracy=0.98, loss=0.1, confusion=confusion)
        for name in ("mnist", "fmnist")
    }
    other = finetune(1, metrics=half)
    held = Predictions(LABELS[::2], dict.fromkeys(half, LABELS[::2]))
    known = {finetune(0).id: seen(range(30)), other.id: held}
    assert set(unpaired(finetune(0), other, known).values()) == {"other test images"}
    assert compare(finetune(0), other, known).confusion == []
    shuffled = {finetune(0).id: seen(range(30)), other.id: seen(range(30), labels=LABELS[::-1])}
    assert set(unpaired(finetune(0), other, shuffled).values()) == {"other test images"}


def test_without_evidence_everything_is_compared_by_its_counts() -> None:
    assert set(unpaired(pretrain(), finetune(), {}).values()) == {"predictions that were not kept"}
    assert compare(pretrain(), finetune()).accuracy[1].difference == pytest.approx(97.74 - 93.26)
    lost = {run.id: seen(range(30), parts={}) for run in (pretrain(), finetune())}
    reasons = unpaired(pretrain(), finetune(), lost)
    assert [reasons["mnist"], reasons["fmnist"]] == [None, None]
    assert reasons["fmnist.flipped"] == "a record of the changed images that is gone"


def test_parts_without_images_are_left_out() -> None:
    metrics = finetune(0).metrics
    empty = metrics["fmnist"].slices | {"flipped": metrics["fmnist"].slices["flipped"].model_copy(update={"n": 0})}
    bare = metrics | {"fmnist": metrics["fmnist"].model_copy(update={"slices": empty})}
    found = compare(finetune(0), finetune(0, metrics=bare)).accuracy
    assert [row.name for row in found] == ["mnist", "fmnist", "fmnist.upright", "fmnist.rest"]


# The rest of the report


def test_confusions_come_with_the_largest_change_first() -> None:
    found = compare(pretrain(), finetune())
    assert [change.set for change in found.confusion] == ["mnist", "fmnist"]
    changes = found.confusion[1].changes
    assert [abs(c.after - c.before) for c in changes] == sorted(
        (abs(c.after - c.before) for c in changes), reverse=True
    )
    text = squeezed(render(compare_report(compare(pretrain(), finetune()))))
    assert "confusion on F-MNIST 4->9 222 to 0 9->4 0 to 217 3->8 173 to 9" in text
    assert "confusion on MNIST: no cell differs" in squeezed(render(compare_report(compare(finetune(0), finetune(0)))))


def test_the_report_fits_80_columns_at_the_widest_numbers() -> None:
    a = pretrain(0, id="pretrain-s4294967295-1b2c3d40")
    known = {a.id: seen(range(10_000)), finetune().id: seen(range(0), range(10_000))}
    text = render(compare_report(compare(a, finetune(), known)))
    assert widest(text) <= 80
    assert "100.00" in text
    assert text.isascii()


def test_unfair_comparisons_are_warned_of() -> None:
    other = finetune(0, env={"torch": "2.14.0"}, checks={"base_sha256": "ab" * 32})
    found = compare_data(compare(finetune(0), other))["unequal"]
    assert found == [
        {"what": "base weights of seed 0", "values": {"efefefef": ["A"], "abababab": ["B"]}},
        {"what": "torch", "values": {"2.13.0": ["A"], "2.14.0": ["B"]}},
    ]
    assert "warning: not the same torch: 2.13.0 (A); 2.14.0 (B)" in render(compare_report(compare(finetune(0), other)))


def test_a_fine_tuned_run_is_paired_with_its_own_base() -> None:
    own = {"mnist": LABELS, "fmnist": digits(range(20)), "before_mnist": LABELS, "before_fmnist": digits(range(10, 80))}
    found = run_data(finetune(0), own, LABELS)["paired"]
    assert [(row["name"], row["lost"], row["gained"]) for row in found] == [("mnist", 0, 0), ("fmnist", 10, 60)]
    text = render(detail.run_report(finetune(0), own, LABELS))
    assert "tuned - base" in text
    assert widest(text) <= 80
    assert run_data(finetune(0))["paired"] == []


def test_the_data_are_plain_json() -> None:
    known = {pretrain().id: seen(range(60)), finetune().id: seen(range(5, 70))}
    found = compare_data(compare(pretrain(0), finetune(0), known))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["runs"] == [pretrain().id, finetune().id]


def test_settings_in_a_users_words() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [1]}) == {"a.b.c": 1, "d": [1]}
    assert [shown(value) for value in (None, True, False, [2, 3], "x", 0.01)] == ["-", "yes", "no", "2, 3", "x", "0.01"]


# Predictions


def npz(**arrays: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def stored(root: Path) -> Store:
    """F-MNIST with its flips, and a fine-tune with predictions on F-MNIST, on disk."""
    store = Store(root)
    for run, name, data in (
        (fmnist(), "flips.npz", npz(test=FLIPPED)),
        (finetune(), "predictions.npz", npz(labels=LABELS, fmnist=digits(range(9)))),
    ):
        with store.start(run, "") as folder:
            folder.write(name, data)
            folder.finish(run)
    return store


def test_evidence_comes_from_the_run_and_from_its_f_mnist(tmp_path: Path) -> None:
    store = stored(tmp_path)
    run = store.load(finetune().id)
    found = predictions_of(store, run)
    assert found.labels is not None
    assert (found.labels == LABELS).all()
    assert list(found.predicted) == ["fmnist"]
    assert {name: int(mask.sum()) for name, mask in found.parts.items()} == {
        "flipped": 613,
        "upright": 1429,
        "rest": 7958,
    }
    assert found.shift["axis"] == "horizontal"
    held_out = run.model_copy(update={"id": "lora-k4-s1-00000000"})
    with store.start(held_out, "") as folder:
        folder.write("predictions.npz", npz(labels=LABELS[:5_000], fmnist=LABELS[:5_000]))
        folder.finish(held_out)
    assert predictions_of(store, store.load(held_out.id)).parts == {}
    (tmp_path / FMNIST / "flips.npz").write_bytes(b"damaged")
    assert predictions_of(store, run).parts == {}


def test_a_lost_f_mnist_leaves_the_predictions(tmp_path: Path) -> None:
    store = stored(tmp_path)
    (tmp_path / FMNIST / "run.json").unlink()
    found = predictions_of(store, store.load(finetune().id))
    assert (found.parts, found.shift, list(found.predicted)) == ({}, {}, ["fmnist"])


def test_what_a_fine_tune_recorded_of_its_base_is_seen_alone() -> None:
    base, own = np.zeros(3, np.uint8), np.ones(3, np.uint8)
    seen = seen_by(Predictions(own, {"before_mnist": base, "mnist": own, "fmnist": own})).predicted
    assert list(seen) == ["mnist"]
    assert seen["mnist"] is base
