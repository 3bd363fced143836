"""`lorabench.study` on runs that are there: its data are the command's, and a damaged note beside them costs none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from report_factory import finetune, fmnist, pretrain

import lorabench
from lorabench.errors import LorabenchError
from lorabench.report.shown import Shown, study_shown
from lorabench.runner import queue
from lorabench.runs import Run, Store


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of a study as if they had been there."""

    def run(*_: object, **__: object) -> dict[str, Run]:
        return {run.id: run for run in (fmnist(), pretrain(), finetune())}

    monkeypatch.setattr(queue, "run", run)


@pytest.mark.parametrize("note", [".bench.json", ".scale.json"])
def test_a_damaged_note_costs_no_report(tmp_path: Path, note: str) -> None:
    (tmp_path / note).write_text("{")
    with pytest.warns(UserWarning, match="left out: "):
        found = lorabench.study(seeds=1, runs_dir=tmp_path, workers=1, quiet=True)
    assert [row["label"] for row in found.data["accuracy"]] == ["base", "lora-k4"]


def test_the_report_hears_of_both_notes_as_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []

    def shown(runs: Sequence[Run], *costs: object) -> Shown:
        heard.extend(costs)
        return study_shown(runs)

    def bench(_: Store) -> str:
        return "bench"

    def measurement(_: Store) -> str:
        return "measurement"

    monkeypatch.setattr("lorabench.report.shown.study_shown", shown)
    monkeypatch.setattr(Store, "newest_bench", bench)
    monkeypatch.setattr(Store, "newest_measurement", measurement)
    lorabench.study(seeds=1, runs_dir=tmp_path, workers=1, quiet=True)
    assert heard == ["bench", "measurement"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k  finetune.k  input should be"),
        ({"seeds": "4-0"}, "seeds  study.seeds  the range"),
        ({"workers": 0}, "workers  study.workers  input"),
        ({"settings": {"threads": 0}}, 'settings["threads"]  threads  input'),
        ({"k": 2, "config": "methods"}, "k: study.methods of the config"),
        ({"workers": 2, "engine": "dask://a:1"}, "workers: the workers of dask://a:1"),
        ({"data_dir": "x", "engine": "dask://a:1"}, "data_dir: the workers of dask://a:1"),
    ],
)
def test_what_is_wrong_is_called_as_python_calls_it(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(LorabenchError) as raised:
        lorabench.study(runs_dir=tmp_path, quiet=True, **wrong)
    assert str(raised.value).startswith(message)
