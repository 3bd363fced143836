"""lorabench beside the textbook loop, PEFT and loralib: same task, same criterion, alternating rounds.

    python tests/benchmarks/peers.py            # about 20 minutes on two cores
    python tests/benchmarks/peers.py --rounds 1

Prints two tables in Markdown: README's, and the other ratios. Every contender trains to the accuracy that the talk
reports (97.78% on MNIST, 97.74% on F-MNIST): its mean over the rounds' seeds is printed beside its time, and a ratio
counts only if both reach it. Needs peft and loralib (the `test` extra). Times are of the training loop alone, all data
in memory or opened. Everybody may use `--threads`; lorabench takes them for the base alone, as its commands do.
"""

from __future__ import annotations

import argparse
import copy
import functools
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import config, data, evaluate, methods, threads, train
from lorabench.data.ways import import_datasets
from lorabench.model import SimpleMnistClassifier, pixels, seeded

BASE = train.Recipe(epochs=3, batch_size=256, lr=0.015, warmup=0.2)
TALK = train.Recipe(epochs=4, batch_size=256, lr=0.03, warmup=0.2)
KAIMING = train.Recipe(epochs=2, batch_size=256, lr=0.02, warmup=0.2)
TEXTBOOK_EPOCHS, TEXTBOOK_LORA_EPOCHS, PEER_EPOCHS = 5, 12, 5
TEXTBOOK_LORA_LR = 2e-3
"""Of 0.001, 0.002 and 0.005, the one that comes to 97.74% first, after 12 epochs (runs/README.md)."""


class Task:
    """MNIST and F-MNIST as tensors, as torchvision data sets, and a trained base for each seed."""

    def __init__(self, scratch: Path) -> None:
        mnist = data.load()
        flips = data.choose(mnist, config.Config().fmnist)
        data.write_fmnist(scratch, mnist, flips)

        self.folders = {"mnist": data.default_dir(), "fmnist": scratch}
        self.train = {
            "mnist": torch.from_numpy(mnist.train_images),
            "fmnist": torch.from_numpy(flips.apply(mnist.train_images, flips.train)),
        }
        self.test = {
            "mnist": torch.from_numpy(mnist.test_images),
            "fmnist": torch.from_numpy(flips.apply(mnist.test_images, flips.test)),
        }
        self.labels = torch.from_numpy(mnist.train_labels).long()
        self.test_labels = torch.from_numpy(mnist.test_labels).long()

    @functools.lru_cache(maxsize=1)  # noqa: B019 - there is one Task
    def _base(self, seed: int) -> SimpleMnistClassifier:
        model = untrained(seed)
        train.fit(model, self.train["mnist"], self.labels, BASE, seed=seed)
        return model

    def base(self, seed: int) -> SimpleMnistClassifier:
        """A trained base of the seed, to be changed."""
        return copy.deepcopy(self._base(seed))

    def accuracy(self, model: nn.Module, name: str) -> float:
        return evaluate.measure(evaluate.predict(model, self.test[name]), self.test_labels)["accuracy"]


def textbook(model: nn.Module, folder: Path, epochs: int, lr: float) -> None:
    """The loop of every tutorial: torchvision, ToTensor, DataLoader, Adam."""
    datasets = import_datasets()
    from torchvision import transforms  # pyright: ignore[reportMissingTypeStubs]

    images = datasets.MNIST(folder, train=True, transform=transforms.ToTensor())
    loader: Any = torch.utils.data.DataLoader(images, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()


def plain_loop(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, lr: float) -> None:
    """What somebody who knows PyTorch writes around a library: tensors, batches of 64, Adam."""
    x_all = pixels(images).flatten(1)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x_all)), 64):
            optimizer.zero_grad()
            F.cross_entropy(model(x_all[rows]), labels[rows]).backward()
            optimizer.step()


def with_talk_layers(model: nn.Module) -> nn.Module:
    methods.apply(model, "lora", k=4)
    return model


def textbook_lora(model: nn.Module) -> nn.Module:
    """The talk's layers, written as the talk writes them."""

    class Textbook(nn.Module):
        def __init__(self, inner: nn.Linear, k: int) -> None:
            super().__init__()
            self.inner = inner
            self.A = nn.Parameter(torch.randn(inner.in_features, k))
            self.B = nn.Parameter(torch.zeros(k, inner.out_features))

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + x @ self.A @ self.B

    model.requires_grad_(False)
    for name in ("fc1", "fc2", "fc3"):
        model.set_submodule(name, Textbook(getattr(model, name), 4))
    return model


def with_peft(model: nn.Module) -> nn.Module:
    from peft import LoraConfig, get_peft_model  # pyright: ignore

    config = LoraConfig(r=4, lora_alpha=4, lora_dropout=0.0, bias="none", target_modules=["fc1", "fc2", "fc3"])
    return get_peft_model(model, config)  # pyright: ignore


def with_loralib(model: nn.Module) -> nn.Module:
    import loralib  # pyright: ignore

    for name in ("fc1", "fc2", "fc3"):
        inner = getattr(model, name)
        layer: Any = loralib.Linear(inner.in_features, inner.out_features, r=4, lora_alpha=4)
        layer.weight.data, layer.bias.data = inner.weight.data, inner.bias.data
        model.set_submodule(name, layer)
    loralib.mark_only_lora_as_trainable(model)
    return model


def matrix_products(count: int, batch: int = BASE.batch_size) -> float:
    """Seconds of one epoch's bare matrix products at the base's shapes, on `count` threads."""
    sizes = ((784, 256), (256, 128), (128, 10))
    operands = [
        (torch.rand(batch, n), torch.rand(m, n), torch.rand(batch, m), first) for first, (n, m) in enumerate(sizes)
    ]
    with threads.using(count):
        began = time.perf_counter()
        for _ in range(60_000 // batch):
            for x, weight, gradient, first in operands:
                _ = x @ weight.t(), gradient.t() @ x
                if first:
                    _ = gradient @ weight
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as scratch:
        compare(Task(Path(scratch)), chosen.rounds)


Contender = tuple[str, "Callable[[nn.Module], nn.Module]", "Callable[[nn.Module, int], object]"]
"""What it trains on, how it prepares the model, how it trains it with a seed."""

KAIMING_LORA = "lorabench LoRA, kaiming"
ROWS = {
    "textbook": ("MNIST, textbook loop (DataLoader, Adam, 5 epochs)", ""),
    "lorabench": ("MNIST, `lorabench pretrain`", "textbook"),
    "textbook LoRA": ("F-MNIST, textbook loop around the talk's layers, 12 epochs", ""),
    "PEFT": ("F-MNIST, PEFT in a plain tensor loop, 5 epochs", ""),
    "loralib": ("F-MNIST, loralib in the same loop, 5 epochs", ""),
    "lorabench LoRA, talk": ("F-MNIST, `lorabench finetune-lora`, the talk's initialisation", "textbook LoRA"),
    KAIMING_LORA: ("F-MNIST, the same with `init=kaiming`, which PEFT and loralib use", "PEFT"),
}
"""Of each contender, what README calls it, and whom it is held against."""


def compare(task: Task, rounds: int) -> None:
    images, labels, most_threads = task.train["fmnist"], task.labels, torch.get_num_threads()
    fresh: dict[str, Callable[[int], nn.Module]] = {"mnist": untrained, "fmnist": task.base}

    def same(model: nn.Module) -> nn.Module:
        return model

    def pretrain(model: nn.Module, seed: int, count: int) -> float:
        epochs = train.fit(model, task.train["mnist"], labels, BASE, seed=seed, most_threads=count)
        return sum(epoch.seconds for epoch in epochs) / BASE.epochs

    def field_init(model: nn.Module) -> nn.Module:
        methods.apply(model, "lora", k=4, init="kaiming")
        return model

    contenders: dict[str, Contender] = {
        "textbook": ("mnist", same, lambda m, s: textbook(m, task.folders["mnist"], TEXTBOOK_EPOCHS, 1e-3)),
        "lorabench": ("mnist", same, lambda m, s: pretrain(m, s, most_threads)),
        "textbook LoRA": (
            "fmnist",
            textbook_lora,
            lambda m, s: textbook(m, task.folders["fmnist"], TEXTBOOK_LORA_EPOCHS, TEXTBOOK_LORA_LR),
        ),
        "PEFT": ("fmnist", with_peft, lambda m, s: plain_loop(m, images, labels, PEER_EPOCHS, 3e-3)),
        "loralib": ("fmnist", with_loralib, lambda m, s: plain_loop(m, images, labels, PEER_EPOCHS, 3e-3)),
        "lorabench LoRA, talk": ("fmnist", with_talk_layers, lambda m, s: train.fit(m, images, labels, TALK, seed=s)),
        KAIMING_LORA: ("fmnist", field_init, lambda m, s: train.fit(m, images, labels, KAIMING, seed=s)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    accuracy: dict[str, list[float]] = {name: [] for name in contenders}
    epochs: dict[str, list[float]] = {name: [] for name in ("full", "lora")}
    counts = sorted({1, most_threads})
    bases: dict[int, list[float]] = {count: [] for count in counts}
    products: dict[int, list[float]] = {count: [] for count in counts}
    for seed in range(rounds):
        for name, (kind, wrap, fit) in contenders.items():
            model = fresh[kind](seed)
            with seeded(seed):
                tuned = wrap(model)
                began = time.perf_counter()
                fit(tuned, seed)
                seconds[name].append(time.perf_counter() - began)
            accuracy[name].append(100 * task.accuracy(tuned, kind))
            line = f"round {seed + 1}  {name:<24} {seconds[name][-1]:7.2f} s  {accuracy[name][-1]:.2f}%"
            print(line, file=sys.stderr, flush=True)
        for name in ("full", "lora"):
            model = task.base(seed)
            methods.apply(model, name)
            epochs[name].append(sum(e.seconds for e in train.fit(model, images, labels, TALK, seed=seed)) / TALK.epochs)
        for count in counts:
            bases[count].append(pretrain(untrained(seed), seed, count))
            products[count].append(statistics.median(matrix_products(count) for _ in range(3)))

    def ratio(slow: list[float], fast: list[float]) -> str:
        each = [a / b for a, b in zip(slow, fast, strict=True)]
        return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{rounds} alternating rounds, {time.strftime('%Y-%m-%d')}, {platform.system()}, {versions}; median seconds,")
    print("mean test accuracy, and how many times faster: the median (range) of the rounds' ratios\n")
    print("| | seconds | accuracy | |\n|---|---|---|---|")
    for name, (label, peer) in ROWS.items():
        versus = f"{ratio(seconds[peer], seconds[name])} times faster than {peer}" if peer else ""
        middle, mean = statistics.median(seconds[name]), statistics.mean(accuracy[name])
        print(f"| {label} | {middle:.2f} | {mean:.2f}% | {versus} |")
    print("\n| | ratio |\n|---|---|")
    print(f"| LoRA, loralib / lorabench, same initialisation | {ratio(seconds['loralib'], seconds[KAIMING_LORA])} |")
    print(f"| epoch, full / LoRA, both lorabench, frozen work included | {ratio(epochs['full'], epochs['lora'])} |")
    for count in counts:
        print(f"| epoch of the base / its matrix products, threads: {count} | {ratio(bases[count], products[count])} |")


def untrained(seed: int) -> SimpleMnistClassifier:
    with seeded(seed):
        return SimpleMnistClassifier()


if __name__ == "__main__":
    main()
