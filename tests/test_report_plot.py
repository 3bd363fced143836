"""The terminal's pictures: a run's sparklines, and accuracy against k."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from report_factory import finetune, fmnist, pretrain, render, squeezed, study_report, two_ways, widest
from rich.console import Console

from lorabench.analysis.groups import rank_series
from lorabench.analysis.single import run_data
from lorabench.report import detail
from lorabench.report.blocks import Block
from lorabench.report.figures import Material
from lorabench.report.figures.training import curves_of
from lorabench.report.plot import LONGEST, rank_plot, sparkline, training_table
from lorabench.report.shown import runs_shown
from lorabench.report.writers.terminal import renderable
from lorabench.runs import Epoch, Run, Store


def epochs(n: int) -> list[Epoch]:
    return [Epoch(epoch=e + 1, loss=1 / (e + 1), accuracy=0.9 + e / 1000, lr=0.1, seconds=1) for e in range(n)]


def lora(k: int, seed: int, errors: int, **settings: object) -> Run:
    run = finetune(seed, 222, errors)
    tag = f"{k:04x}{len(settings):04x}"
    return run.model_copy(
        update={"id": f"lora-k{k}-s{seed}-{tag}", "k": k, "settings": run.settings | {"k": k, **settings}}
    )


def study(seeds: int = 3) -> list[Run]:
    runs = [lora(k, seed, 300 - 10 * k + 6 * seed) for k in (1, 4, 8) for seed in range(seeds)]
    return [fmnist(), *(pretrain(seed) for seed in range(seeds)), *runs]


def shown(block: Block | None) -> Block:
    assert block is not None
    return block


def test_a_sparkline_goes_from_least_to_greatest() -> None:
    assert sparkline([3, 2, 1]) == "█▅▁"
    assert sparkline([5, 5]) == "▁▁"
    assert len(sparkline(range(LONGEST))) == LONGEST
    assert LONGEST / 2 < len(sparkline(range(1000))) <= LONGEST
    assert sparkline(range(1000)) == "".join(sorted(sparkline(range(1000))))


def test_training_prints_the_first_and_the_last_value() -> None:
    text = squeezed(render(shown(training_table(epochs(4)))))
    assert "loss, nats 1.0000 █▃▂▁ 0.2500" in text
    assert "accuracy, % 90.00 ▁▃▆█ 90.30" in text
    assert "1 epoch has no curve" in render(shown(training_table(epochs(1))))
    assert training_table([]) is None


def test_a_run_in_full_shows_its_training() -> None:
    assert "█▃▂▁" in render(detail.run_report(finetune(), history=epochs(4)))
    assert len(run_data(finetune(), history=epochs(4))["history"]) == 4


def test_a_plot_has_a_line_for_each_k_with_its_interval() -> None:
    text = render(shown(rank_plot(study())))
    lines = [line for line in text.splitlines() if "●" in line]
    assert [next(word for word in line.split() if "." in word) for line in lines] == ["97.04", "97.34", "97.74"]
    assert all("├" in line and "┤" in line and line.index("├") < line.index("●") < line.index("┤") for line in lines)
    columns = [line.index("●") for line in lines]
    assert columns == sorted(columns)
    assert "over 3 seeds" in text
    assert widest(text) <= 80


def test_the_base_is_drawn_across_all_lines() -> None:
    lines = render(shown(rank_plot(study()))).splitlines()
    assert len({line.index("┆") for line in lines if "┆" in line}) == 1
    assert sum("┆" in line for line in lines) == 4


def test_one_seed_has_no_interval_and_ascii_is_enough() -> None:
    written = io.BytesIO()
    console = Console(file=io.TextIOWrapper(written, encoding="ascii"), width=80)
    console.print(renderable(shown(rank_plot(study(1)))))
    console.file.flush()
    text = written.getvalue().decode()
    assert sum(" o" in line for line in text.splitlines()) >= 3
    assert "1 seed: no interval" in text


def test_an_interval_wider_than_the_means_lie_apart_is_shown_whole() -> None:
    text = render(shown(rank_plot([*study(), lora(16, 0, 300), lora(16, 1, 900), lora(16, 2, 100)])))
    *narrow, wide = [line[26:] for line in text.splitlines() if "●" in line]
    assert "├" in wide
    assert "┤" in wide
    assert all(line.rindex("●") < wide.index("┤") for line in narrow)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_plot_fits_the_terminal(width: int) -> None:
    assert widest(render(shown(rank_plot(study())), width)) <= width


def test_series_differ_in_k_alone() -> None:
    runs = [lora(k, 0, 300 - k, init=init) for k in (1, 4) for init in ("talk", "kaiming")]
    assert [(s.label, [p.k for p in s.points]) for s in rank_series(runs)] == [
        ("lora talk", [1, 4]),
        ("lora kaiming", [1, 4]),
    ]
    tuned = [lora(1, 0, 300, lr=0.1), lora(4, 0, 290, lr=0.01)]
    assert [[p.k for p in s.points] for s in rank_series(tuned)] == [[1, 4]]
    twice = [lora(k, 0, 300 - k, lr=lr) for k in (1, 4) for lr in (0.1, 0.01)]
    assert [[p.k for p in s.points] for s in rank_series(twice)] == [[1, 4], [1, 4]]
    assert rank_series([lora(4, 0, 300)]) == []
    assert rank_plot([lora(4, 0, 300)]) is None


def test_ranks_on_bases_trained_in_other_ways_are_other_series(tmp_path: Path) -> None:
    runs = two_ways()
    more = [
        run.model_copy(update={"k": 8, "id": run.id.replace("k4", "k8"), "settings": run.settings | {"k": 8}})
        for run in runs
        if run.stage == "finetune"
    ]
    assert [(s.label, [p.k for p in s.points]) for s in rank_series([*runs, *more])] == [
        ("lora pretrain.epochs=4", [4, 8]),
        ("lora pretrain.epochs=2", [4, 8]),
    ]
    text = render(shown(rank_plot([*runs, *more])))
    assert "lora pretrain.epochs=4     4  " in text
    assert "base" not in text, "there is no one accuracy of the bases"
    store = Store(tmp_path)
    for base in (run for run in runs if run.stage == "pretrain"):
        with store.start(base, "") as folder:
            folder.finish(base)
    alone = render(runs_shown(store, [run for run in [*runs, *more] if run.stage == "finetune"]).table)
    assert "lora pretrain.epochs=4     4  " in alone


def test_a_long_word_of_a_name_does_not_touch_its_k() -> None:
    runs = [lora(k, 0, 300 - k, alpha_of_a_very_long_name=a) for k in (1, 4) for a in (1000.0, 2000.0)]
    text = render(shown(rank_plot(runs)))
    assert "lora alpha_of_a_very_long_     1 " in text
    assert "name=1000.0                    4 " in text
    assert widest(text) <= 80


def test_reports_show_the_plot_where_there_are_two_ranks(tmp_path: Path) -> None:
    assert "accuracy against k" in render(study_report(study()))
    assert "accuracy against k" in render(runs_shown(Store(tmp_path), study()[4:]).table)
    assert "accuracy against k" not in render(
        runs_shown(Store(tmp_path), [finetune(0), finetune(1), finetune(2)]).table
    )


def test_bases_trained_in_other_ways_have_training_curves_of_their_own() -> None:
    runs = two_ways()
    found = curves_of(Material(runs, {run.id: epochs(2) for run in runs}, "no images"))
    assert [(curve.label, len(curve.loss)) for curve in found] == [
        ("base epochs=4", 3),
        ("base epochs=2", 3),
        ("lora-k4 pretrain.epochs=4", 3),
        ("lora-k4 pretrain.epochs=2", 3),
    ]


def test_a_history_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    draft = finetune(status="running")
    assert store.history(draft) == []
    with store.start(draft, "") as folder:
        folder.write("history.jsonl", "".join(e.model_dump_json() + "\n" for e in epochs(3)).encode())
        folder.finish(draft)
    assert store.history(store.load(draft.id)) == epochs(3)
