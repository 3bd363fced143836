"""Sweeps: grids and how they are refused, the table, what is there already, points that fail, workers that die."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import report_factory
from command_line import CommandLine
from report_factory import render, squeezed, widest
from test_config import CONFIGS, load

from lorabench import config, events, sweep
from lorabench.analysis.quantities import HEADLINE, Count
from lorabench.errors import ConfigError, InputError, RunFailedError, UsageError, WorkerDiedError
from lorabench.events import Event
from lorabench.report import sweep as tables
from lorabench.runner import engines, queue, stages
from lorabench.runner.queue import Result
from lorabench.runner.stages import Stage
from lorabench.runs import Store
from lorabench.sweep import Counts, FailedRun, GridPoint, SweepResult, TunedRun, tuned_run

TINY = ["pretrain.epochs=1", "pretrain.batch_size=5000", "finetune.epochs=1", "finetune.batch_size=5000", "threads=1"]


def planned(*axes: str, sets: Sequence[str] = (), files: Sequence[Path] = ()) -> sweep.Plan:
    return sweep.plan(config.gather(files, sets), axes)


def refused(*axes: str, sets: Sequence[str] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(*axes, sets=sets)
    return caught.value.problems


def test_a_point_is_the_fine_tune_that_its_settings_would_be() -> None:
    found = planned("k=1,2", "lora.lr=1e-3,3e-3", sets=["study.seeds=0-2"])
    assert [point.values for point in found.points] == [(1, 1e-3), (1, 3e-3), (2, 1e-3), (2, 3e-3)]
    alone = load(sets=["finetune.k=2", "finetune.lr=1e-3", "seed=1"]).config
    assert found.points[2].tuned[1].id == stages.finetune(alone).id
    assert [stage.kind for stage in found.todo] == ["fmnist", *["pretrain"] * 3, *["finetune"] * 12]
    assert {stage.config.study.name for stage in found.todo} == {"sweep"}


@pytest.mark.parametrize(
    ("axis", "key"),
    [
        ("finetune.method=lora,bitfit", "finetune.method"),
        ("pretrain.epochs=1,2", "pretrain.epochs"),
        ("fmnist.fraction=0.1,0.3", "fmnist.fraction"),
        ("fmnist.classes=[2],[2, 3]", "fmnist.classes"),
        ("targets=null,[fc1, fc3]", "finetune.targets"),
        ("adapter.bottleneck=4,8", "finetune.bottleneck"),
        ("init=talk,kaiming", "finetune.init"),
        ("finetune.seed=0,1", "finetune.seed"),
    ],
)
def test_any_setting_can_be_an_axis(axis: str, key: str) -> None:
    found = planned(axis, sets=["study.seeds=0"])
    (only,) = found.axes
    assert ".".join(map(str, only.path)) == key
    assert [point.values[0] for point in found.points] == list(only.values)
    assert len({point.tuned[0].id for point in found.points}) == 2
    assert {stage.method for point in found.points for stage in point.tuned} <= {"lora", "bitfit", "adapter"}


def test_points_share_the_objects_of_what_no_axis_touches() -> None:
    """Of 90,000 points each has an object of its own for nothing but what differs."""
    one, other = (stage.config for point in planned("k=1,2", sets=["study.seeds=0"]).points for stage in point.tuned)
    assert one.finetune != other.finetune
    for section in ("pretrain", "fmnist", "study", "sweep"):
        assert getattr(one, section) is getattr(other, section), section


def test_the_flag_wins_over_the_file_for_its_axis_alone(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("sweep: {name: mine, grid: {k: [1, 2, 4], lr: [1e-3]}}\nstudy: {seeds: 3}\n")
    found = planned("k=8", files=[path])
    assert [(axis.key, axis.values) for axis in found.axes] == [("k", (8,)), ("lr", (1e-3,))]
    assert (found.config.sweep.name, found.config.study.seeds) == ("mine", (3,))
    assert found.loaded.origins["finetune.k"] == "--grid k"
    assert found.loaded.origins["finetune.lr"] == f"{path}:1:42"


def test_all_mistakes_of_a_grid_are_named_at_once() -> None:
    found = refused("k=1,0", "lorra.lr=1", "finetune.epocs=1", "targets=", "lora.lr=-1,1e-3", sets=["pretrain.lr=x"])
    assert found == [
        '--grid lorra.lr  lorra.lr  lorra is neither a section nor a method; did you mean "lora"?',
        "--grid targets=  must have the form KEY=VALUE,VALUE",
        '--set pretrain.lr=x  pretrain.lr  input should be a valid number; got "x"',
        "--grid lora.lr  finetune.lr  input should be greater than 0; got -1",
        '--grid finetune.epocs  finetune.epocs  unknown key; did you mean "epochs"?',
        "--grid k  finetune.k  input should be greater than or equal to 1; got 0",
    ]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["bottelneck=4"], "finetune.bottelneck  unknown key of the method lora; known keys: method, targets"),
        (["lora.kk=4"], 'finetune.kk  unknown key; did you mean "k"?'),
        (["k=1", "finetune.k=2"], "finetune.k  is the same setting as k"),
        (["lora.k=1", "dora.lr=2"], "dora.lr  is of another method than lora.k"),
        (["lora.k=1", "finetune.method=dora,lora"], "lora.k  says the method, and finetune.method another"),
        (["finetune.method=lora,bitfit", "k=1,2"], "finetune.k  unknown key"),
        (["threads=1,2"], "threads=1 and threads=2 are the same runs"),
        (["seed=1,2"], "seeds are named by --seeds or study.seeds"),
        (["k=4,4"], "a value is named twice"),
        (["lr=null,3e-2"], "lr=null and lr=0.03 are the same runs"),
        (["k=1", "k=2"], "--grid k=2  names k again"),
        (["k=[1"], "--grid k=[1"),
        (["k=1\nx: 2"], "--grid"),
        (["pretrain.seed=0,1", "finetune.seed=0,1"], "study.seeds  pretrain.seed and finetune.seed are both set"),
        (["holdout=5000,0"], "--grid holdout  holdout  the points would be measured on different images"),
        (["finetune={k: 1},{k: 2}"], "finetune  is a whole section; name one setting, e.g. finetune.k"),
        (["pretrain={epochs: 1},{epochs: 2}"], "pretrain  is a whole section; name one setting"),
        (["k"], "must have the form KEY=VALUE,VALUE"),
        (["k=" + ",".join(map(str, range(1, 400))), "lr=" + ",".join(f"{i}e-6" for i in range(1, 400))], "159,201"),
    ],
)
def test_a_wrong_grid_is_refused(axes: list[str], message: str) -> None:
    assert message in "\n".join(refused(*axes))


def test_seeds_that_change_nothing_are_refused_and_one_of_them_is_not(tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text(stages.finetune(load().config).config_text(tmp_path))
    for asked in (lambda: planned("k=1,2", files=[own]), lambda: stages.study(load(own).config)):
        with pytest.raises(ConfigError, match=r"both set, so the seeds change nothing; .*name one seed"):
            asked()
    assert len(planned("k=1,2", files=[own], sets=["study.seeds=3"]).todo) == 4
    assert len(stages.study(load(own, sets=["study.seeds=3"]).config)) == 3
    assert stages.chain(load(own).config, "finetune")[-1].id == stages.finetune(load().config).id


def test_a_sweep_of_nothing_or_of_a_comparison_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to sweep over"):
        planned()
    with pytest.raises(ConfigError, match=r"an axis is a list of values"):
        planned(sets=["sweep.grid.k=4"])
    shipped = next(path for path in CONFIGS if path.name == "methods.yaml")
    with pytest.raises(ConfigError, match=r"study.methods  has no part in a sweep"):
        planned("lr=1e-3", files=[shipped])
    assert refused("k=1,2", sets=["finetune.k=8"]) == [
        "--set finetune.k=8  k is an axis of the grid; leave one of the two out"
    ]


def test_shipped_sweeps_hold_images_out_and_share_bases() -> None:
    for name, points, bases in (("rank-sweep.yaml", 6, 5), ("lr-sweep.yaml", 12, 3)):
        found = planned(files=[next(path for path in CONFIGS if path.name == name)])
        assert len(found.points) == points
        assert found.config.holdout == 5000
        assert sum(stage.kind == "pretrain" for stage in found.todo) == bases


def cell(values: tuple[Any, ...], accuracies: Sequence[float], failed: int = 0) -> GridPoint:
    rest = {
        "fmnist.flipped.accuracy": Count(300, 600),
        "mnist.accuracy": Count(9_700, 10_000),
        "params.trainable": 6_248,
    }
    counts = [Count(round(100 * value), 10_000) for value in accuracies]
    tuned = [TunedRun(f"lora-k4-s{i}-00000000", i, {HEADLINE: right, **rest}) for i, right in enumerate(counts)]
    lost = [FailedRun("lora-k4-s9-00000000", 9, "the loss became nan", "runs/lora-k4-s9-00000000")] * failed
    return GridPoint(values, tuple(tuned), tuple(lost))


def result(keys: tuple[str, ...], cells: Sequence[GridPoint], held_out: int = 0, seeds: int = 3) -> SweepResult:
    counts = Counts(ran=5, cached=2, failed=1)
    return SweepResult("sweep", keys, tuple(cells), tuple(range(seeds)), held_out, tuned=counts, shared=Counts(0, 3, 0))


def test_the_table_has_a_row_and_a_column_for_every_value() -> None:
    cells = [
        cell((1, 1e-3), [96.0, 96.5, 97.0]),
        cell((1, 3e-5), [97.0, 97.5, 98.0]),
        cell((2, 1e-3), [99.0, 99.5], failed=1),
        cell((2, 3e-5), [], failed=3),
    ]
    text = render(tables.sweep_report(result(("k", "lora.lr"), cells)))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["k", "\\", "lora.lr", "0.001", "3e-05"]
    assert lines[1] == ["1", "96.50", "+-", "1.24", "97.50", "+-", "1.24", "*"]
    assert lines[2] == ["2", "99.25", "(99.00,", "99.50)", "x1", "x"]
    words = squeezed(text)
    for needed in (
        "mean over 3 seeds +- half of the 95% t interval",
        "best: k=1, lora.lr=3e-05; the highest of 2 means, and so an optimistic one",
        "second: k=1, lora.lr=0.001; the best is +1.00 (all 3) ahead, spread below one image",
        "measured on the test set",
        "-s holdout=5000",
        "x k=2, lora.lr=0.001, seed 9: the loss became nan runs/lora-k4-s9-00000000",
        "8 fine-tunes: ran 5, cached 2, failed 1",
        "what they share: ran 0, cached 3, failed 0",
    ):
        assert needed in words, needed
    assert widest(text) <= 80


def test_as_many_seeds_are_told_of_as_there_are_runs_in_a_cell() -> None:
    text = render(tables.sweep_report(result(("k",), [cell((k,), [96.0, 97.0], failed=1) for k in (1, 2)])))
    assert "2 seeds: no interval, the values stand beside the mean" in text
    assert "1 seed: no" in render(tables.sweep_report(result(("k",), [cell((k,), [96.0]) for k in (1, 2)])))


def test_a_lead_that_seeds_do_not_carry_is_called_none() -> None:
    unsure = [cell((1,), [96.0, 97.0, 96.0]), cell((2,), [97.0, 96.0, 96.5])]
    text = squeezed(render(tables.sweep_report(result(("k",), unsure, held_out=5000))))
    assert "best: k=2" in text
    assert "no detectable difference" in text
    assert "measured on 5,000 images held out" in text
    assert "test set" not in text
    assert "k MNIST, % F-MNIST, % mirrored, % trained 1 97.00 (all 3) 96.33 +- 1.43 50.00 (all 3) 6,248" in text
    single = [cell((k,), [96.0 + k]) for k in (1, 2)]
    text = render(tables.sweep_report(result(("k",), single, seeds=1)))
    assert "one seed cannot tell them apart" in text
    assert "+-" not in text


def errors(stage: Stage) -> int:
    """Bases lie 100 images apart; k = 2 is 10 ahead and from base to base 1 more, seed 1 is 40 ahead on every base."""
    base = stage.config.seed
    return 500 + 100 * base - (stage.k == 2) * (10 + base) - 40 * (stage.settings["seed"] == 1)


@pytest.mark.parametrize(
    ("axis", "sets", "ahead"),
    [
        ("k=1,2", ["finetune.seed=0"], [0.10, 0.11, 0.12]),
        ("finetune.seed=0,1", [], [0.40, 0.40, 0.40]),
    ],
)
def test_pairs_are_made_by_the_studys_seed_where_the_runs_own_is_fixed(
    tmp_path: Path, axis: str, sets: list[str], ahead: list[float]
) -> None:
    found = planned(axis, sets=["study.seeds=0-2", *sets])
    results = sweep.Results(found, Store(tmp_path))
    for stage in found.todo:
        if stage.kind == "finetune":
            metrics = report_factory.metrics({(4, 9): errors(stage)})
            run = stage.new_record.model_copy(update={"metrics": {"mnist": metrics, "fmnist": metrics}})
            results.add(queue.Result(stage, run))
    result = results.result()
    assert [run.seed for point in result.points for run in point.tuned] == [0, 1, 2] * 2
    assert result.best is not None
    assert result.best.ahead is not None
    assert result.best.ahead.estimate.values == pytest.approx(ahead)


def test_failures_are_counted_of_points_and_of_what_they_share() -> None:
    found = result(("k",), [cell((1,), [96.0])])
    assert found.failures == "1 of 8 fine-tunes"
    assert replace(found, shared=Counts(1, 0, 2)).failures == "1 of 8 fine-tunes and 2 of 3 shared runs"
    assert replace(found, tuned=Counts(0, 2, 0)).failures == ""


def test_a_wide_grid_is_cut_into_parts_and_further_axes_into_blocks() -> None:
    cells = [cell((k, lr, c), [96.0, 97.0, 98.0]) for k in (1, 2) for lr in range(9) for c in ([2], [2, 3])]
    text = render(tables.sweep_report(result(("k", "lr", "fmnist.classes"), cells)))
    assert widest(text) <= 80
    assert text.count("fmnist.classes=2\n") + text.count("fmnist.classes=2, 3\n") == 2
    assert text.count("97.00 +- 2.48") == 36
    points = tables.sweep_data(result(("k", "lr", "fmnist.classes"), cells))["points"]
    assert points[3]["values"] == {"k": 1, "lr": 1, "fmnist.classes": [2, 3]}
    assert [point["best"] for point in points].count(True) == 1


def test_an_estimate_comes_from_runs_that_are_alike(tmp_path: Path) -> None:
    found = planned("k=1,2", sets=["study.seeds=0", "pretrain.epochs=7", "finetune.batch_size=64"])
    store = Store(tmp_path)
    blank = sweep.preview(found, store, workers=2, force=False)
    assert (blank.missing, blank.cached, blank.seconds, blank.unknown) == (4, 0, 0.0, 3)
    assert "no past run is like 3 of those" in render(tables.plan_report(blank))
    for seed, (method, seconds) in enumerate([("lora", 10.0), ("lora", 30.0), ("lora", 20.0), ("bitfit", 99.0)]):
        settings = {"epochs": 4, "batch_size": 64}
        past = report_factory.finetune(seed, method=method, settings=settings)
        past = past.model_copy(update={"id": f"{method}-s{seed}-0000000{seed}", "cost": report_factory.cost(seconds)})
        with store.start(past, "") as folder:
            folder.finish(past)
    done = sweep.preview(found, store, workers=2, force=False)
    assert (done.seconds, done.unknown) == (2 * 21.0 / 2, 1)
    text = render(tables.plan_report(done))
    assert "2 points: would run 4, cached 0" in text
    assert "about 21.0 s with 2 workers" in text


Way = BaseException | str
"""How a stage ends: by an exception; "open", not until its pool breaks; "refused", the pool takes no stage at all."""


class Script(Executor):
    """An executor whose stages end in the ways that are written down for them, one a try, and then are done."""

    def __init__(self, ways: dict[str, list[Way]]) -> None:
        self.ways = ways
        self.submitted: list[str] = []
        self.open: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        del fn, kwargs
        stage: Stage = args[0]
        self.submitted.append(stage.id)
        way = self.ways[stage.id].pop(0) if self.ways.get(stage.id) else "done"
        future: Future[Any] = Future()
        self.open.append(future)
        if way == "refused":
            raise BrokenProcessPool
        if isinstance(way, BrokenProcessPool):
            for other in self.open:
                if not other.done():
                    other.set_exception(way)
        elif isinstance(way, BaseException):
            future.set_exception(way)
        elif way == "done":
            future.set_result((report_factory.finetune().model_copy(update={"id": stage.id}), False))
        return future


class Play:
    """`queue.run` over the stages of a study of four seeds, on executors that follow a script."""

    def __init__(self, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = runs
        self.todo = stages.study(load(sets=["study.seeds=0-3"]).config)
        self.fmnist, *self.bases = (stage.id for stage in self.todo[:5])
        self.tuned = [stage.id for stage in self.todo[5:]]
        self.ways: dict[str, list[Way]] = {}
        self.pools: list[Script] = []
        self.told: list[Event] = []
        self.lingering: list[str] = []
        """Runs whose lock a dying worker holds until its pool is closed."""
        monkeypatch.setattr(engines, "open_engine", self.open_engine)

    @contextlib.contextmanager
    def open_engine(self, *_: object) -> Generator[tuple[Executor, None, int]]:
        self.pools.append(Script(self.ways))
        with contextlib.ExitStack() as held:
            for run_id in self.lingering:
                held.enter_context(Store(self.runs).locked(run_id))
            try:
                yield self.pools[-1], None, 2
            except BrokenProcessPool as error:
                raise WorkerDiedError("SIGABRT") from error

    def run(self, *, keep_going: bool = True) -> dict[str, Result]:
        results: dict[str, Result] = {}
        queue.run(
            self.todo,
            load().config,
            Store(self.runs),
            workers=2,
            keep_going=keep_going,
            on_result=lambda result: results.setdefault(result.stage.id, result),  # pyright: ignore[reportArgumentType]
            emit=self.told.append,
        )
        return results


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(tmp_path / "runs", monkeypatch)


def test_a_worker_that_dies_takes_nothing_with_it_but_its_stage(play: Play) -> None:
    innocent, guilty = play.bases[0], play.bases[1]
    play.ways = {innocent: ["open"], guilty: [BrokenProcessPool("killed"), BrokenProcessPool("killed")]}
    play.todo.remove(play.todo[0])
    results = play.run()
    assert [pool.submitted for pool in play.pools][:2] == [[innocent, guilty], [innocent, guilty]]
    failed = {run_id: result for run_id, result in results.items() if not result.run}
    assert set(failed) == {guilty, play.tuned[1]}
    assert failed[guilty].reason == f"{queue.DIED}: SIGABRT"
    assert failed[play.tuned[1]].reason == f"its base failed: {queue.DIED}: SIGABRT"
    assert failed[play.tuned[1]].culprit == guilty
    assert play.told[-1] == events.Overall(8, 8)
    assert [event for event in play.told if isinstance(event, events.Failed)] == [
        events.Failed(f"{queue.DIED}: SIGABRT", guilty)
    ]


def test_a_dead_worker_is_recorded_though_it_took_its_time_to_die(play: Play) -> None:
    guilty, store = play.bases[0], Store(play.runs)
    play.ways = {guilty: [BrokenProcessPool("killed"), BrokenProcessPool("killed")]}
    play.lingering = [guilty]
    left = report_factory.pretrain(id=guilty, status="running")
    store.path(guilty).mkdir(parents=True)
    (store.path(guilty) / "run.json").write_text(left.model_dump_json(by_alias=True))
    assert play.run()[guilty].reason == f"{queue.DIED}: SIGABRT"
    record = store.load(guilty)
    assert (record.status, record.error and record.error.message) == ("failed", f"{queue.DIED}: SIGABRT")


def test_fail_fast_begins_nothing_after_a_failure(play: Play) -> None:
    play.ways = {play.bases[1]: [RunFailedError("the loss became nan")]}
    with pytest.raises(RunFailedError, match="the loss became nan"):
        play.run(keep_going=False)
    assert set(play.pools[0].submitted) <= {play.fmnist, *play.bases[:3]}


def test_what_is_no_fault_of_a_point_stops_the_sweep(play: Play) -> None:
    play.ways = {play.tuned[0]: [ZeroDivisionError("a bug")], play.tuned[1]: [InputError("no MNIST")]}
    with pytest.raises(InputError, match="no MNIST"):
        play.run()
    assert events.Failed("ZeroDivisionError: a bug", play.tuned[0]) in play.told


def test_a_killed_worker_is_recorded_and_the_others_finish(tmp_path: Path, data_dir: Path) -> None:
    endless = load(sets=["pretrain.epochs=100000", "pretrain.batch_size=60000", "threads=1"]).config
    victim = stages.pretrain(endless)
    others = [stages.fmnist(load(sets=[f"fmnist.seed={seed}"]).config) for seed in range(3)]
    store = Store(tmp_path)
    killed: set[int] = set()

    def tell(event: Event) -> None:
        if isinstance(event, events.EpochDone):
            for child in multiprocessing.active_children():
                if child.pid:
                    killed.add(child.pid)
                    os.kill(child.pid, signal.SIGKILL)

    done = queue.run([victim, *others], endless, store, data_dir=data_dir, workers=2, keep_going=True, emit=tell)
    assert set(done) == {stage.id for stage in others}
    assert len(killed) >= 2
    assert {type(run.env["torch"]) for run in done.values()} == {str}  # of another type, it imports torch here
    record = store.load(victim.id)
    assert record.status == "failed"
    assert record.error
    assert record.error.message == f"{queue.DIED}: killed from outside, or out of memory (SIGKILL)"
    assert not multiprocessing.active_children()


def test_an_error_of_a_worker_in_its_preparation_is_the_users(tmp_path: Path) -> None:
    todo = [stages.fmnist(load(sets=[f"fmnist.seed={seed}"]).config) for seed in range(2)]
    with pytest.raises(InputError, match="device mps"):
        queue.run(todo, load(device="mps").config, Store(tmp_path), workers=2, emit=lambda event: None)


@pytest.mark.slow
def test_a_sweep_on_the_command_line(tmp_path: Path, few_images: Path) -> None:
    cli = CommandLine(tmp_path / "runs", few_images)
    sweep_of_four = ["sweep", "--grid", "k=1,2", "--grid", "lora.lr=3e-2,1e9", "--seeds", "0", "-j", "1"]
    sweep_of_four += [f"--set={text}" for text in (*TINY, "finetune.batch_size=1000")]
    assert "4 points: would run 6, cached 0" in cli.run(*sweep_of_four, "--dry-run").stdout
    assert not cli.runs.exists()
    assert "the loss became" in cli.fails(5, *sweep_of_four, "--fail-fast")
    assert len(cli.records()) == 4
    text = cli.run(*sweep_of_four, "--dry-run").stdout
    assert "would run 3, cached 3" in text
    assert "by the median of past runs" in text

    done = cli.run(*sweep_of_four, code=7)
    picture = done.stdout[done.stdout.index("accuracy against k") : done.stdout.index("next  ")]
    assert [line.split()[0] for line in picture.split("\n")[1:4]] == ["lora", "2", "base"]
    assert picture.count("●") == 2
    assert widest(picture) <= 80
    narrower = cli.run("sweep", *sweep_of_four[3:], "--grid", "k=1", code=7).stdout
    assert "accuracy against k" not in narrower
    again = cli.run("report", "--study", "sweep").stdout
    assert again.partition(" fine-tunes:")[0] == narrower.partition(" fine-tunes:")[0]
    assert cli.json("report")["sweep"]["axes"] == {"lora.lr": [0.03, 1e9], "k": [1]}
    assert "2 of 4 fine-tunes failed" in done.stderr
    assert "4 fine-tunes: ran 1, cached 1, failed 2" in done.stdout
    failed = [run_id for run_id, record in cli.records().items() if record["status"] == "failed"]
    assert len(failed) == 2
    assert all(f"  {cli.runs / run_id}\n" in done.stdout for run_id in failed)
    note = cli.runs / ".studies" / "sweep.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"config": {"finetune": {"of": "another lorabench"}}}))
    assert cli.run("report").stdout.startswith("sweep   1 seed: 0")

    arguments = [text.removesuffix(",1e9") for text in sweep_of_four]
    found = cli.json(*arguments)
    assert found["fine_tunes"] == {"ran": 0, "cached": 2, "failed": 0}
    assert [run["seed"] for point in found["points"] for run in point["runs"]] == [0, 0]
    assert json.loads(cli.run(*arguments, "--dry-run", "--json").stdout)["cached"] == 4

    (base,) = (cli.runs / run_id for run_id in cli.records() if run_id.startswith("pretrain"))
    shutil.rmtree(base)
    base.write_text("in the way of its folder")
    assert "1 of 2 shared runs failed" in cli.run(*arguments, code=7).stderr


def test_a_record_that_is_done_and_measured_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="says no accuracy; run it again with --force"):
        tuned_run(report_factory.finetune(metrics={}), 0)


def test_a_wrong_grid_is_one_clear_line(tmp_path: Path, data_dir: Path) -> None:
    cli = CommandLine(tmp_path / "runs", data_dir)
    assert 'did you mean "lora"?' in cli.fails(3, "sweep", "--grid", "lorra.lr=1")
    assert "nothing to sweep over" in cli.fails(2, "sweep")
