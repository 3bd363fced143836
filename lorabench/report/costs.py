"""What `bench` measured: two tables, and the talk's cost claims answered from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorabench.report.style import grid, group, note, stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.report.blocks import Block


Cost = dict[str, Any]
"""One entry of a bench record: the fields of `lorabench.bench.Costs` as plain data."""


def costs_table(record: Mapping[str, Any]) -> Block:
    """A bench record, readable at 80 columns: training, then inference."""
    found: Sequence[Cost] = record["costs"]
    training = grid(
        "training", "step ms", "p10-p90", "images/s", "x full", "peak", "state MB", "saved kB", align="<>>>>>>>"
    )
    for cost in found:
        step = cost["step_ms"]
        training.add_row(
            cost["label"],
            f"{step['median']:.2f}",
            f"{step['p10']:.2f}-{step['p90']:.2f}{'!' if cost['noisy'] else ''}",
            f"{cost['images_per_s']:,.0f}",
            _speedup(cost),
            f"{100 * cost['peak_share']:.0f}%",
            f"{cost['state_bytes'] / 1e6:.3f}",
            f"{cost['saved_bytes'] / 1e3:,.1f}",
        )
    batches = list(found[0]["latency_us"])
    heads = [f"{n}{kind}" for n in batches for kind in ("", " m")]
    inference = grid("inference, µs", "trained", "file B", *heads, align="<>>" + ">" * len(heads))
    for cost in found:
        cells: list[str] = []
        for n in batches:
            merged = cost["merged_us"].get(n)
            cells += [f"{cost['latency_us'][n]['median']:,.0f}", f"{merged['median']:,.0f}" if merged else "-"]
        inference.add_row(cost["label"], f"{cost['trainable']:,}", f"{cost['checkpoint_bytes']:,}", *cells)
    how = (
        f"batch {record['batch_size']}, {record['threads']} thread(s) on {record['device']}, torch {record['torch']}; "
        f"{record['rounds']} rounds of {record['steps']} steps, every method in each;\n"
        "x full: mean of the rounds' ratios, and its 95% interval from 3 rounds on;\n"
        "peak: share of a large matrix product's rate at its fastest;\n"
        "state: weights, gradients, Adam, counted; saved: kept by a forward of 64 images for\n"
        "the backward, counted; inference: median of one forward at each batch size, m: merged"
    )
    if any(cost["noisy"] for cost in found):
        how += (
            "\n!: the machine had something else to do: steps differ by a factor of 2, or the peak is above 100%;\n"
            "these times are of that too, so run bench again on an idle one"
        )
    return stack([training, group(inference, note(how))])


def _speedup(cost: Cost) -> str:
    """`2.84 2.71-2.98`, the range as far as there is one; empty without a full case."""
    if cost["speedup"] is None:
        return ""
    if cost["speedup_low"] is None:
        return f"{cost['speedup']:.2f}"
    return f"{cost['speedup']:.2f} {cost['speedup_low']:.2f}-{cost['speedup_high']:.2f}"
