"""One side of `measure` in a process of its own: build a decoder, train it on random tokens, tell what that takes.

Decoder(ARCHITECTURES["gpt2"].cut(2))      # random weights; (batch, tokens) to (batch, tokens, vocabulary)

The decoder has the matrices of an `Architecture`: embeddings, causal attention, MLP, a head for the next token. The
process reads a JSON line and answers with one: which device is wanted, what to build, how often to step. It ends with
its standard input, so with its parent.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import checkpoint, memory, methods
from lorabench.scale.architectures import ARCHITECTURES, Architecture

LR = 1e-4
STEPS = 1000
"""How long the training would go on, for methods that ask."""
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _norm(d: int, positions: int) -> nn.Module:
    return nn.LayerNorm(d) if positions else nn.RMSNorm(d)


def _embedding(n: int, d: int) -> nn.Embedding:
    """n vectors of width d, from N(0, 0.02²) as GPT-2's, so that the first loss is near that of guessing."""
    return nn.Embedding(n, d, _weight=torch.empty(n, d).normal_(std=0.02))


def rotate(x: Tensor) -> Tensor:
    """Rotary positions of queries or keys (batch, heads, tokens, width). Su et al. 2021, arXiv:2104.09864."""
    half = x.shape[-1] // 2
    frequencies = 500_000.0 ** (-torch.arange(half, device=x.device) / half)  # Llama 3's base
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * frequencies
    cosine, sine = angles.cos().to(x), angles.sin().to(x)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class Block(nn.Module):
    """Attention and an MLP, each after a norm and with its input added: GPT's, or Llama's gated one."""

    def __init__(self, model: Architecture) -> None:
        super().__init__()
        self.width, self.rotary = model.head_width, not model.positions
        d = model.matrix("q").n
        self.attention_norm, self.mlp_norm = (_norm(d, model.positions) for _ in range(2))
        for matrix in model.matrices[:-1]:
            self.add_module(matrix.name, nn.Linear(matrix.n, matrix.m, matrix.bias))

    def _of(self, name: str, x: Tensor) -> Tensor:
        return cast("Tensor", self.get_submodule(name)(x))

    def _heads(self, name: str, x: Tensor) -> Tensor:
        """Queries, keys or values: (batch, heads, tokens, width)."""
        x = self._of(name, x)
        return x.view(*x.shape[:2], -1, self.width).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, d) to the same."""
        normed = self.attention_norm(x)
        q, k, v = (self._heads(name, normed) for name in ("q", "k", "v"))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        x = x + self._of("o", mixed.transpose(1, 2).flatten(2))
        normed = self.mlp_norm(x)
        up = self._of("up", normed)
        hidden = F.silu(self._of("gate", normed)) * up if self.rotary else F.gelu(up, approximate="tanh")
        return x + self._of("down", hidden)


class Decoder(nn.Module):
    """A language model with random weights, on torch's default device and of its default type."""

    def __init__(self, model: Architecture) -> None:
        super().__init__()
        head, positions = model.matrix("head"), model.positions
        self.tokens = _embedding(head.m, head.n)
        self.positions = _embedding(positions, head.n) if positions else None
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.matrix("q").layers))
        self.norm = _norm(head.n, positions)
        self.head = nn.Linear(head.n, head.m, bias=False, device="meta" if positions else None)
        if positions:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, blocks: int | None = None) -> Tensor:
        """Logits of the next token, (batch, tokens, vocabulary), through the first `blocks` blocks; None: all."""
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks[:blocks]:
            x = block(x)
        return self.head(self.norm(x))


class Trial:
    """A decoder that is trained fully, or by a method on the matrices `targets` of every block.

    Args:
        name: an architecture.
        blocks: how many it has here.
        method: None trains everything.
        precision: of weights, gradients and Adam; what a method adds is fp32.
    """

    def __init__(
        self,
        name: str,
        blocks: int,
        method: str | None,
        options: dict[str, Any],
        targets: list[str],
        *,
        batch: int,
        context: int,
        precision: str,
        device: torch.device,
    ) -> None:
        architecture = ARCHITECTURES[name].cut(blocks)
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(TYPES[precision])
        try:
            with device:
                self.model = Decoder(architecture)
                if method:
                    named = [f"blocks.{i}.{target}" for i in range(blocks) for target in targets if target != "head"]
                    named += ["head"] * ("head" in targets)
                    methods.apply(self.model, method, targets=named, **options)
        finally:
            torch.set_default_dtype(before)
        self.model.train()
        self.blocks, self.taken = blocks, 0
        self.shape, self.vocabulary, self.device = (batch, context + 1), architecture.matrix("head").m, device
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, LR, fused=True)

    def step(self, blocks: int) -> tuple[float, float, float]:
        """One step through the first `blocks` blocks: its loss (nats), seconds of the gradients, and of Adam."""
        tokens = torch.randint(self.vocabulary, self.shape, device=self.device)
        began = self._now()
        logits = self.model(tokens[:, :-1], blocks)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        active: list[Any] = [m for block in self.model.blocks[:blocks] for m in block.modules()]
        penalised: Tensor = sum((m.penalty() for m in active if hasattr(m, "penalty")), loss)
        self.optimizer.zero_grad()
        penalised.backward()
        ready = self._now()
        self.optimizer.step()
        if blocks == self.blocks:  # a method that shares a budget among all layers needs the gradients of all
            for module in active:
                if hasattr(module, "after_step"):
                    module.after_step(self.taken, STEPS)
        self.taken += 1
        return loss.item(), ready - began, self._now() - ready

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _hello(wanted: dict[str, Any]) -> dict[str, Any]:
    """Set the process up, and say for what."""
    name = wanted["device"]
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        return {"error": f"device cuda: torch {torch.__version__} finds none on this machine; cpu is everywhere"}
    if wanted["threads"]:
        torch.set_num_threads(wanted["threads"])
    torch.set_flush_denormal(True)
    on_gpu = name == "cuda"
    return {
        "device": name,
        "unit": torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "free_bytes": torch.cuda.mem_get_info()[0] if on_gpu else memory.free(),
    }


def _start(given: dict[str, Any], device: torch.device) -> tuple[Trial, dict[str, Any]]:
    """Build and take two steps, after which Adam has its state; what that took, beside what was held before."""
    folder, on_gpu = Path(given.pop("folder")), device.type == "cuda"
    # A first step of all makes the libraries load their own parts, which are of no model.
    Trial("toy", 1, None, {}, [], batch=1, context=8, precision=given["precision"], device=device).step(1)
    held = 0 if on_gpu else memory.watch()
    training = Trial(**given, device=device)
    losses, *seconds = zip(*(training.step(training.blocks) for _ in range(2)), strict=True)
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else memory.peak()
    count = methods.count(training.model)
    path = folder / "trained.safetensors"
    save_file(checkpoint.trained(training.model), path)
    size = path.stat().st_size
    path.unlink()
    return training, {
        "parameters": count.total,
        "trainable": count.trainable,
        "loss": losses[0],
        "peak_bytes": None if peak is None or held is None else peak - held,
        "checkpoint_bytes": size,
        "warm_s": sum(column[-1] for column in seconds),
    }


def main() -> None:
    """Answer every line of standard input."""
    answer = sys.stdout

    def say(told: dict[str, Any]) -> None:
        print(json.dumps(told), file=answer, flush=True)

    with contextlib.redirect_stdout(sys.stderr):  # whoever else prints
        try:
            hello = _hello(json.loads(sys.stdin.readline()))
            say(hello)
            training, taken = _start(json.loads(sys.stdin.readline()), torch.device(hello["device"]))
            say(taken)
            for line in sys.stdin:
                turn = json.loads(line)
                seconds = [training.step(turn["blocks"])[1:] for _ in range(turn["steps"])]
                gradients, updates = (sum(column) / len(seconds) for column in zip(*seconds, strict=True))
                say({"gradients_s": gradients, "update_s": updates})
        except (RuntimeError, MemoryError, OSError) as error:  # of torch above all: memory that ran out after all
            say({"error": str(error).splitlines()[0] if str(error) else type(error).__name__})
