"""Models as lists of weight matrices: this classifier, and larger ones.

ARCHITECTURES["gpt3-175b"].matrix("q")     # Matrix("q", 12288, 12288, layers=96, bias=True)
given("784x256,256x10")                    # linear layers of these sizes, with biases: fc1, fc2
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lorabench.classifier import CLASSIFIER, parameter_count
from lorabench.errors import UsageError


@dataclass(frozen=True)
class Matrix:
    """A weight of n inputs and m outputs, the same in each of `layers` layers.

    Attributes:
        bias: with m biases beside it.
        beside: it reads what the matrix before it reads, not that one's output.
    """

    name: str
    n: int
    m: int
    layers: int = 1
    bias: bool = False
    beside: bool = False

    @property
    def break_even(self) -> float:
        """The rank k = nm/(n+m) above which the k(n+m) parameters of a LoRA are more than the matrix has."""
        return self.n * self.m / (self.n + self.m)


@dataclass(frozen=True)
class Architecture:
    """A model.

    Attributes:
        matrices: every weight matrix that a token is multiplied by, in that order; those of the same number of layers
            above 1 are a block, passed through so many times.
        total: all parameters; embeddings, norms and biases too.
        source: where the dimensions and the total are published.
        usual: what LoRA adapts there when nobody says; empty for a plain stack of layers, where a method chooses.
        head_width: outputs of one attention head of a language model, whose number of blocks is `matrix("q").layers`;
            0: it is none.
        positions: how many are learnt, in a GPT: its norms have biases, and its head is the embedding's. 0: a Llama,
            with rotary positions, RMS norms and a head of its own.
    """

    name: str
    title: str
    matrices: tuple[Matrix, ...]
    total: int
    source: str
    usual: tuple[str, ...] = ()
    head_width: int = 0
    positions: int = 0

    def matrix(self, name: str) -> Matrix:
        """The matrices called `name`.

        Raises:
            StopIteration: there are none.
        """
        return next(matrix for matrix in self.matrices if matrix.name == name)

    def cut(self, blocks: int) -> Architecture:
        """The same decoder with so many blocks, every parameter counted.

        Raises:
            UsageError: it is no decoder.
        """
        if not self.head_width:
            raise UsageError(f"{self.name} is no language model, so it has no blocks")
        *block, head = self.matrices
        positions, d = self.positions, head.n
        norm = 2 * d if positions else d
        in_block = sum(matrix.n * matrix.m + matrix.bias * matrix.m for matrix in block) + 2 * norm
        outside = head.n * head.m * (1 if positions else 2) + positions * d + norm
        matrices = (*(replace(matrix, layers=blocks) for matrix in block), head)
        return replace(self, matrices=matrices, total=outside + blocks * in_block)

    def lowest(self, names: Iterable[str]) -> dict[str, int]:
        """Matrix -> in how many of its layers nothing is trained below it, if the matrices `names` are and no others.

        From there no gradient is passed on; a frozen matrix needs none there at all.
        """
        heights: list[int] = []
        for matrix in self.matrices:
            heights.append(heights[-1] + (not matrix.beside) if heights else 0)
        trained = set(names)
        first = next(i for i, matrix in enumerate(self.matrices) if matrix.name in trained)
        lowest: dict[str, int] = {}
        for matrix, height in zip(self.matrices, heights, strict=True):
            # What is trained in a block's first layer stands below all that comes from its second layer on.
            within = 1 if matrix.layers == self.matrices[first].layers else matrix.layers
            lowest[matrix.name] = within if height <= heights[first] else 0
        return lowest


def stack(name: str, title: str, shapes: dict[str, tuple[int, int]], source: str) -> Architecture:
    """Linear layers with biases, one after the other."""
    matrices = tuple(Matrix(layer, n, m, bias=True) for layer, (n, m) in shapes.items())
    return Architecture(name, title, matrices, parameter_count(shapes.values()), source)


def given(sizes: str) -> Architecture:
    """Linear layers fc1, fc2, ... with biases, of sizes written as `784x256,256x128,128x10`: inputs x outputs.

    Raises:
        UsageError: they are written otherwise.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(sizes.split(","), start=1):
        if not (size := re.fullmatch(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})", part.strip())):
            raise UsageError(
                f"--sizes {sizes}: {part.strip()!r} is no size; write inputs x outputs, e.g. 784x256,256x10"
            )
        shapes[f"fc{number}"] = int(size[1]), int(size[2])
    return stack("sizes", "the given layers", shapes, "--sizes")


def _llama3(name: str, title: str, *, layers: int, d: int, hidden: int) -> Architecture:
    """Llama 3: 128,256 tokens, 8 heads of 128 for keys and values, no biases, embedding and output not shared."""
    vocabulary, kv = 128_256, 8 * 128
    matrices = (
        Matrix("q", d, d),
        Matrix("k", d, kv, beside=True),
        Matrix("v", d, kv, beside=True),
        Matrix("o", d, d),
        Matrix("gate", d, hidden),
        Matrix("up", d, hidden, beside=True),
        Matrix("down", hidden, d),
        Matrix("head", d, vocabulary),
    )
    source = f"config.json of meta-llama/Meta-{title.replace(' ', '-')}; Dubey et al. 2024, arXiv:2407.21783, table 3"
    return Architecture(name, title, matrices, 0, source, ("q", "v"), head_width=128).cut(layers)


def _gpt(
    name: str, title: str, layers: int, d: int, head: int, positions: int, *, source: str, tokens: int = 50_257
) -> Architecture:
    """A GPT of so many layers of width d: attention heads of `head`, learnt positions, the head is the embedding's."""
    matrices = (
        *(Matrix(name, d, d, bias=True, beside=name in ("k", "v")) for name in ("q", "k", "v", "o")),
        Matrix("up", d, 4 * d, bias=True),
        Matrix("down", 4 * d, d, bias=True),
        Matrix("head", d, tokens),
    )
    return Architecture(name, title, matrices, 0, source, ("q", "v"), head, positions).cut(layers)


_GPT2 = "Radford et al. 2019, table 2; config.json of openai-community/"
_GPT3 = "Brown et al. 2020, arXiv:2005.14165, table 2.1; total: Hu et al. 2021, arXiv:2106.09685, table 4"

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        stack("mlp", "the talk's classifier", CLASSIFIER, "lorabench"),
        _gpt("toy", "a toy decoder", 3, 32, 16, 128, source="lorabench, to try --measure", tokens=128),
        _gpt("gpt2", "GPT-2 124M", 12, 768, 64, 1024, source=f"{_GPT2}gpt2"),
        _gpt("gpt2-xl", "GPT-2 XL 1.5B", 48, 1600, 64, 1024, source=f"{_GPT2}gpt2-xl"),
        # Its total is the one that the LoRA paper counts with; its dimensions alone give 174,604.3M, 0.4% less.
        replace(_gpt("gpt3-175b", "GPT-3 175B", 96, 12_288, 128, 2048, source=_GPT3), total=175_255_800_000),
        _llama3("llama-3-8b", "Llama 3 8B", layers=32, d=4096, hidden=14_336),
        _llama3("llama-3-70b", "Llama 3 70B", layers=80, d=8192, hidden=28_672),
    )
}
"""The models that have a name."""
