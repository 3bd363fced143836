"""One run in full, the list of runs, how a command ends, and digits in block characters."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from report_factory import (
    failed,
    finetune,
    fmnist,
    pretrain,
    render,
    squeezed,
    study,
    study_report,
    widest,
    without_escapes,
)
from rich.console import Console

from lorabench import stats
from lorabench.analysis.listing import listing_data, select
from lorabench.analysis.single import run_data, scores
from lorabench.report import detail, digits, listing
from lorabench.report.writers.terminal import renderable
from lorabench.runs import Broken, Run

NOW = datetime(2025, 11, 23, 23, 30, tzinfo=UTC)
LONG = "a-method-with-a-long-name-k128-s4294967295-0123abcd"


# One run


def test_one_run_in_full() -> None:
    text = render(detail.run_report(finetune(0)))
    flat = squeezed(text)
    low, high = stats.wilson(9_774, 10_000)
    assert f"F-MNIST 97.74 [{100 * low:.2f}, {100 * high:.2f}] 93.26 10,000" in flat
    assert "mirrored 94.62" in flat
    assert "trains 6,248 of 241,394 parameters; checkpoint 25,616 B" in flat
    assert "steps 940 training, s 4.10 the whole run, s 5.10 a step, ms 4.36 images/s 58,537" in flat
    assert "max logit change at birth 0.0" in flat
    assert "frozen unchanged yes" in flat
    assert "worst 9->4 217 3->8 9" in flat
    assert pretrain().id in flat
    assert widest(text) <= 80
    assert without_escapes(render(detail.run_report(finetune(0)), color=True)) == text


def test_a_run_without_a_base_has_no_column_for_it() -> None:
    assert "base  images" not in render(detail.run_report(pretrain()))
    assert "base  images" in render(detail.run_report(finetune()))
    assert [row.before for row in scores(pretrain())] == [None] * 5


def test_one_f_mnist_run() -> None:
    text = squeezed(render(detail.run_report(fmnist())))
    assert "train 2 1,787 5,958 29.99%" in text
    assert "test 3 303 1,010 30.00%" in text
    assert "axis horizontal" in text
    assert "sha256" not in text


def test_a_run_that_failed_shows_why() -> None:
    text = squeezed(render(detail.run_report(failed())))
    assert f"{failed().id} failed" in text
    assert "RunFailedError: the loss is NaN" in text
    assert "accuracy" not in text
    empty = fmnist().model_copy(update={"status": "failed", "checks": {}})
    assert "failed" in render(detail.run_report(empty))


def test_run_data_are_the_record_and_what_follows_from_it() -> None:
    found = run_data(finetune(0))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["run"]["schema"] == 1
    assert found["run"]["metrics"]["fmnist"]["correct"] == 9_774
    row = found["accuracy"][1]
    assert (row["label"], row["n"], row["correct"], row["accuracy"]) == ("F-MNIST", 10_000, 9_774, 97.74)
    assert row["before"] == 93.26
    assert found["worst_cells"]["fmnist"][0] == {"true": 9, "predicted": 4, "count": 217}


# The list


def listed(runs: list[Run], broken: tuple[Broken, ...] = (), width: int = 80) -> str:
    return render(listing.listing(select(runs), broken, now=NOW, width=width), width, crop=False)


def test_the_list_shows_every_run() -> None:
    text = listed([fmnist(), pretrain(), finetune(), failed()])
    assert text.splitlines()[0].split() == ["id", "status", "k", "seed", "MNIST", "F-MNIST", "trained", "age"]
    assert f"{finetune().id}   done    4     0  97.78    97.74    6,248  3 h" in text
    assert f"{failed().id}  RunFailedError: the loss is NaN" in text
    assert widest(text) <= 80


def test_ids_are_never_cut_and_what_they_say_is_dropped_first() -> None:
    runs = [finetune(0, id=LONG), failed()]
    for width, heads in (
        (120, ["id", "status", "k", "seed", "MNIST", "F-MNIST", "trained", "age"]),
        (len(LONG) + 43, ["id", "status", "k", "MNIST", "F-MNIST", "trained", "age"]),
        (len(LONG) + 29, ["id", "status", "MNIST", "F-MNIST", "age"]),
        (len(LONG) + 24, ["id", "status", "MNIST", "F-MNIST"]),
        (len(LONG) + 9, ["id", "F-MNIST"]),
        (len(LONG), ["id"]),
    ):
        text = listed(runs, width=width)
        assert text.splitlines()[0].split() == heads
        assert any(line.startswith(LONG) for line in text.splitlines())
    assert listed(runs, width=30).splitlines()[1] == LONG


def test_broken_folders_are_named() -> None:
    text = listed([finetune()], (Broken("lora-k4-s9-aaaaaaaa", "run.json: no valid run record"),))
    assert "lora-k4-s9-aaaaaaaa  cannot be read: run.json: no valid run record" in text
    found = listing_data(select([finetune()]), [Broken("lora-k4-s9-aaaaaaaa", "why")])
    assert found["broken"] == [{"id": "lora-k4-s9-aaaaaaaa", "reason": "why"}]
    assert (found["runs"][0]["id"], found["runs"][0]["fmnist"]) == (finetune().id, 97.74)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_no_runs() -> None:
    assert listed([]) == "no runs\n"


# The end of a command


@pytest.mark.parametrize("run", [pretrain(), finetune()], ids=["base", "fine-tune"])
def test_a_command_ends_with_the_run(run: Run) -> None:
    folder = Path("runs") / run.id
    text = render(detail.summary(run, cached=False, folder=folder))
    lines = text.splitlines()
    assert len(lines) <= 15
    assert widest(text) <= 80
    assert lines[0].startswith(f"{run.id}   ran ")
    assert "images/s" in lines[0]
    assert lines[-1] == str(folder)
    assert "97.78 [97.47, 98.05]" in text
    found = detail.summary_data(run, cached=False, folder=folder, next_command="lorabench ls")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["accuracy"][0]["accuracy"] == 97.78


def test_a_cached_run_says_so() -> None:
    text = render(detail.summary(fmnist(), cached=True, folder=Path("runs")))
    assert "there already, not run again" in text
    assert "axis horizontal, seed 0, sha256 train abababababab, test cdcdcdcdcdcd" in text
    assert "1,787" in text
    assert len(text.splitlines()) <= 15


def test_a_long_folder_is_not_cut() -> None:
    folder = Path("/".join(["a-folder-somewhere"] * 8)) / LONG
    text = render(detail.summary(finetune(), cached=False, folder=folder))
    assert str(folder) in text.replace("\n", "")


# Digits


def one() -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """A bright stroke in the left half."""
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 4:24, 4:9] = 255
    return image


def picture(console_encoding: str, width: int = 80, n: int = 1) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=console_encoding)
    images = np.repeat(one(), n, axis=0)
    Console(file=file, width=width, color_system=None).print(renderable(digits.preview(images, images[:, :, ::-1])))
    file.seek(0)
    return file.read().splitlines()


def test_digits_stand_above_their_mirror_images() -> None:
    lines = picture("utf-8")
    assert [lines[0], lines[10]] == ["original", "mirrored"]
    assert len(lines) == 20
    for upright, mirrored in zip(lines[1:10], lines[11:], strict=True):
        assert upright.ljust(18) == mirrored.ljust(18)[::-1]
    assert lines[5] == "  ████"


def test_a_character_holds_two_lines_of_the_picture() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[0, 0:2] = images[1, 2:3] = images[2, 0:3] = 255
    console = Console(file=io.StringIO(), width=80, color_system=None)
    top = console.render_lines(renderable(digits.preview(images, images)), pad=False)[1]
    assert "".join(segment.text for segment in top) == "  ".join(["▀" * 18, "▄" * 18, "█" * 18])


def test_digits_fit_the_width() -> None:
    assert max(map(len, picture("utf-8", n=6))) <= 80
    assert picture("utf-8", n=6)[5].count("████") == 4
    assert picture("utf-8", width=30, n=6)[5].count("███") == 1
    assert max(map(len, picture("utf-8", width=10))) <= 10


def test_digits_without_unicode_are_drawn_by_density() -> None:
    lines = picture("ascii")
    assert lines[5].strip() in ("@@@", "@@@+", "+@@@", "*@@@", "%@@@")
    assert all(line.isascii() for line in lines)


def test_tables_survive_an_output_without_unicode() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=80).print(renderable(study_report(study())))
    file.flush()


def test_a_part_without_images_has_no_row() -> None:
    run = finetune()
    none = run.metrics["fmnist"].slices["flipped"].model_copy(update={"n": 0, "correct": 0})
    run.metrics["fmnist"].slices["flipped"] = none
    assert [row.label.strip() for row in scores(run)] == ["MNIST", "F-MNIST", "not mirrored", "other digits"]
