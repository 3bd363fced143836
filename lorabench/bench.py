"""What each method costs on this machine: time, memory, latency. Random images; nothing is learnt and nothing kept.

    costs = measure([Case("full", {}), Case("lora", {"k": 4})], rounds=5)

Times are taken in rounds, every case in each, so that a machine whose speed drifts treats all alike; a speed-up is
of two turns in one round. Bytes are counted, not sampled.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lorabench import methods
from lorabench.analysis import inference
from lorabench.classifier import CLASSIFIER
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.train import Trainer

if TYPE_CHECKING:
    from torch import Tensor, nn

WARM_UP = 20
"""Steps of each case that are not counted."""

LATENCY_BATCHES = (1, 64, 1024)

PIXELS, CLASSES = CLASSIFIER["fc1"][0], CLASSIFIER["fc3"][1]


@dataclass(frozen=True)
class Case:
    """A method and its options."""

    method: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """`lora k=4`."""
        return " ".join([self.method, *(f"{key}={value}" for key, value in self.options.items())])


def cases(names: Sequence[str], ranks: Sequence[int]) -> list[Case]:
    """Full fine-tuning first, LoRA at each of `ranks`, and the other methods at their defaults.

    Raises:
        UsageError: no method has that name; with the nearest names.
    """
    for name in names:
        methods.complete(name, {})
    chosen = names or list(methods.METHODS)
    lora = [Case("lora", {"k": k}) for k in ranks] if "lora" in chosen else []
    others = [Case(name, {}) for name in methods.METHODS if name in chosen and name not in ("full", "lora")]
    return [Case("full", {}), *lora, *others]


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Costs:
    """What one case costs.

    Attributes:
        step_ms: one training step, frozen work already done.
        images_per_s: batch size over the median step.
        ratios: each round's median step of full fine-tuning over this case's; empty without a full case.
        speedup: their geometric mean; None without a full case.
        speedup_low, speedup_high: its 95% interval over the rounds; None if these are fewer than 3.
        state_bytes: weights, gradients and optimiser state after a step; counted.
        saved_bytes: distinct storages that the forward of one batch keeps for the backward, parameters excluded.
        checkpoint_bytes: the tensors that a checkpoint holds, without its header.
        peak_share: floating-point operations of a step per second, over those of the fastest large matrix product.
        noisy: whether the machine had something else to do, so that the times are of that too: steps that differ by a
            factor of 2 (90th over 10th percentile), or more operations than the machine can do.
        latency_us: batch size, as text -> one forward, unmerged.
        merged_us: the same after merging; empty for a method that does not merge.
    """

    label: str
    method: str
    trainable: int
    step_ms: Spread
    images_per_s: float
    ratios: list[float]
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    state_bytes: int
    saved_bytes: int
    checkpoint_bytes: int
    peak_share: float
    noisy: bool
    latency_us: dict[str, Spread]
    merged_us: dict[str, Spread]


def measure(
    cases: Sequence[Case],
    *,
    batch_size: int = 256,
    rounds: int = 5,
    steps: int = 20,
    device: torch.device | None = None,
) -> list[Costs]:
    """Measure all cases side by side.

    Args:
        cases: what to measure; a `full` case among them is what the others' speed is compared with.
        batch_size: images per training step.
        rounds: how often every case has its turn.
        steps: training steps in a turn; as many forwards are timed for each latency.
        device: where; None for the CPU.
    """
    place = device or torch.device("cpu")
    benches = [_Bench(case, batch_size, place) for case in cases]
    square, products = torch.rand(1024, 1024, device=place), list[float]()
    for bench in benches:
        bench.turn(WARM_UP)
    for _ in range(rounds):
        for bench in benches:
            bench.step_s.append(bench.turn(steps))
            bench.time_latencies(steps)
        products += _times(lambda: square @ square, 5, place)
    # The floating-point operations per second of a product that fills the machine, at its fastest.
    peak = 2 * len(square) ** 3 / min(products)
    full = next((bench for bench in benches if bench.case.method == "full"), None)
    return [bench.costs(full, peak) for bench in benches]


def record(cases: Sequence[Case], *, batch_size: int, rounds: int, steps: int, device: torch.device) -> dict[str, Any]:
    """`measure` as plain data, with how it was measured: what `lorabench bench --json` prints and the report reads."""
    costs = measure(cases, batch_size=batch_size, rounds=rounds, steps=steps, device=device)
    return {
        "measured": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "batch_size": batch_size,
        "rounds": rounds,
        "steps": steps,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "costs": [asdict(cost) for cost in costs],
    }


class _Bench:
    """One case, ready to take its turns."""

    def __init__(self, case: Case, batch_size: int, device: torch.device) -> None:
        self.case = case
        self.batch_size = batch_size
        self.device = device
        self.step_s: list[list[float]] = []
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(20 * batch_size, PIXELS, generator=generator).to(device)
        labels = torch.randint(0, CLASSES, (len(images),), generator=generator).to(device)
        self.rows = list(torch.split(torch.randperm(len(images), generator=generator).to(device), batch_size))
        with seeded(0):
            self.model = SimpleMnistClassifier()
            methods.apply(self.model, case.method, **case.options)
        chosen = methods.complete(case.method, case.options)
        self.model.to(device)
        self.saved_bytes = _saved_bytes(self.model, images[:64], labels[:64])
        self.trainer = Trainer(self.model, images, labels)
        with FlopCounterMode(display=False) as counter:
            self.trainer.step(self.rows[0], 1e-4)
        self.flops = counter.get_total_flops()
        self.forwards: dict[str, nn.Module] = {"unmerged": self.model}
        if not methods.METHODS[case.method].exemption("merge", chosen):
            self.forwards["merged"] = methods.merge(self.model)
        self.inputs = {str(n): torch.rand(n, PIXELS, device=device) for n in LATENCY_BATCHES}
        self.latency_s = {name: {n: list[float]() for n in self.inputs} for name in self.forwards}

    def turn(self, steps: int) -> list[float]:
        """Seconds of each of `steps` training steps."""
        self.model.train()
        rows = iter(self.rows * (1 + steps // len(self.rows)))
        return _times(lambda: self.trainer.step(next(rows), 1e-4), steps, self.device)

    def time_latencies(self, times: int) -> None:
        """Add a turn of forwards for each batch size, unmerged and merged one after the other."""
        for n, batch in self.inputs.items():
            for name, model in self.forwards.items():
                model.eval()
                with torch.inference_mode():
                    self.latency_s[name][n] += _times(partial(model, batch), times, self.device)

    def costs(self, full: _Bench | None, peak: float) -> Costs:
        step = _spread([second for turn in self.step_s for second in turn], 1000)
        medians = [statistics.median(turn) for turn in self.step_s]
        against = [statistics.median(turn) for turn in full.step_s] if full else []
        ratios = [a / b for a, b in zip(against, medians, strict=True)] if full else []
        speedup = inference.ratio(ratios) if ratios else None
        low, high = (speedup.low, speedup.high) if speedup else (None, None)
        parameters = list(self.model.parameters())
        state = [t for moments in self.trainer.optimizer.state.values() for t in moments.values()]
        gradients = [p.grad for p in parameters if p.grad is not None]
        latency = {
            name: {n: _spread(seconds, 1e6) for n, seconds in batches.items()}
            for name, batches in self.latency_s.items()
        }
        share = self.flops / (step.median / 1000) / peak
        return Costs(
            label=self.case.label,
            method=self.case.method,
            trainable=methods.count(self.model).trainable,
            step_ms=step,
            images_per_s=1000 * self.batch_size / step.median,
            ratios=ratios,
            speedup=speedup.mean if speedup else None,
            speedup_low=low,
            speedup_high=high,
            state_bytes=_bytes([*parameters, *gradients, *state]),
            saved_bytes=self.saved_bytes,
            checkpoint_bytes=_bytes([p for p in parameters if p.requires_grad]),
            peak_share=share,
            noisy=step.p90 > 2 * step.p10 or share > 1,
            latency_us=latency["unmerged"],
            merged_us=latency.get("merged", {}),
        )


def _times(call: Callable[[], object], times: int, device: torch.device) -> list[float]:
    """Seconds of each of `times` calls, work on the device included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    seconds: list[float] = []
    for _ in range(times):
        wait()
        began = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - began)
    return seconds


def _spread(seconds: Sequence[float], unit: float) -> Spread:
    deciles = statistics.quantiles(seconds, n=10, method="inclusive")
    return Spread(unit * statistics.median(seconds), unit * deciles[0], unit * deciles[-1])


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _saved_bytes(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes of the distinct storages that one forward and its loss keep for the backward, parameters excluded."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(model(images.clone()), labels.clone())
    del loss
    return sum(kept.values())
