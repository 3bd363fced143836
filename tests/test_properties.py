"""What holds for every config, every run record and every IDX file, whatever is in them."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from benchmarks import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from report_factory import cost, finetune, metrics

from lorabench import config
from lorabench.data.idx import read_idx, write_idx
from lorabench.errors import ConfigError, InputError
from lorabench.runs import Params, Run, Store

cheap = settings(max_examples=60, deadline=None, derandomize=True, database=None)
"""The same examples every time, so that no build fails by chance; the fuzzer looks for others."""

words = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
numbers = st.integers() | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([*config.Config().model_dump(mode="json"), "k", "method", "lora", "seeds"]) | words
positive = st.floats(1e-12, 1e12)


def load(text: str) -> config.Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return config.load([path]).config


@cheap
@given(
    finetune=st.fixed_dictionaries(
        {},
        optional={
            "method": st.just("lora"),
            "k": st.integers(1, 64),
            "lr": positive,
            "epochs": st.integers(1, 1_000_000),
            "targets": st.lists(st.sampled_from(["fc1", "fc2", "fc3"]), min_size=1, unique=True),
            "seed": st.integers(0, 2**32 - 1),
        },
    ),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True),
    warmup=st.floats(0, 1),
)
def test_a_config_reads_back_what_it_writes(finetune: dict[str, Any], seeds: list[int], warmup: float) -> None:
    given_config = {"finetune": finetune, "study": {"seeds": seeds}, "pretrain": {"warmup": warmup}}
    loaded = load(yaml.safe_dump(given_config))
    assert loaded.study.seeds == tuple(seeds)
    assert loaded.pretrain.warmup == warmup
    assert loaded.finetune.options["k"] == finetune.get("k", 4)
    assert load(config.dump(loaded, "a header")) == loaded


@cheap
@given(st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=3), max_size=3))
def test_any_mapping_is_a_config_or_refused_by_name(mapping: dict[str, Any]) -> None:
    try:
        loaded = load(yaml.safe_dump(mapping, allow_unicode=True))
    except ConfigError as error:
        refused = error.problems
    else:
        assert load(config.dump(loaded)) == loaded
        return
    assert refused
    assert all(refused)


def read(text: str, run_id: str) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / run_id).mkdir()
        (Path(folder) / run_id / "run.json").write_text(text, encoding="utf-8")
        return Store(Path(folder)).load(run_id)


@cheap
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.none() | st.integers(0, 4096),
    mistakes=st.dictionaries(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.integers(0, 10)),
    trainable=st.integers(1, 2**53),
    seconds=st.floats(1e-3, 1e9),
    study=words.filter(str.isprintable),
)
def test_a_record_reads_back_what_it_says(
    seed: int, k: int | None, mistakes: dict[tuple[int, int], int], trainable: int, seconds: float, study: str
) -> None:
    run = finetune(
        k=k,
        metrics={"mnist": metrics(mistakes)},
        params=Params(total=trainable, trainable=trainable, frozen=0),
        cost=cost(seconds),
        study=study,
    ).model_copy(update={"seed": seed})
    assert read(run.model_dump_json(by_alias=True), run.id) == run


RECORD = json.loads(finetune().model_dump_json(by_alias=True))


@cheap
@given(field=st.sampled_from(sorted(RECORD)), value=values)
def test_a_record_with_anything_in_a_field_is_a_run_or_refused(field: str, value: Any) -> None:
    try:
        run = read(json.dumps(RECORD | {field: value}), RECORD["id"])
    except InputError as error:
        refused = str(error)
    else:
        assert run.id == RECORD["id"]
        return
    assert RECORD["id"] in refused
    assert refused.isprintable()


images = arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5).filter(lambda s: len(s) != 2))


@cheap
@given(array=images, packed=st.booleans(), cut=st.floats(0, 1, exclude_max=True))
def test_an_idx_file_gives_what_was_written_and_nothing_less(array: Any, packed: bool, cut: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain"
        write_idx(path, array)
        whole = path.read_bytes()
        if packed:
            path = path.with_suffix(".gz")
            path.write_bytes(gzip.compress(whole))
        assert np.array_equal(read_idx(path), array)
        assert read_idx(path).shape == array.shape
        short = whole[: int(cut * len(whole))]
        path.write_bytes(gzip.compress(short) if packed else short)
        with pytest.raises(InputError):
            read_idx(path)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_random_input_is_taken_or_refused(target: str) -> None:
    refused, failed = fuzz.fuzz(target, inputs=60, seed=1)
    assert failed == 0
    assert 0 < refused < 60
