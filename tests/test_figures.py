"""Figures: each draws the numbers it should, says its units and its n, and is left out where its data is not there."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_factory import failed, finetune, fmnist, pretrain

from lorabench import stats
from lorabench.errors import InputError
from lorabench.report import figures
from lorabench.report.figures import Material, Missing, Pictures
from lorabench.report.figures.planes import place
from lorabench.runs import Epoch, Params, Run, Slice

NAMES = ("confusions", "samples", "rank", "parameters", "forgetting", "spectra", "curves")
LAYERS = ("fc1", "fc2", "fc3")


def arm(k: int, seed: int, fmnist_errors: int, mnist_errors: int = 232) -> Run:
    """One run of LoRA at rank k."""
    run = finetune(seed, mnist_errors, fmnist_errors)
    spectrum = {layer: {"frobenius": k + seed, "stable_rank": 1.5, "rank90": k} for layer in LAYERS}
    return run.model_copy(
        update={
            "id": f"lora-k{k}-s{seed}-{k:08x}",
            "k": k,
            "params": Params(total=235_146 + 1_562 * k, trainable=1_562 * k, frozen=235_146),
            "settings": run.settings | {"k": k},
            "checks": {"delta_w": spectrum},
        }
    )


def history(run: Run, epochs: int = 3) -> list[Epoch]:
    return [
        Epoch(epoch=e + 1, loss=(1 + run.seed) / (e + 1), accuracy=0.9 + 0.01 * e, lr=0.01, seconds=1.0)
        for e in range(epochs)
    ]


def pictures() -> Pictures:
    """Forty images, each of one grey; the first 30 mirrored, 1 in 10 of them still wrong, and two of the others."""
    images = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), dtype=np.uint8)
    truth = np.full(40, 2, dtype=np.uint8)
    after = truth.copy()
    after[[5, 15, 25, 35, 36]] = 8
    return Pictures("lora-k4", images, images + 100, np.arange(40) < 30, truth, np.full(40, 5, dtype=np.uint8), after)


def ranks() -> Material:
    """LoRA at three ranks over three seeds, with their bases."""
    runs = [fmnist(), *(pretrain(seed) for seed in range(3))]
    runs += [arm(k, seed, 300 - 10 * k + 4 * seed) for k in (1, 4, 8) for seed in range(3)]
    return Material(runs, {run.id: history(run) for run in runs if run.stage != "fmnist"}, pictures())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_a_label_of_any_length_is_cut_and_leaves_room(name: str) -> None:
    """Each character is an outline: of five runs with 420 settings of their own each, a page had 125 MB."""
    told = {f"x{number}": "a long word" for number in range(20)}
    runs = [pretrain()]
    for k in (1, 4):
        run = arm(k, 0, 250)
        other = {"id": f"lora-k{k}-s0-0000000{k}9", "settings": run.settings | told}
        runs += [run, run.model_copy(update=other)]
    material = Material([fmnist(), *runs], {run.id: history(run) for run in runs}, replace(pictures(), label="x" * 999))
    figure = figures.draw(name, material)
    figure.draw_without_rendering()
    words = said(figure).splitlines()
    assert max(map(len, words)) < 160
    assert any("…" in text for text in words) or name == "confusions"


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    material = ranks()
    return {name: figures.draw(name, material) for name in NAMES}


def said(figure: Figure) -> str:
    """All that is written on a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def visible(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]


def bars(axes: Axes) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The ends of every interval that is drawn."""
    segments = [s for found in axes.collections if isinstance(found, LineCollection) for s in found.get_segments()]
    return [(tuple(np.asarray(s)[0]), tuple(np.asarray(s)[-1])) for s in segments]


def points(axes: Axes) -> list[tuple[float, float]]:
    """Single points with a marker."""
    found = [line for line in axes.lines if line.get_marker() not in {"None", "", "_", "|"}]
    return [(x, y) for line in found for x, y in np.asarray(line.get_xydata()).tolist() if len(line.get_xdata()) == 1]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_its_axes_and_its_n(name: str, drawn: dict[str, Figure]) -> None:
    figure = drawn[name]
    assert re.search(r"n = [\d,]+", said(figure))
    for axes in visible(figure):
        shared_x = bool(axes.get_subplotspec() and not axes.get_subplotspec().is_last_row() and name == "curves")  # pyright: ignore[reportOptionalMemberAccess]
        assert axes.get_xlabel() or shared_x
        assert axes.get_ylabel() or name == "spectra"


def test_confusions_are_means_over_the_seeds_for_base_and_tuned(drawn: dict[str, Figure]) -> None:
    panels = [axes for axes in visible(drawn["confusions"]) if axes.images]
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles[:2] == ["base: MNIST, 97.78% right", "base: F-MNIST, 93.26% right"]
    assert titles[2].startswith("lora-k4: MNIST, 97.68%")
    shown = {tuple(map(int, t.get_position())): t.get_text() for t in panels[1].texts}
    assert shown[8, 3] == "173"
    assert shown[3, 3] == str(1010 - 75 - 173)
    assert np.asarray(panels[1].images[0].get_array())[3, 8] == pytest.approx(100 * 173 / 1010)
    mean = {tuple(map(int, t.get_position())): t.get_text() for t in panels[3].texts}
    assert mean[4, 9] == str(round(np.mean([260 + 4 * seed - 9 for seed in range(3)])))


def test_rank_draws_means_intervals_and_the_base(drawn: dict[str, Figure]) -> None:
    axes = visible(drawn["rank"])[1]
    base, series = axes.lines[0], axes.lines[1]
    assert base.get_ydata()[0] == pytest.approx(93.26)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    assert np.asarray(series.get_xdata()).tolist() == [1, 4, 8]
    expected = [stats.t_interval([97.0 + 0.1 * k - 0.04 * seed for seed in range(3)]) for k in (1, 4, 8)]
    assert np.asarray(series.get_ydata()).tolist() == pytest.approx([e.mean for e in expected])
    ends = [(low[1], high[1]) for low, high in bars(axes)]
    assert ends == [pytest.approx((e.low, e.high)) for e in expected]


def test_parameters_draws_every_arm_and_the_front(drawn: dict[str, Figure]) -> None:
    axes = visible(drawn["parameters"])[0]
    means = {1_562 * k: 97.0 + 0.1 * k - 0.04 for k in (1, 4, 8)}
    assert dict(points(axes)) == pytest.approx(means)
    corners = np.asarray(next(line for line in axes.lines if len(line.get_xdata()) > 3).get_xydata())  # pyright: ignore[reportArgumentType]
    assert corners[0].tolist() == pytest.approx([1_562, means[1_562]])
    assert corners[-1][1] == pytest.approx(means[1_562 * 8])
    assert {"lora-k1", "lora-k4", "lora-k8"} <= set(said(drawn["parameters"]).splitlines())


@pytest.mark.parametrize("losses", [[3, -6, 12], [100, -200, 400]], ids=["narrow", "wider than the means lie apart"])
def test_forgetting_draws_gain_against_loss_with_both_whole_intervals(losses: list[int]) -> None:
    runs = [fmnist()]
    gains = [490, 500, 512]
    for seed, (gain, loss) in enumerate(zip(gains, losses, strict=True)):
        run = finetune(seed, 222 + loss)
        before = run.before["fmnist"].slices["flipped"].correct
        part = Slice(n=613, correct=before + gain, accuracy=(before + gain) / 613)
        changed = run.metrics["fmnist"].model_copy(update={"slices": {"flipped": part}})
        runs += [pretrain(seed), run.model_copy(update={"metrics": run.metrics | {"fmnist": changed}})]
    figure = figures.draw("forgetting", Material(runs))
    axes = visible(figure)[0]
    assert "so one point" in said(figure)
    x, y = stats.t_interval([loss / 100 for loss in losses]), stats.t_interval([100 * g / 613 for g in gains])
    assert points(axes) == [pytest.approx((x.mean, y.mean))]
    assert [value for end in bars(axes) for value in end] == [
        pytest.approx((x.low, y.mean)),
        pytest.approx((x.high, y.mean)),
        pytest.approx((x.mean, y.low)),
        pytest.approx((x.mean, y.high)),
    ]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert all(left <= a <= right and bottom <= b <= top for end in bars(axes) for a, b in end)


def test_spectra_draw_what_the_runs_recorded(drawn: dict[str, Figure]) -> None:
    frobenius, stable, rank = visible(drawn["spectra"])
    assert [x for x, _ in points(frobenius)] == pytest.approx([k + 1 for k in (1, 4, 8) for _ in LAYERS])
    assert {x for x, _ in points(stable)} == {1.5}
    assert [x for x, _ in points(rank)] == [k for k in (1, 4, 8) for _ in LAYERS]
    assert [t.get_text() for t in frobenius.get_yticklabels()] == ["lora-k1", "lora-k4", "lora-k8"]


def test_spectra_name_who_has_none() -> None:
    zero = {layer: {"frobenius": 0.0, "stable_rank": 0.0, "rank90": 0} for layer in LAYERS}
    runs = [
        arm(4, 0, 226),
        arm(1, 0, 226).model_copy(update={"checks": {"delta_w": zero}}),
        arm(8, 0, 226).model_copy(update={"checks": {"delta_w_skipped": "a nonlinearity"}}),
    ]
    text = said(figures.draw("spectra", Material(runs)))
    assert text.count("ΔW = 0") == 3
    assert "cannot be merged: lora-k8" in text
    assert "1 seed, so no interval" in text


def test_curves_draw_mean_and_range(drawn: dict[str, Figure]) -> None:
    upper, lower = visible(drawn["curves"])
    lines = {str(line.get_label()): line for line in upper.lines}
    assert list(lines) == ["base", "lora-k1", "lora-k4", "lora-k8"]
    assert np.asarray(lines["base"].get_ydata()).tolist() == pytest.approx([2, 1, 2 / 3])
    band = upper.collections[0].get_paths()[0].vertices
    assert sorted({float(y) for x, y in np.asarray(band) if x == 1}) == [1, 3]
    assert np.asarray(lower.lines[0].get_ydata()).tolist() == pytest.approx([90, 91, 92])


def test_samples_draw_the_images_and_count_the_mistakes(drawn: dict[str, Figure]) -> None:
    axes = drawn["samples"].axes
    assert int(np.asarray(axes[0].images[0].get_array())[0, 0]) == 0
    assert int(np.asarray(axes[10].images[0].get_array())[0, 0]) == 100
    assert [int(np.asarray(a.images[0].get_array())[0, 0]) - 100 for a in axes[20:23]] == [5, 15, 25]
    text = said(drawn["samples"])
    assert "mirrored and still wrong: 3 of 30" in text
    assert "not mirrored and wrong: 2 of 10" in text
    assert text.count("2 → 5") == 10
    assert text.count("2 → 8") == 5


def test_what_is_missing_is_said_and_nothing_is_drawn(tmp_path: Path) -> None:
    outcomes = figures.write(Material([fmnist(), failed()]), tmp_path / "none")
    assert [outcome.name for outcome in outcomes] == list(NAMES)
    assert all(outcome.missing and not outcome.files for outcome in outcomes)
    assert not (tmp_path / "none").exists()
    assert figures.svgs(Material([])) == []


def test_one_run_alone_has_no_comparisons() -> None:
    run = finetune(0)
    one = Material([run], {run.id: history(run, 1)})
    for name in ("rank", "parameters", "curves", "spectra", "samples"):
        with pytest.raises(Missing):
            figures.draw(name, one)
    assert "1 seed" in said(figures.draw("confusions", one))
    assert "1 seed, so no interval" in said(figures.draw("forgetting", one))


def overlapping(texts: Sequence[Any], figure: Figure) -> list[tuple[str, str]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    # Of the letters alone: an annotation counts its arrow, too.
    for text in texts:
        text.update_positions(renderer)
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]


@pytest.mark.parametrize("seed", range(2))
def test_labels_of_a_crowd_do_not_overlap(seed: int) -> None:
    chance = random.Random(seed)
    crowd = [(chance.gauss(0, 0.1), chance.gauss(75, 1)) for _ in range(25)]
    spots = [*crowd, *((chance.uniform(0, 1.4), chance.uniform(50, 78)) for _ in range(6))]
    figure = Figure(figsize=(6.8, 4.6))
    axes = figure.subplots()
    for x, y in spots:
        axes.plot([x], [y], "o")
    placed = place(axes, spots, [f"method-k{index} kaiming"[: 8 + index % 9] for index in range(len(spots))])
    assert overlapping(placed, figure) == []
    frame = axes.get_window_extent()
    for label in placed:
        box = label.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1


def measured_on_fmnist_alone() -> list[Run]:
    """Runs that leave two figures, or with their histories three, which are quick to write."""
    return [
        run.model_copy(update={"metrics": {"fmnist": run.metrics["fmnist"]}, "before": {}, "checks": {}})
        for run in ranks().runs
        if run.stage == "finetune"
    ]


@pytest.fixture(scope="module")
def inline() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The same figures, twice."""
    runs = measured_on_fmnist_alone()
    material = Material(runs, {run.id: history(run) for run in runs})
    return figures.svgs(material), figures.svgs(material)


def test_the_same_runs_give_the_same_bytes(inline: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> None:
    first, second = inline
    assert first == second
    assert [title for title, _ in first] == [
        "Accuracy against k",
        "Accuracy against trained parameters",
        "Training curves",
    ]
    assert not any(re.search(r"dc:date|\b20\d\d-\d\d-\d\d\b", text) for _, text in first)


def test_figures_in_one_page_do_not_collide(inline: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> None:
    page = "".join(text for _, text in inline[0])
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    assert "*{" not in re.sub(r"#\w+ \*\{", "", page)


def test_an_inline_figure_is_xml_with_a_name_and_no_font(
    inline: tuple[list[tuple[str, str]], list[tuple[str, str]]],
) -> None:
    for title, text in inline[0]:
        root = ET.fromstring(text)
        assert root.tag.endswith("svg")
        assert root.get("aria-label") == title
        assert not list(root.iter("{http://www.w3.org/2000/svg}text"))
        assert list(root.iter("{http://www.w3.org/2000/svg}use"))


def test_files_are_written_beside_each_other(tmp_path: Path) -> None:
    alone = measured_on_fmnist_alone()
    outcomes = figures.write(Material(alone), tmp_path / "a" / "b")
    files = [file for outcome in outcomes for file in outcome.files]
    assert sorted(tmp_path.rglob("*.*")) == sorted(files)
    assert [file.name for file in files] == ["rank.png", "rank.svg", "parameters.png", "parameters.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        figures.write(Material(alone), blocked)


def test_matplotlib_is_imported_late_quietly_and_left_as_it_was(tmp_path: Path) -> None:
    """Its folder cannot be written, of which it would tell on stderr; a user's own settings do not come through."""
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from lorabench.report import figures; import report_factory as f\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures.draw('forgetting', figures.Material(f.study([0])))\n"
        "import matplotlib\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "before = matplotlib.rcParams.copy()\n"
        "assert before['svg.hashsalt'] is None and before['font.size'] == matplotlib.rcParamsDefault['font.size']\n"
        "figures.draw('forgetting', figures.Material(f.study([0])))\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    blocked = tmp_path / "file"
    blocked.write_text("")
    env = {**os.environ, "MPLCONFIGDIR": str(blocked)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_lines_differ_without_colour(drawn: dict[str, Figure]) -> None:
    lines = visible(drawn["curves"])[0].lines
    looks = {(str(line.get_linestyle()), str(line.get_marker())) for line in lines}
    assert len(looks) == len(lines)
