"""Confusion matrices: every number printed at 80 columns, with colour and without, and the right shades."""

from __future__ import annotations

import pytest
from report_factory import HURT, IMAGES, matrix, render, widest, without_escapes

from lorabench.analysis.single import largest_changes, recalls, summed, worst_cells
from lorabench.report import digits

BEFORE = matrix({(4, 9): 30, **HURT})
AFTER = matrix({(4, 9): 35, (3, 8): 9, (7, 1): 3})


def body(text: str) -> list[list[str]]:
    """The cells of the ten rows, without the row's label."""
    return [line.split()[1:] for line in text.splitlines() if line[:1].isdigit() and line[1:2] == " "]


def test_one_matrix_prints_every_count_and_recall() -> None:
    rows = body(render(digits.confusion(BEFORE, "base")))
    assert [[0 if cell == "." else int(cell) for cell in row[:10]] for row in rows] == BEFORE
    assert rows[3][10] == f"{100 * (1010 - 75 - 173) / 1010:.2f}"
    assert rows[0][10] == "100.00"


@pytest.mark.parametrize("runs", [1, 5, 20, 100, 400])
def test_every_view_fits_80_columns_however_many_runs_are_added(runs: int) -> None:
    before, after = summed([BEFORE] * runs), summed([AFTER] * runs)
    for view in (
        digits.confusion(before, "base"),
        digits.side_by_side(before, after, ("a name of a run " * 5, "lora-k4")),
        digits.difference(before, after, "difference"),
    ):
        text = render(view)
        assert widest(text) <= 80
        assert len(text.splitlines()) == 12
    assert str(runs * 173) in render(digits.confusion(before, "base"))


def test_two_matrices_stand_in_percent_of_the_true_digit() -> None:
    text = render(digits.side_by_side(BEFORE, AFTER, ("base", "lora-k4")))
    assert " ".join(body(text)[3]) == ". . . 75 . 7 . . 17 . 75.45 . . . 99 . . . . 1 . 99.11"
    assert text.splitlines()[0].split() == ["base", "lora-k4"]


def test_a_difference_prints_its_signs() -> None:
    rows = body(render(digits.difference(BEFORE, AFTER, "change")))
    assert rows[3][3] == "+239"
    assert rows[3][8] == "-164"
    assert rows[4][9] == "+5"
    assert rows[4][4] == "-5"
    assert rows[3][10] == f"{100 * 239 / 1010:+.2f}"
    assert rows[0] == ["."] * 10 + ["+0.00"]


def test_colour_adds_nothing_that_its_absence_loses() -> None:
    for view in (
        digits.confusion(BEFORE, "base"),
        digits.side_by_side(BEFORE, AFTER, ("base", "lora-k4")),
        digits.difference(BEFORE, AFTER, "change"),
    ):
        coloured = render(view, color=True)
        assert "\x1b[" in coloured
        assert without_escapes(coloured) == render(view)


def test_worse_is_red_and_better_is_blue_on_and_off_the_diagonal() -> None:
    worse = render(digits.difference(matrix({}), matrix({(2, 5): 133}), ""), color=True)
    better = render(digits.difference(matrix({(2, 5): 133}), matrix({}), ""), color=True)
    red, blue = "48;2;240;112;58", "48;2;90;155;208"
    assert worse.count(red) == 2
    assert blue not in worse
    assert better.count(blue) == 2
    assert red not in better


def test_shades_follow_the_share_of_the_true_digit() -> None:
    for share, ink in (
        (0.25, "48;2;176;0;0"),
        (0.1, "48;2;240;112;58"),
        (0.05, "48;2;240;176;128"),
        (0.02, "48;2;246;220;196"),
    ):
        text = render(digits.confusion(matrix({(5, 8): round(share * IMAGES[5])}), ""), color=True)
        assert text.count(ink) == 1
    assert "2;208;112;58" not in render(digits.confusion(matrix({(5, 8): 4}), ""), color=True)


def test_worst_cells_and_largest_changes_come_in_order() -> None:
    assert [(c.true, c.predicted, c.count) for c in worst_cells(BEFORE, 3)] == [
        (3, 8, 173),
        (2, 5, 133),
        (3, 5, 75),
    ]
    assert worst_cells(matrix({})) == []
    changes = largest_changes(BEFORE, AFTER)
    assert [(c.true, c.predicted, c.before, c.after) for c in changes] == [
        (3, 8, 173, 9),
        (2, 5, 133, 0),
        (3, 5, 75, 0),
        (2, 6, 71, 0),
        (4, 9, 30, 35),
        (7, 1, 0, 3),
    ]
    assert len(largest_changes(BEFORE, AFTER, 2)) == 2


def test_a_digit_without_images_has_no_recall() -> None:
    empty = [[0] * 10 for _ in range(10)]
    assert recalls(empty) == [None] * 10
    assert widest(render(digits.side_by_side(empty, BEFORE, ("a", "b")))) <= 80
    assert body(render(digits.difference(empty, empty, "")))[0] == ["."] * 10


def test_matrices_stand_below_each_other_where_they_do_not_fit_beside() -> None:
    pair = digits.side_by_side(matrix({(3, 8): 300}), matrix({}), ("before", "after"))
    wide, narrow = render(pair, 80).splitlines(), render(pair, 60).splitlines()
    assert (len(wide), len(narrow)) == (12, 25)
    assert wide[0].split() == ["before", "after"]
    assert [row for row in narrow if row.strip() in ("before", "after")] == [narrow[0], narrow[13]]
    assert max(map(len, narrow)) <= 60


def test_a_wide_matrix_is_drawn_tighter_on_a_narrow_screen() -> None:
    changed = digits.difference(matrix({(3, 8): 1000}), matrix({(2, 5): 1000}), "after - before")
    rows = {width: render(changed, width).splitlines() for width in (80, 60)}
    assert [len(lines) for lines in rows.values()] == [12, 12]
    assert max(map(len, rows[60])) <= 60 < max(map(len, rows[80]))
