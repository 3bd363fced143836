"""Small mistakes, one at a time, in a copy of the tree: the tests that are named with a mistake must notice it.

    python tests/mutants.py              # all of them: prints those that survive, and then exits with 1
    python tests/mutants.py adalora      # those with this word in their file or in one of their texts

A mutant is run in a fork of a process that has imported everything slow, so that a hundred take a few minutes.
"""

# ruff: noqa: T201 -- a program
from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE = 300
"""Seconds after which a mutant's tests are ended."""
QUICK = ["-x", "-q", "-n0", "--assert=plain", "-pno:cacheprovider", "-pno:hypothesispytest"]
SLOW = ("hypothesis.strategies", "pydantic", "rich", "safetensors.torch", "scipy.stats", "torch._dynamo", "typer")
"""What is imported once, for all."""


@dataclass(frozen=True)
class Mutant:
    """A mistake: `old`, which stands once in `file`, becomes `new`; `tests` are pytest's arguments."""

    file: str
    tests: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}  {self.old!r} -> {self.new!r}"

    def places(self, root: Path = ROOT) -> int:
        """How often `old` stands in its file; 1 is right."""
        return (root / self.file).read_text("utf-8").count(self.old)


def of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    """Several mistakes in one file of lorabench, for the same tests."""
    return [Mutant(f"lorabench/{file}", tests, old, new) for old, new in changes]


FIT = "tests/test_trajectories.py::test_fit_is_its_formulas"
DRAWN = "tests/test_draws.py::test_a_method_is_born_as_its_paper_says"
FORMULA = "tests/test_oracles.py::test_a_layer_computes_its_papers_formula"
HASH = "tests/test_train.py::test_the_hash_is_of_names_types_shapes_and_bytes"
REFUSED = "tests/test_train.py::test_a_checkpoint_that_does_not_fit_is_refused"
CONTRACT = "tests/test_methods.py::TestContract"

TRAINING = [
    *of(
        "train.py",
        f"{FIT}[lora]",
        ("BETAS = (0.9, 0.99)", "BETAS = (0.9, 0.999)"),
        ("BETAS = (0.9, 0.99)", "BETAS = (0.95, 0.99)"),
        ("(step + 0.5) / steps", "step / steps"),
        ("(1 - done) / (1 - warmup)", "1 - done"),
        ("return done / warmup if", "return done if"),
        ("images // recipe.batch_size)", "-(-images // recipe.batch_size))"),
        ("betas=BETAS", "betas=BETAS, eps=1e-7"),
        ("betas=BETAS", "betas=BETAS, amsgrad=True"),
        ("betas=BETAS", "betas=BETAS, weight_decay=1e-4"),
        (
            "self.optimizer.step()",
            "nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]['params'], 1.0)\n        self.optimizer.step()",
        ),
        ("self.optimizer.zero_grad()", "pass"),
        ("F.cross_entropy(logits, target)", "F.cross_entropy(logits, target, label_smoothing=0.01)"),
        ("manual_seed(seed)", "manual_seed(0)"),
        ("torch.stack(losses).mean()", "torch.stack(losses)[-1]"),
        ("torch.cat(hits).float()", "hits[-1].float()"),
        ("mean, accuracy, lr, now", "mean, accuracy, recipe.lr, now"),
        ("Epoch(epoch + 1,", "Epoch(epoch,"),
        ("start=epoch * per_epoch", "start=0"),
        ("torch.randperm(len(images), generator=generator)", "torch.arange(len(images))"),
    ),
    *of(
        "train.py",
        f"{FIT}[lora-plus]",
        ('getattr(parameter, "lr_scale", 1.0)', "1.0"),
        ('lr * group["scale"]', "lr"),
    ),
    *of(
        "train.py",
        "tests/test_trajectories.py -k adalora",
        ("sum([penalty() for penalty in self.penalties], loss)", "loss"),
        ("return loss.detach()", "return sum([penalty() for penalty in self.penalties], loss).detach()"),
        ("afterwards(step, steps)", "afterwards(epoch, recipe.epochs)"),
    ),
    *of("train.py", "tests/test_trajectories.py -k mode", ("model.train()", "model.eval()"), ("model.train()", "pass")),
    *of("train.py", "tests/test_train.py -k runs_away", ("if not mean < DIVERGED", "if mean > DIVERGED")),
    *of(
        "frozen.py",
        f"{FIT}[bitfit] {FIT}[lora]",
        (
            "return any(p.requires_grad",
            "return (p := next(layer.parameters(), None)) is not None and all(p.requires_grad",
        ),
        ("torch.split(images, CHUNK)", "torch.split(images[:CHUNK], CHUNK)"),
        ("layers[done + 1 if first else done :]", "layers[done + 1 :]"),
    ),
    *of("frozen.py", "tests/test_train.py -k whole", ("if not isinstance(model, nn.Sequential)", "if False")),
    *of("frozen.py", "tests/test_train.py -k frozen_work", ("c is x and only_reshaped", "False")),
    *of(
        "model.py",
        "tests/test_train.py",
        ("fork_rng(devices=[])", "fork_rng(devices=[], enabled=False)"),
        ("div_(255)", "div_(256)"),
    ),
    *of(
        "evaluate.py",
        "tests/test_train.py -k measure",
        ("labels * CLASSES + predicted", "predicted * CLASSES + labels"),
        ('"accuracy": int(right.sum()) / len(labels)', '"accuracy": int(right.sum()) / 10'),
    ),
]

CHECKPOINT = [
    *of(
        "checkpoint.py",
        HASH,
        ("[name, str(tensor.dtype), list(tensor.shape)]", "[name, list(tensor.shape)]"),
        ("[name, str(tensor.dtype), list(tensor.shape)]", "[name, str(tensor.dtype)]"),
        ("[name, str(tensor.dtype), list(tensor.shape)]", "[str(tensor.dtype), list(tensor.shape)]"),
        ("digest.update(tensor.numpy().tobytes())", "pass"),
        ("for name in sorted(tensors):", "for name in tensors:"),
    ),
    *of(
        "checkpoint.py",
        REFUSED,
        ("tensor.shape != want.shape", "tensor.numel() != want.numel()"),
        (" or tensor.dtype != want.dtype", ""),
        ("not torch.isfinite(tensor).all()", "torch.isnan(tensor).any()"),
        ("missing := sorted(set(expected) - set(tensors))", "missing := []"),
        ("extra := sorted(set(tensors) - set(expected))", "extra := []"),
    ),
    *of(
        "checkpoint.py",
        "tests/test_train.py -k 'frozen or base_is_refused or bit_for_bit'",
        ("if name not in live", ""),
        ("model.state_dict().items() if name not in live", "model.named_parameters() if name not in live"),
        ("if header.get(key) != value:", "if key in header and header[key] != value:"),
        ('{"format": "pt", **origin}', '{"format": "pt"}'),
        ("parameters[name].copy_(tensor)", "parameters[name].add_(tensor)"),
    ),
]

METHODS = [
    *of(
        "methods/__init__.py",
        f"{CONTRACT} -k 'classifier and (head or bitfit or lora-k=4)'",
        ("model.requires_grad_(False)", "pass"),
        ("return plain.requires_grad_(True)", "return plain"),
        ("trained.data, base.data = base.data, trained.data", "trained.data = base.data"),
        ("plain = copy.deepcopy(model)", "plain = model"),
        (".detach().clone(), persistent=False", ".detach(), persistent=False"),
        ("detach().clone(), persistent=False", "detach().clone(), persistent=True"),
    ),
    *of(
        "methods/__init__.py",
        "tests/test_methods.py -k 'rank or second or exactly or goes or quite'",
        ("k <= small", "k < small"),
        ("if type(m) is nn.Linear", "if isinstance(m, nn.Linear)"),
        ("if _wrappers(model) or _kept(model)", "if _wrappers(model)"),
        ("list(targets or METHODS[name]", "list(METHODS[name]"),
    ),
    *of(
        "methods/registry.py",
        "tests/test_methods.py -k 'goes or (count and (adapter or dora or oft or vera or ia3))'",
        ("where=lambda layers, o: layers[1:]", "where=lambda layers, o: layers"),
        ("else layers[:1]", "else layers"),
        ('sum(o["k"] * (n + m) + m for n, m in shapes)', 'sum(o["k"] * (n + m) + n for n, m in shapes)'),
        ('n * (o["block"] - 1) // 2', 'n * (o["block"] + 1) // 2'),
        ('m if o["place"] == "out" else n', 'n if o["place"] == "out" else m'),
    ),
    *of(
        "methods/lora.py",
        f"{DRAWN}[lora-kaiming] {DRAWN}[lora-gaussian] {DRAWN}[lora-talk]",
        ("/ math.sqrt(n)", "/ math.sqrt(3 * n)"),
        ("torch.randn(n, k) / k", "torch.randn(n, k) / math.sqrt(k)"),
        ("2 * torch.rand(n, k) - 1", "torch.rand(n, k)"),
        ('if init == "gaussian" else torch.randn(n, k)', 'if init == "gaussian" else torch.rand(n, k)'),
    ),
    *of(
        "methods/lora.py",
        "tests/test_oracles.py tests/test_methods.py -k '(formula or merge) and lora-'",
        ("else alpha / k", "else alpha"),
        ("alpha=self.scale", "alpha=1.0"),
        ("layer.weight.data += self.scale *", "layer.weight.data +="),
        ("return frozen + self.scale *", "return frozen +"),
    ),
    *of(
        "methods/rslora.py",
        f"{DRAWN}[rslora] {FORMULA}",
        ("/ math.sqrt(n)", "/ math.sqrt(3 * n)"),
        ("alpha / math.sqrt(k)", "alpha / k"),
    ),
    *of(
        "methods/lora_plus.py",
        f"{DRAWN}[lora-plus] {FIT}[lora-plus]",
        ("/ math.sqrt(n)", "/ math.sqrt(k)"),
        ('vars(self.B)["lr_scale"]', 'vars(self.A)["lr_scale"]'),
        ('["lr_scale"] = ratio', '["lr_scale"] = math.sqrt(ratio)'),
        ("ratio: float = 16.0", "ratio: float = 8.0"),
    ),
    *of("methods/lora_fa.py", f"{DRAWN}[lora-fa]", ("/ math.sqrt(n)", "/ n")),
    *of(
        "methods/lora_fa.py",
        f"{FIT}[lora-fa]",
        ("return x @ self.A, self.inner(x)", "return x @ self.A, x @ self.inner.weight.t()"),
    ),
    *of(
        "methods/dora.py",
        f"{DRAWN}[dora] {FORMULA}[dora] tests/test_draws.py",
        ("/ math.sqrt(n)", "/ math.sqrt(3 * n)"),
        ("2 * cross", "cross"),
        ("self.g = nn.Parameter(self.norm())", "self.g = nn.Parameter(torch.ones(inner.out_features))"),
        ("@torch.no_grad()", ""),
        ("frozen if b is None else frozen - b", "frozen"),
    ),
    *of(
        "methods/hira.py",
        f"{DRAWN}[hira] {FORMULA}[hira]",
        ("/ math.sqrt(n)", "/ math.sqrt(k)"),
        ("self.inner.weight * (self.A", "self.inner.weight.abs() * (self.A"),
    ),
    *of(
        "methods/vera.py",
        f"{DRAWN}[vera] {FORMULA}[vera]",
        ("(len(VA),), 0.1)", "(len(VA),), 1.0)"),
        ("torch.zeros(inner.out_features)", "torch.ones(inner.out_features)"),
        ("math.sqrt(6 / N)", "math.sqrt(3 / N)"),
        ("math.sqrt(6 / k)", "math.sqrt(6 / M)"),
        ("(low * self.d)", "low"),
    ),
    *of(
        "methods/loha.py",
        f"{DRAWN}[loha] {FORMULA}[loha]",
        ("0.1 * torch.randn(k, m)", "torch.randn(k, m)"),
        ("self.A2 = nn.Parameter(torch.randn(n, k)", "self.A2 = nn.Parameter(0.1 * torch.randn(n, k)"),
    ),
    *of(
        "methods/lokr.py",
        f"{DRAWN}[lokr] {FORMULA}[lokr]",
        ("math.sqrt(k)", "math.sqrt(m2)"),
        ("math.sqrt(n2)", "math.sqrt(n1)"),
        ("X @ self.D2.t() @ self.D1.t()", "X @ self.D2.t() @ self.D1.t().flip(0)"),
    ),
    *of(
        "methods/adapter.py",
        "tests/test_draws.py tests/test_oracles.py -k adapter",
        ("std=0.01, a=-0.02, b=0.02", "std=0.02, a=-0.04, b=0.04"),
        ("std=0.01, a=-0.02, b=0.02", "std=0.01, a=-0.03, b=0.03"),
        ('if init == "houlsby" else (D,)', 'if init == "houlsby" else (U,)'),
        ("torch.relu(h @ self.D + self.d)", "(h @ self.D + self.d)"),
        ("return h + torch.relu", "return torch.relu"),
    ),
    *of(
        "methods/adalora.py",
        f"{DRAWN}[adalora] tests/test_trajectories.py -k adalora",
        ("(0.02 * torch.randn(inner.out_features, k))", "torch.randn(inner.out_features, k)"),
        ("(0.02 * torch.randn(k, inner.in_features))", "(0.01 * torch.randn(k, inner.in_features))"),
        ("BETA = 0.85", "BETA = 0.9"),
        ("FIRST, LAST = 0.1, 0.4", "FIRST, LAST = 0.2, 0.4"),
        ("FIRST, LAST = 0.1, 0.4", "FIRST, LAST = 0.1, 0.5"),
        ("P.square().sum() + Q.square().sum()", "P.square().sum()"),
        ("P.square().sum() + Q.square().sum()", "P.norm() + Q.norm()"),
        ("return self.gamma * (", "return 0.1 * ("),
        ("return E + P.mean(0) + Q.mean(1)", "return P.mean(0) + Q.mean(1)"),
        ("return E + P.mean(0) + Q.mean(1)", "return E + P.sum(0) + Q.sum(1)"),
        ("return E + P.mean(0) + Q.mean(1)", "return E + P.mean(0)"),
        ("return mean * spread", "return mean"),
        ("return mean * spread", "return mean + spread"),
        ("(I - mean).abs()", "I"),
        ("(w.detach() * w.grad).abs()", "w.grad.abs()"),
        ("self.averages[name] = mean, spread", "self.averages[name] = mean, torch.zeros_like(spread)"),
        ("left**3", "left"),
        ("((step + 1) / steps - FIRST)", "(step / steps - FIRST)"),
        ("S.topk(budget)", "S.topk(budget, largest=False)"),
        ("self.target = max(1, round(keep * self.total))", "self.target = max(1, round(keep * self.total) - 1)"),
        ("layer.E.mul_(mask)", "layer.E.mul_(0.5 + 0.5 * mask)"),
    ),
    *of(
        "methods/oft.py",
        f"{FORMULA} tests/test_methods.py -k oft",
        ("(identity - skew, identity + skew)", "(identity + skew, identity - skew)"),
        ("upper - upper.mT", "upper + upper.mT"),
        ("mgj,gij->mgi", "mgj,gji->mgi"),
    ),
    *of(
        "methods/miss.py",
        f"{FORMULA} {FIT}[miss] tests/test_methods.py -k miss",
        ("-x.shape[-1] % k", "0"),
        ("% len(self.D)", "// len(self.D) % len(self.D)"),
        (".sum(-2), self.inner(x)", ".mean(-2), self.inner(x)"),
    ),
    *of(
        "methods/ia3.py",
        f"{DRAWN}[ia3] {DRAWN}[ia3-in] tests/test_methods.py -k ia3",
        ("torch.ones(inner.out_features)", "torch.zeros(inner.out_features)"),
        ("torch.ones(inner.in_features)", "1.1 * torch.ones(inner.in_features)"),
        ("layer.weight.data *= self.l.detach()\n        return", "return"),
        ("            layer.bias.data *= self.l.detach()", "            pass"),
    ),
    *of(
        "methods/prompt.py",
        "tests/test_methods.py tests/test_oracles.py -k prompt",
        ("FRAME = 4", "FRAME = 3"),
        ("(~inside)", "(inside)"),
        ("torch.tanh(self.w)", "self.w"),
        (".clamp(0, 1)", ""),
        ("self._shift(self.p), self.inner.weight)", "-self._shift(self.p), self.inner.weight)"),
        ("b0.detach() + moved", "b0.detach() - moved"),
    ),
    *of(
        "methods/pissa.py",
        "tests/test_oracles.py tests/test_methods.py -k pissa",
        ("Vt[:found].t() * S[:found].sqrt()", "Vt[:found].t() * S[:found]"),
        ("S[:found].sqrt()[:, None] * U[:, :found].t()", "S[:found].sqrt()[:, None] * U[:, -found:].t()"),
        ('self.get_buffer("W_res") + (self.A', "self.inner.weight + (self.A"),
    ),
    *of(
        "methods/olora.py",
        "tests/test_oracles.py tests/test_methods.py -k olora",
        ("A[:, :found] = R[:found].t()", "A[:, :found] = R[:found].t().abs()"),
        ("W_res = W0 - (A.cpu", "W_res = W0 + (A.cpu"),
        ('self.get_buffer("W_res") + (self.A', "self.inner.weight + (self.A"),
    ),
    *of(
        "methods/full.py",
        "tests/test_methods.py -k 'count and full'",
        ("(name).requires_grad_", "(name).weight.requires_grad_"),
    ),
    *of(
        "methods/head.py",
        "tests/test_methods.py -k 'count and head'",
        ("(name).requires_grad_", "(name).weight.requires_grad_"),
    ),
    *of(
        "methods/bitfit.py",
        "tests/test_methods.py -k 'count and bitfit'",
        ("b.requires_grad_(True)", "layer.requires_grad_(True)"),
    ),
]

MUTANTS = [*TRAINING, *CHECKPOINT, *METHODS]


def outcome(root: Path, tests: str) -> tuple[int, str]:
    """Of pytest on `tests` in the tree at `root`: its exit status, 1 if a test fails and 0 if none; what it says."""
    said = root.parent / "said"
    child = os.fork()
    if not child:
        status = 3  # pytest's own, for what should not happen
        try:
            signal.alarm(PATIENCE)
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            status = pytest.main([*QUICK, f"--rootdir={root}", *shlex.split(tests)])
            sys.stdout.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text("utf-8")


def copied(folder: Path) -> Path:
    """The tree in `folder`, and this process and its children so that they import lorabench from there."""
    root = folder / "tree"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    sys.dont_write_bytecode = True  # what is compiled twice in one second would not be noticed to have changed
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[:] = [str(root), *(path for path in sys.path if not Path(path).is_relative_to(ROOT))]
    os.chdir(root)
    spec = importlib.util.find_spec("lorabench")
    assert spec
    assert spec.origin == str(root / "lorabench" / "__init__.py"), spec.origin
    for slow in SLOW:
        importlib.import_module(slow)
    return root


def main(word: str = "") -> int:
    """Try the mutants with `word`; how many survive, or cannot be tried."""
    chosen = [mutant for mutant in MUTANTS if word in str(mutant)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder).resolve())
        for tests in dict.fromkeys(mutant.tests for mutant in chosen):
            status, said = outcome(root, tests)
            if status:
                print(f"without any mistake {tests} ends with {status}:\n{said}", flush=True)
                bad += 1
        for mutant in chosen:
            path = root / mutant.file
            text = path.read_text("utf-8")
            if (places := text.count(mutant.old)) != 1:
                print(f"stands {places} times  {mutant}", flush=True)
                bad += 1
                continue
            path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
            status, said = outcome(root, mutant.tests)
            path.write_text(text, "utf-8")
            if status != 1:
                print(f"survives  {mutant}" if status == 0 else f"ends with {status}  {mutant}\n{said}", flush=True)
                bad += 1
    print(f"{len(chosen)} mutants, {bad} not noticed")
    return bad


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]) > 0)
