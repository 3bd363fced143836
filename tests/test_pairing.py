"""Which two runs are compared, and which runs are one setting: `partner` and `fold`, rule by rule."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from report_factory import FMNIST, finetune, pretrain

from lorabench.analysis.settings import featured_setting, group_by_setting, matched_run
from lorabench.runs import Parents, Run

BASES = {run.id: run for run in (pretrain(0), pretrain(1), pretrain(2))}


def on(base: Run, seed: int, name: str = "lora-k4", **changes: Any) -> Run:
    """A fine-tune with this seed, of a base with another or the same."""
    digits = f"{seed}{base.seed}{sum(map(ord, base.id)):06x}"
    return finetune(seed, id=f"{name}-s{seed}-{digits}", parents=Parents(base=base.id, data=FMNIST), **changes)


@pytest.mark.parametrize("known", [BASES, {}], ids=["bases known", "bases unknown"])
def test_a_run_and_what_it_was_made_from_are_partners_whatever_their_seeds(known: dict[str, Run]) -> None:
    bases = list(BASES.values())
    tuned = [on(bases[1], 0), on(bases[2], 1), on(bases[0], 2)]
    for run, base in zip(tuned, (bases[1], bases[2], bases[0]), strict=True):
        assert matched_run(run, bases, known) is base
        assert matched_run(base, tuned, known) is run


def test_of_the_same_seed_the_one_on_the_same_base_is_the_partner() -> None:
    """Before one on a base of the same seed, such as one that was trained longer."""
    longer = pretrain(0, id="pretrain-s0-99999999")
    known = BASES | {longer.id: longer}
    run = on(pretrain(0), 5)
    others = [on(longer, 5, "adapter"), on(pretrain(0), 5, "adapter")]
    for order in itertools.permutations(others):
        assert matched_run(run, order, known) is others[1]
        assert matched_run(run, order, {}) is others[1]
    assert matched_run(run, others[:1], known) is others[0]


def test_a_fine_tune_of_another_seed_on_the_same_base_is_no_partner() -> None:
    run, others = on(pretrain(0), 0), [on(pretrain(0), 1, "adapter"), on(pretrain(1), 0, "adapter")]
    assert matched_run(run, others, {}) is others[1]
    assert matched_run(run, others[:1], BASES) is None


def test_of_several_of_the_same_seed_none_is_taken_at_random() -> None:
    run, others = on(pretrain(0), 0), [on(pretrain(1), 0, "adapter"), on(pretrain(2), 0, "adapter")]
    assert matched_run(run, others, BASES) is None
    assert matched_run(run, others, {}) is None
    assert matched_run(run, others[:1], BASES) is others[0]
    assert matched_run(run, [], BASES) is None


def test_a_setting_is_its_runs_in_the_order_of_their_seeds_and_bases() -> None:
    runs = [on(pretrain(base), seed) for seed in (0, 1) for base in (0, 1, 2)]
    for order in (runs[::-1], runs[3:] + runs[:3], runs):
        (arm,) = group_by_setting(order, BASES)
        assert list(arm.runs) == runs


def test_of_two_runs_of_one_seed_and_one_base_the_last_counts() -> None:
    first, second = on(pretrain(0), 0), on(pretrain(0), 0, mnist_errors=500)
    assert group_by_setting([first, second], BASES)[0].runs == (second,)


def test_a_setting_is_shown_in_full_that_is_the_talks_as_far_as_one_is() -> None:
    four, eight = on(pretrain(0), 0), on(pretrain(0), 0, "lora-k8", k=8)
    adapter = on(pretrain(0), 0, "adapter", method="adapter", k=None)
    for order in itertools.permutations([four, eight, adapter]):
        found = featured_setting(group_by_setting(order, BASES))
        assert found is not None
        assert found.runs == (four,)
    found = featured_setting(group_by_setting([adapter, eight], BASES))
    assert found is not None
    assert found.runs == (eight,)
