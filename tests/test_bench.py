"""bench: bytes are counted right, times are there, and the talk's claim on speed is answered from them."""

from __future__ import annotations

import io
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from lorabench import bench
from lorabench.analysis import claims, inference
from lorabench.errors import UsageError
from lorabench.report.costs import costs_table
from lorabench.report.writers.terminal import renderable
from lorabench.runs import Store


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    chosen = bench.cases(["full", "lora", "adapter", "bitfit"], [4])
    found = bench.record(chosen, batch_size=64, rounds=3, steps=3, device=torch.device("cpu"))
    return json.loads(json.dumps(found))


def costs(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cost["label"]: cost for cost in record["costs"]}


def test_bytes_are_counted_exactly(record: dict[str, Any]) -> None:
    found = costs(record)
    # Weights, gradients and two averages of 4 bytes each, and a step counter of 4 bytes per trained tensor.
    assert found["full"]["state_bytes"] == 4 * 4 * 235_146 + 4 * 6
    assert found["lora k=4"]["state_bytes"] == 4 * 241_394 + 3 * 4 * 6_248 + 4 * 6
    # What the forward of 64 images keeps: shared/methods.md gives the same figures, from another program.
    assert found["full"]["saved_bytes"] == 302_084
    assert found["lora k=4"]["saved_bytes"] == 305_156
    assert found["adapter"]["saved_bytes"] == 105_476
    assert found["bitfit"]["saved_bytes"] == 101_380
    assert found["lora k=4"]["checkpoint_bytes"] == 24_992
    assert found["full"]["checkpoint_bytes"] == 940_584


def test_times_are_there_and_in_order(record: dict[str, Any]) -> None:
    for cost in record["costs"]:
        step = cost["step_ms"]
        assert 0 < step["p10"] <= step["median"] <= step["p90"]
        assert cost["images_per_s"] == pytest.approx(64_000 / step["median"])
        assert 0 < cost["peak_share"] < math.inf  # how fast the processor is at this moment: no bound holds
        assert set(cost["latency_us"]) == {"1", "64", "1024"}
    found = costs(record)
    assert (found["full"]["speedup"], found["full"]["speedup_low"]) == (1, None)
    assert set(found["lora k=4"]["merged_us"]) == {"1", "64", "1024"}
    assert found["adapter"]["merged_us"] == {}


def test_the_table_fits_80_columns(record: dict[str, Any]) -> None:
    page = io.StringIO()
    Console(file=page, width=80).print(renderable(costs_table(record)))
    lines = page.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("lora k=4") and "305.2" in line for line in lines)


def test_the_ledger_answers_the_talks_speed(record: dict[str, Any]) -> None:
    row, found = {row.key: row for row in claims.ledger([], record)}["cost.speed"], costs(record)["lora k=4"]
    assert row.value == pytest.approx(100 * (found["speedup"] - 1))
    assert row.low == pytest.approx(100 * (found["speedup_low"] - 1))
    assert row.high == pytest.approx(100 * (found["speedup_high"] - 1))
    assert {row.key: row for row in claims.ledger([])}["cost.speed"].verdict == "not run here"


def test_the_speed_up_is_the_mean_of_the_rounds_ratios_with_its_interval(record: dict[str, Any]) -> None:
    found = costs(record)["lora k=4"]
    assert len(found["ratios"]) == record["rounds"] == 3
    logarithms = [math.log(ratio) for ratio in found["ratios"]]
    mean, half = statistics.mean(logarithms), 4.302653 * statistics.stdev(logarithms) / math.sqrt(3)
    expected = [math.exp(mean + sign * half) for sign in (0, -1, 1)]
    assert [found[key] for key in ("speedup", "speedup_low", "speedup_high")] == pytest.approx(expected)
    assert (inference.ratio([2.0, 3.0]).low, inference.ratio([2.0, 3.0]).high) == (None, None)


def test_a_method_whose_steps_take_half_as_long_is_twice_as_fast() -> None:
    full, lora = (bench._Bench(case, 64, torch.device("cpu")) for case in bench.cases(["lora"], [4]))  # pyright: ignore[reportPrivateUsage]
    full.step_s, lora.step_s = [[4.0, 4.0]] * 3, [[2.0, 2.0]] * 3
    lora.time_latencies(2)
    assert lora.costs(full, 1e12).ratios == [2, 2, 2]


def test_noise_is_flagged(record: dict[str, Any]) -> None:
    for cost in record["costs"]:
        assert cost["noisy"] == (cost["step_ms"]["p90"] > 2 * cost["step_ms"]["p10"] or cost["peak_share"] > 1)
    for noisy in (False, True):
        shown = {**record, "costs": [{**cost, "noisy": noisy} for cost in record["costs"]]}
        page = io.StringIO()
        Console(file=page, width=80).print(renderable(costs_table(shown)))
        assert ("!" in page.getvalue()) == noisy


def test_cases() -> None:
    assert [case.label for case in bench.cases(["lora"], [1, 2])] == ["full", "lora k=1", "lora k=2"]
    assert len(bench.cases([], [4])) == len(bench.methods.METHODS)
    with pytest.raises(UsageError, match="no method is called 'nonsense'"):
        bench.cases(["nonsense"], [4])


def test_the_record_is_kept(tmp_path: Path, record: dict[str, Any]) -> None:
    store = Store(tmp_path / "runs")
    assert store.newest_bench() is None
    store.remember_bench(record)
    assert store.newest_bench() == record
