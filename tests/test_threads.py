"""The number of threads changes no bit: of any method's training, of a run, of what torch does afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import QUICK, CommandLine
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import methods, threads, train
from lorabench.model import SimpleMnistClassifier, seeded

IMAGES = torch.randint(0, 256, (600, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 10, (600,), generator=torch.Generator().manual_seed(1))
RECIPE = train.Recipe(epochs=1, batch_size=200, lr=0.01, warmup=0.2)
CASES: list[tuple[str | None, dict[str, Any]]] = [
    (None, {}),
    *((name, {}) for name in methods.METHODS),
    *(("lora", {"k": k}) for k in (3, 5, 6, 10, 17, 33)),
    *(("adapter", {"bottleneck": m}) for m in (6, 10)),
    ("hira", {"k": 5}),
    ("dora", {"k": 7}),
    ("lora", {"dropout": 0.3}),
]


def trained(name: str | None, options: dict[str, Any], most_threads: int) -> str:
    """The hash of all parameters after three steps."""
    with seeded(0):
        model = SimpleMnistClassifier()
        if name:
            methods.apply(model, name, **options)
        train.fit(model, IMAGES, LABELS, RECIPE, seed=0, most_threads=most_threads)
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One thread outside of trainings; in them all but the first step run on all, however late they come."""
    monkeypatch.setattr(threads, "WARM", 1)
    monkeypatch.setattr(threads, "LATE", float("inf"))
    with threads.using(1):
        yield


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_training_is_the_same_bits_on_any_number_of_threads(name: str | None, options: dict[str, Any]) -> None:
    assert len({trained(name, options, count) for count in (1, 2, 3, 8)}) == 1


def test_a_step_that_depends_on_the_threads_runs_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    step = train.Trainer.step

    def counted(self: train.Trainer, rows: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        counts.append(torch.get_num_threads())
        return step(self, rows, lr)

    def disagree(compute: object, count: int) -> bool:
        del compute, count
        return False

    monkeypatch.setattr(train.Trainer, "step", counted)
    trained(None, {}, 2)
    monkeypatch.setattr(threads, "agree", disagree)
    trained(None, {}, 2)
    assert counts == [1, 2, 2, 1, 1, 1]
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([9, 2, 3, 4, 4, 4, 4], [1, 1, 1, 2, 2, 2, 2]),
        ([9, 2, 3, 5, 1, 5, 5, 1, 1], [1, 1, 1, 2, 2, 2, 2, 1, 1]),
        ([1, 9, 9, 9, 9, 1, 1], [1, 1, 1, 2, 2, 1, 1]),
    ],
    ids=["in time", "late twice in a row", "late at once"],
)
def test_steps_that_come_late_on_two_threads_send_the_others_to_one(
    seconds: list[int], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of so many seconds, of which three are an epoch."""
    monkeypatch.undo()
    clock = 0.0
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock)
    pace, counts = threads.Pace(2), list[int]()
    for start in range(0, len(seconds), 3):
        clock += 100
        with pace.epoch():
            for took in seconds[start : start + 3]:
                counts.append(torch.get_num_threads())
                clock += took
                pace.step()
    assert counts == expected
    assert torch.get_num_threads() == 1


def test_tensors_agree_only_if_every_bit_does() -> None:
    assert threads.agree(lambda: [torch.ones(3), torch.zeros(1)], 2)
    assert not threads.agree(lambda: [torch.ones(3), torch.tensor(1e-9 * torch.get_num_threads())], 2)


def test_asking_leaves_the_training_as_it_was() -> None:
    with seeded(0):
        model = SimpleMnistClassifier()
        methods.apply(model, "adalora")
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    seen: list[list[Tensor]] = []
    trainer = train.Trainer(model, IMAGES, LABELS)
    threads_agree = threads.agree

    def spied(compute: Any, count: int) -> bool:
        seen.append(list(compute()))
        return threads_agree(compute, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "agree", spied)
        assert trainer.agrees(torch.arange(200), 1)
    assert all(gradient.abs().max() > 0 for gradient in seen[0])  # also of A, whose gradient is 0 at the start
    assert all(map(torch.equal, before, model.parameters()))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("outputs", [3, 4, 6, 10, 12])
def test_whole_blocks_give_the_gradients_of_a_linear_layer(outputs: int) -> None:
    with seeded(outputs):
        layer, x, g = nn.Linear(50, outputs), torch.randn(64, 50, requires_grad=True), torch.randn(64, outputs)
    given = [x, layer.weight, layer.bias]
    plain = torch.autograd.grad(F.linear(x, layer.weight, layer.bias), given, g)
    with threads.Even():
        even = layer(x)
        whole = torch.autograd.grad(even, given, g)
        alone = torch.autograd.grad(F.linear(x.detach(), layer.weight), [layer.weight], g)
    assert (type(even.grad_fn).__name__ == "_EvenLinearBackward") == (outputs in (6, 10))
    assert all(map(torch.equal, plain, whole))  # on one thread, bit for bit
    assert torch.equal(alone[0], plain[1])


@pytest.mark.slow
def test_workers_and_threads_of_a_study_change_nothing_that_it_keeps(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PiSSA begins with singular vectors, a record ends with singular values: neither may depend on the threads."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found: list[dict[str, dict[str, Any]]] = []
    for workers, count in ((1, 2), (2, 1)):
        cli = CommandLine(tmp_path / f"runs{workers}", data_dir)
        settings = ["-s", "finetune.method=pissa", "-s", "finetune.k=5", "-s", f"study.workers={workers}"]
        cli.run("study", "--seeds", "0-1", *QUICK, *settings, "--threads", f"{count}", "-q")
        facts = ("metrics", "before", "checks")
        found.append({run: {fact: record[fact] for fact in facts} for run, record in cli.records().items()})
        for run, kept in found[-1].items():
            files = [file for file in (cli.runs / run).iterdir() if file.suffix in (".npz", ".safetensors")]
            kept |= {file.name: file.read_bytes() for file in files}
    assert len(found[0]) == 5
    assert found[0] == found[1]
