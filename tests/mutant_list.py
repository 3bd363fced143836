"""The mistakes that `mutants.py` makes, each with the tests that must notice it.

A mutant that changes nothing that anybody could see is none: leave it out. One that survives asks for a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


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


FIT = "tests/test_trajectories.py::test_fit_is_its_formulas"
DRAWN = "tests/test_draws.py::test_a_method_is_born_as_its_paper_says"
FORMULA = "tests/test_oracles.py::test_a_layer_computes_its_papers_formula"
HASH = "tests/test_train.py::test_the_hash_is_of_names_types_shapes_and_bytes"
REFUSED = "tests/test_train.py::test_a_checkpoint_that_does_not_fit_is_refused"
CONTRACT = "tests/test_methods.py::test_contract"
SEEDS = "tests/test_stats.py -k 'not covers'"
INFERRED = "tests/test_inference.py -k 'not covers and not level and not two_runs and not equal_runs and not spreads'"
PAIRED = "tests/test_pairing.py tests/test_report_groups.py tests/test_report_methods.py tests/test_report.py"
GATE = "tests/test_report_gate.py"
IDS = "tests/test_identity.py tests/test_runs.py tests/test_config.py -k 'not killed and not live'"

TRAINING = {
    ("train.py", f"{FIT}[lora]"): [
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
    ],
    ("train.py", f"{FIT}[lora-plus]"): [("lr * scale", "lr")],
    ("train.py", "tests/test_trajectories.py -k adalora"): [
        ("loss + methods.penalty(self.model)", "loss"),
        ("return loss.detach()", "return penalised.detach()"),
        ("after_step(model, step, steps)", "after_step(model, epoch, recipe.epochs)"),
    ],
    ("train.py", "tests/test_trajectories.py -k mode"): [
        ("model.train()", "model.eval()"),
        ("model.train()", "pass"),
    ],
    ("train.py", "tests/test_train.py -k runs_away"): [("if not mean < DIVERGED", "if mean > DIVERGED")],
    ("frozen.py", f"{FIT}[bitfit] {FIT}[lora]"): [("layers[done + 1 if first else done :]", "layers[done + 1 :]")],
    ("frozen.py", "tests/test_train.py -k 'whole or frozen_work or pure or trained_after_all or draws'"): [
        ("= not any(p.requires_grad for p in layer.parameters())", "= True"),
        ("if not _plain_sequence(model)", "if not isinstance(model, nn.Sequential)"),
        ("only_reshaped and part is x", "False"),
        ("isinstance(inner, nn.Module) and _pure(inner)", "isinstance(inner, nn.Module)"),
        ("None if any(part.requires_grad for part in layer.frozen_part(x.detach())) else layer", "layer"),
        ('not getattr(layer, "inplace", False)', "True"),
        ("type(layer) in PURE and ", ""),
        ('own["_forward_hooks"]', "False"),
        ('"forward" in own', "False"),
        ("whole_part[start : start + CHUNK] = part", "whole_part[:CHUNK] = part"),
    ],
    ("evaluate.py", "tests/test_train.py -k pure"): [("batch.clone()", "batch")],
    ("model.py", "tests/test_train.py"): [
        ("fork_rng(devices=[])", "fork_rng(devices=[], enabled=False)"),
        ("div_(255)", "div_(256)"),
    ],
    ("evaluate.py", "tests/test_train.py -k measure"): [
        ("labels * CLASSES + predicted", "predicted * CLASSES + labels"),
        ('"accuracy": int(right.sum()) / len(labels)', '"accuracy": int(right.sum()) / 10'),
    ],
}

CHECKPOINT = {
    ("checkpoint.py", HASH): [
        ("[name, str(tensor.dtype), list(tensor.shape)]", "[name, list(tensor.shape)]"),
        ("[name, str(tensor.dtype), list(tensor.shape)]", "[name, str(tensor.dtype)]"),
        ("[name, str(tensor.dtype), list(tensor.shape)]", "[str(tensor.dtype), list(tensor.shape)]"),
        ("digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())", "pass"),
        ("for name in sorted(tensors):", "for name in tensors:"),
    ],
    ("checkpoint.py", REFUSED): [
        ("tensor.shape != want.shape", "tensor.numel() != want.numel()"),
        (" or tensor.dtype != want.dtype", ""),
        ("not torch.isfinite(tensor).all()", "torch.isnan(tensor).any()"),
        ("missing := sorted(set(expected) - set(tensors))", "missing := []"),
        ("extra := sorted(set(tensors) - set(expected))", "extra := []"),
    ],
    ("checkpoint.py", "tests/test_train.py -k 'frozen or base_is_refused or bit_for_bit'"): [
        ("if name not in live", ""),
        ("model.state_dict().items() if name not in live", "model.named_parameters() if name not in live"),
        ("if header.get(key) != value:", "if key in header and header[key] != value:"),
        ('{"format": "pt", **origin}', '{"format": "pt"}'),
        ("parameters[name].copy_(tensor)", "parameters[name].add_(tensor)"),
        ('parameters[name + "t"].copy_(tensor.t())', 'parameters[name + "t"].add_(tensor.t())'),
    ],
}

METHODS = {
    ("methods/__init__.py", f"{CONTRACT} -k 'classifier and (head or bitfit or hira)'"): [
        ("model.requires_grad_(False)", "pass"),
        ("applied.restore_flags(inside, adapter.flags)", "pass"),
        ("plain = copy.deepcopy(model,", "plain = (model,"),
    ],
    ("methods/__init__.py", "tests/test_methods.py -k 'rank or (all_or_nothing and lora-k) or goes or quite'"): [
        ("k <= small", "k < small"),
        ("if applied.notes(model)[1]", "if False"),
    ],
    (
        "methods/__init__.py",
        "tests/test_methods.py -k '(all_or_nothing and (lora-k or full)) or share or cannot or unknown or itself'",
    ): [
        ("replace(model, {new: old for", "dict({new: old for"),
        (".requires_grad_(flag)", ".requires_grad_(True)"),
        ("except ValidationError as error", "except ZeroDivisionError as error"),
    ],
    (
        "methods/wrapper.py",
        "tests/test_methods.py -k '(drop_in or fast_path or two_names or merge) and (lora-k or adapter or head)'",
    ): [
        ('func.__name__ == "__get__"', 'func.__name__ != "numpy"'),
        ('func.__name__ == "__get__"', "False"),
        ("detach().as_subclass(NoWeight)", "detach()"),
        ("named_modules(remove_duplicate=False)", "named_modules()"),
        ("layer.weight.copy_(self.weight)", "layer.weight.add_(self.weight)"),
        ("    return n, m\n", "    return m, n\n"),
    ],
    ("methods/applied.py", "tests/test_library.py -k 'Disabled or Before or Adapters'"): [
        ('copy=state == "off"', "copy=False"),
        ("copy=copy or not isinstance(tensor, nn.Parameter)", "copy=copy"),
        (".train(wrapper.inner.training)", ""),
        ("part = part or _PART in vars(module)", "pass"),
        ('if any(applied.state == "disabled"', 'if any(applied.state == "never"'),
        ("getattr(module, name).requires_grad_(flag)", "pass"),
    ],
    ("methods/__init__.py", "tests/test_library.py -k pruned"): [("if targets is None:", "if True:")],
    ("methods/adapters.py", "tests/test_library.py -k 'Adapters or beside'"): [
        ("if moved and id", "if id"),
        ('if not name.startswith("inner.")}', "}"),
        ("with seeded(0):", "if True:"),
        ("        applied.put_down(root, held)\n        if on:\n            on.put_back(root)\n", ""),
        ("    if on:\n        on.train(False)\n", ""),
        ("if _frozen_hash(root, new) != header", "if False and header"),
        ("new.flags = next(iter(held.values())).flags", "pass"),
    ],
    ("methods/wrapper.py", "tests/test_library.py -k 'Half or hook'"): [
        ("weight.device, torch.promote_types(weight.dtype, torch.float32)", "weight"),
        ("return (off / allowed).item()", "return 0.0"),
    ],
    ("methods/dora.py", "tests/test_library.py -k zeros"): [(".clamp(min=torch.finfo(self.g.dtype).tiny)", "")],
    ("methods/factors.py", "tests/test_library.py -k State"): [
        ("self.register_load_state_dict_post_hook(_leave_rest)", "pass"),
        ("self.own(At.contiguous(), trained", "self.own(At, trained"),
    ],
    ("methods/factors.py", f"{DRAWN} tests/test_oracles.py -k 'formula or born'"): [
        ("2 * torch.rand(shape) - 1", "torch.rand(shape)"),
        ("alpha=scale", "alpha=1.0"),
    ],
    ("methods/lora.py", "tests/test_library.py tests/test_oracles.py -k 'Dropout or embeddings'"): [
        ("self.dropout, self.training)", "self.dropout, True)"),
        ("F.dropout(x, self.dropout, self.training) if self.dropout else x", "x"),
        ("if embedding and dropout:", "if False:"),
    ],
    ("train.py", "tests/test_threads.py -k dropout"): [("with seeded(0):", "if True:")],
    ("threads.py", "tests/test_threads.py -k come_late"): [
        ("LATE * min(self._alone)", "LATE * max(self._alone)"),
        ("self._late = self._late + 1 if", "self._late = self._late + 1 if self._late or"),
        ("if self._late == IN_A_ROW:", "if self._late > IN_A_ROW:"),
        ("self.count = 1\n", "pass\n"),
    ],
    ("methods/wrapper.py", "tests/test_library.py -k Dropout"): [("self.training = False", "pass")],
    ("methods/layers.py", "tests/test_library.py -k Targets"): [
        ("if not isinstance(own, Mapping)", "if False"),
        ("given[keys[0]]", "given[keys[-1]]"),
        ("key == name or fnmatch.fnmatch(name, key)", "key == name"),
    ],
    ("methods/adapters.py", "tests/test_library.py -k 'mixed or add_up or mixture or torn'"): [
        ("weight * change.to", "change.to"),
        ("sums.get(place, base)", "base"),
        ("value.double() - found.to(value.device).double()", "value.double()"),
        ("W1.double() - wrapper.W0.double()", "W1.double()"),
        ("b1.double() - layer.bias.double()", "0 * b1.double()"),
        ('.exemption("mix", adapter.options)', '.exemption("birth", {})'),
        ("elif not torch.equal(value, found.to(value)):", "elif False:"),
        ("    adapters.pop(MIXTURE, None)\n    if new", "    if new"),
        ("if on.method == MIXTURE:", "if False:"),
        ("if moved and id(tensor) not in seen:", "if moved:"),
        ("if not torch.equal(places[name], tensors[name].to(places[name])):", "if False:"),
    ],
    ("methods/applied.py", "tests/test_library.py -k 'tied or torn'"): [("tensor.detach().clone()", "tensor.detach()")],
    ("methods/adapters.py", "tests/test_library.py -k Targets"): [("on.targets if any(on.targets.values()) else ", "")],
    ("methods/factors.py", "tests/test_oracles.py -k 'embeddings or convolution'"): [
        ("scale_grad_by_freq=layer.scale_grad_by_freq", "scale_grad_by_freq=True"),
        (", layer.padding_idx, ", ", None, "),
        ("repeat(layer.groups, 1, 1, 1)", "repeat_interleave(layer.groups, 0)"),
        ("frozen + scale * F.conv2d", "frozen + F.conv2d"),
    ],
    ("methods/lora.py", "tests/test_oracles.py -k embeddings"): [
        ("(torch.zeros(n, k), torch.randn(k, m))", "(torch.randn(n, k), torch.zeros(k, m))")
    ],
    ("methods/wrapper.py", "tests/test_models.py tests/test_oracles.py -k 'Embedding or convolution'"): [
        ("part.to(dtype) if part.is_floating_point() else part", "part.to(dtype)"),
        ("setattr(self, name, getattr(inner, name))", "pass"),
    ],
    ("methods/layers.py", "tests/test_models.py -k cannot_adapt"): [
        ('getattr(layer, "max_norm", None) is not None', "False"),
        ('if method.reach == "linear" else None', "if True else None"),
        ("if not wider:", "if False:"),
    ],
    ("methods/factors.py", "tests/test_methods.py -k 'merge and transformer and (lora-init or rslora)'"): [
        ("return frozen + scale * (low @ B)", "return frozen + (low @ B)")
    ],
    (
        "methods/registry.py",
        "tests/test_methods.py -k 'goes or (count and (adapter or dora or oft or vera or ia3 or randlora or shira))'",
    ): [
        ("where=lambda layers, o: layers[1:]", "where=lambda layers, o: layers"),
        ("else layers[:1]", "else layers"),
        ('[*_low_rank(n, m, o), [trained("g", m)', '[*_low_rank(n, m, o), [trained("g", n)'),
        ('[[trained("Q", n * (o["block"] - 1) // 2)', '[[trained("Q", n * (o["block"] + 1) // 2)'),
        ('o["factors"] * n *', "n *"),
        ('"Γ", N * p', '"Γ", N * q'),
        ('"S", min(o["k"] * (n + m), n * m)', '"S", o["k"] * (n + m)'),
        ('[own(n, m), trained("l", m)] if o["place"]', '[own(n, m), trained("l", n)] if o["place"]'),
    ],
    ("methods/entry.py", "tests/test_scale.py -k 'multiply_adds or torch_counts'"): [
        ("self.size if len(self.shape) == 2 else 0", "self.size"),
        ("needed = below", "needed = True"),
        ("made += part.products * (part.trained + needed)", "made += part.products * (part.trained + below)"),
        ("needed |= part.trained", "needed = part.trained"),
        ("if part.added and not part.trained]", "if not part.trained]"),
        ("if self.shared:", "if False:"),
    ],
    ("methods/registry.py", "tests/test_identity.py -k variant"): [
        ('lr_of=[({"variant": "border"}, 0.3)]', "lr_of=()")
    ],
    ("methods/entry.py", "tests/test_identity.py -k variant"): [
        ("lr for when, lr in self.lr_of if when.items() <= options.items()", "lr for when, lr in self.lr_of")
    ],
    ("methods/registry.py", f"{FIT}[lora-plus]"): [('"ratio": (Positive, 16.0)', '"ratio": (Positive, 8.0)')],
    ("methods/lora.py", f"{DRAWN}[lora-kaiming] {DRAWN}[lora-gaussian] {DRAWN}[lora-talk]"): [
        ("fan=n", "fan=3 * n"),
        ("torch.randn(n, k) / k if", "torch.randn(n, k) / k**0.5 if"),
        ('if init == "gaussian" else torch.randn(n, k)', 'if init == "gaussian" else torch.rand(n, k)'),
    ],
    ("methods/lora.py", "tests/test_oracles.py -k orthogonal_start"): [
        ("Q[1::2].t()", "Q[0::2].t()"),
        ("Q[0::2] / 10", "Q[0::2]"),
    ],
    ("methods/lora.py", "tests/test_oracles.py tests/test_methods.py -k '(formula or merge) and lora-'"): [
        ("else alpha / k", "else alpha")
    ],
    (
        "methods/factors.py",
        "tests/test_oracles.py tests/test_methods.py -k '(formula or merge or born) and (lora or pissa)'",
    ): [
        (", self.B, self.scale)", ", self.B)"),
        ("return self.W0 + self.scale *", "return self.W0 +"),
        ('self.get_buffer("W_res") + (self.A', "self.W0 + (self.A"),
        ("parts_of(layer.inner) - (At0", "parts_of(layer.inner) + (At0"),
    ],
    ("methods/rslora.py", f"{DRAWN}[rslora] {FORMULA}"): [
        ("fan=n", "fan=3 * n"),
        ("alpha / math.sqrt(k)", "alpha / k"),
    ],
    ("methods/lora_plus.py", f"{DRAWN}[lora-plus] {FIT}[lora-plus]"): [
        ("fan=n", "fan=k"),
        ('{"B": ratio}', '{"At": ratio}'),
        ('{"B": ratio}', '{"B": ratio**0.5}'),
    ],
    ("methods/lora_fa.py", f"{DRAWN}[lora-fa]"): [("fan=n", "fan=n * n")],
    ("methods/lora_fa.py", f"{FORMULA}[lora-fa]"): [
        (", self.At), self.inner(x)", ", self.At), x @ self.inner.weight.t()")
    ],
    ("methods/dora.py", f"{DRAWN}[dora] {FORMULA}[dora] tests/test_draws.py"): [
        ("fan=n", "fan=3 * n"),
        ("2 * cross", "cross"),
        ("self.own(self.norm())", "self.own(torch.ones(inner.out_features))"),
        ("@torch.no_grad()", ""),
        ("frozen if b is None else frozen - b", "frozen"),
    ],
    ("methods/hira.py", f"{DRAWN}[hira] {FORMULA}[hira]"): [
        ("fan=n", "fan=k"),
        ("self.W0 * (self.A", "self.W0.abs() * (self.A"),
    ],
    ("methods/vera.py", f"{DRAWN}[vera] {FORMULA}[vera]"): [
        ("VA),), 0.1)", "VA),), 1.0)"),
        ("torch.zeros(self.out_features)", "torch.ones(inner.out_features)"),
        ("math.sqrt(6 / N)", "math.sqrt(3 / N)"),
        ("math.sqrt(6 / k)", "math.sqrt(6 / M)"),
        ("(low * self.d)", "low"),
    ],
    ("methods/loha.py", f"{DRAWN}[loha] {FORMULA}[loha]"): [
        ("0.1 * torch.randn(k, m)", "torch.randn(k, m)"),
        ("self.A2 = self.own(torch.randn(n, k)", "self.A2 = self.own(0.1 * torch.randn(n, k)"),
    ],
    ("methods/lokr.py", f"{DRAWN}[lokr] {FORMULA}[lokr]"): [
        ("fan=k", "fan=m2"),
        ("fan=n2", "fan=n1"),
        ("X @ self.D2.t() @ self.D1.t()", "X @ self.D2.t() @ self.D1.t().flip(0)"),
    ],
    ("methods/adapter.py", "tests/test_draws.py tests/test_oracles.py -k adapter"): [
        ("std=0.01, a=-0.02, b=0.02", "std=0.02, a=-0.04, b=0.04"),
        ("std=0.01, a=-0.02, b=0.02", "std=0.01, a=-0.03, b=0.03"),
        ('if init == "houlsby" else (D,)', 'if init == "houlsby" else (U,)'),
        ("torch.relu(wide @ self.D + self.d)", "(wide @ self.D + self.d)"),
        ("(wide + torch.relu(", "(torch.relu("),
    ],
    ("methods/adalora.py", f"{DRAWN}[adalora] tests/test_trajectories.py -k adalora"): [
        ("(0.02 * torch.randn(self.out_features, k))", "torch.randn(self.out_features, k)"),
        ("(0.02 * torch.randn(k, self.in_features))", "(0.01 * torch.randn(k, self.in_features))"),
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
        ("spread.copy_(", "torch.zeros_like(spread).copy_("),
        ("left**3", "left"),
        ("((step + 1) / steps - FIRST)", "(step / steps - FIRST)"),
        ("S.topk(self.budget(step, steps))", "S.topk(self.budget(step, steps), largest=False)"),
        ("if step / steps < LAST", "if True"),
        ("mask.copy_(new)", "mask.mul_(new)"),
        ("self.target = max(1, round(keep * self.total))", "self.target = max(1, round(keep * self.total) - 1)"),
        ("layer.E.mul_(mask)", "layer.E.mul_(0.5 + 0.5 * mask)"),
    ],
    ("methods/oft.py", f"{FORMULA} tests/test_methods.py -k oft"): [("mgj,gij->mgi", "mgj,gji->mgi")],
    ("methods/factors.py", f"{FORMULA} -k oft"): [
        ("(identity - skew, identity + skew)", "(identity + skew, identity - skew)"),
        ("upper - upper.mT", "upper + upper.mT"),
    ],
    ("methods/boft.py", f"{FORMULA} -k boft"): [
        ("mgj,gij->mgi", "mgj,gji->mgi"),
        ("self.s[:, None] * turned", "turned"),
    ],
    ("methods/boft.py", "tests/test_oracles.py -k 'PEFT and boft-factors=3'"): [
        ("(m, -1, 2, 2**i, half)", "(m, -1, 2**i, 2, half)")
    ],
    ("methods/gralora.py", f"{DRAWN}[gralora] {FORMULA} -k gralora"): [
        ("fan=n // g", "fan=n"),
        ('"...ia,iajr->...ijr"', '"...ia,jair->...ijr"'),
        ('"...ijr,ijro->...jo"', '"...ijr,jiro->...jo"'),
    ],
    ("methods/hra.py", f"tests/test_draws.py {FORMULA} -k hra"): [
        ("fan=n", "fan=k"),
        (".repeat_interleave(2, dim=0)", ".repeat(2, 1)"),
        ("normalize(self.Ut)", "normalize(self.Ut.flip(0))"),
        ("turned - 2 * torch", "turned - torch"),
    ],
    ("methods/delora.py", f"{DRAWN}[delora] {FORMULA} -k delora"): [
        ("fan=n", "fan=k"),
        ("self.strength / len(self.B)", "self.strength"),
        ("self.W0.square().sum(0)", "self.W0.square().sum()"),
        ("x * self.norms", "x"),
    ],
    ("methods/fourierft.py", f"tests/test_draws.py {FORMULA} -k 'fourierft or places'"): [
        ("torch.randperm(n * m)[:frequencies]", "torch.arange(n * m)[:frequencies]"),
        ("torch.zeros(len(places))", "torch.randn(len(places))"),
        ("ifft2", "fft2"),
        ("self.alpha * update", "update"),
    ],
    ("methods/shira.py", f"tests/test_draws.py {FORMULA} -k 'shira or places'"): [
        ("torch.randperm(n * m)", "torch.arange(n * m)"),
        ("places // n, places % n", "places // n, places // m"),
    ],
    ("methods/randlora.py", f"{DRAWN}[randlora] {FORMULA} -k randlora"): [
        ("self.in_features > self.out_features", "self.in_features >= self.out_features"),
        ("uniform(k, P, fan=1 / 3)", "uniform(k, P, fan=1)"),
        ("p), 1 / p)", "p), 1.0)"),
        ("self.Lambda[:, :, None] * ", ""),
    ],
    ("methods/miss.py", f"{FORMULA} {FIT}[miss] tests/test_methods.py -k miss"): [
        ("-x.shape[-1] % k", "0"),
        ("% len(self.D)", "// len(self.D) % len(self.D)"),
        (".sum(-2), self.inner(x)", ".mean(-2), self.inner(x)"),
    ],
    ("methods/ia3.py", f"{DRAWN}[ia3] {DRAWN}[ia3-in] tests/test_methods.py -k ia3"): [
        ("torch.ones(self.out_features)", "torch.zeros(inner.out_features)"),
        ("torch.ones(self.in_features)", "1.1 * torch.ones(inner.in_features)"),
        ("self.W0 * self.l\n", "self.W0\n"),
        ("self.W0 * self.l[:, None]", "self.W0"),
        ("else b0 * self.l", "else b0"),
    ],
    ("methods/prompt.py", "tests/test_methods.py tests/test_oracles.py -k prompt"): [
        ("FRAME = 4", "FRAME = 3"),
        ("(~inside)", "(inside)"),
        ("torch.tanh(self.w)", "self.w"),
        (".clamp(0, 1)", ""),
        ("self._shift(self.p), self.W0)", "-self._shift(self.p), self.W0)"),
        ("b0 + moved", "b0 - moved"),
    ],
    ("methods/pissa.py", "tests/test_oracles.py tests/test_methods.py -k pissa"): [
        ("S[:rank].sqrt()[:, None] * Vt[:rank]", "S[:rank][:, None] * Vt[:rank]"),
        ("S[:rank].sqrt()[:, None] * U[:, :rank].t()", "S[:rank].sqrt()[:, None] * U[:, -rank:].t()"),
    ],
    ("methods/olora.py", "tests/test_oracles.py tests/test_methods.py -k olora"): [
        ("At[:rank] = R[:rank]", "At[:rank] = R[:rank].abs()"),
        ("B[:rank] = Q[:, :rank].t()", "B[:rank] = Q[:, -rank:].t()"),
    ],
    ("methods/head.py", "tests/test_methods.py -k 'count and head'"): [
        ("(name).requires_grad_", "(name).weight.requires_grad_")
    ],
    ("methods/full.py", "tests/test_models.py"): [("requires_grad_(True)", "requires_grad_(parameter.dim() > 1)")],
    ("methods/bitfit.py", "tests/test_models.py"): [("requires_grad_(True)", "requires_grad_(bias is None)")],
    (
        "methods/layers.py",
        "tests/test_models.py tests/test_methods.py -k 'test_models or share or cannot or unknown or itself'",
    ): [
        ("count(target) > 1", "count(target) > 3"),
        ("if values != own and values in", "if values in"),
        ("if values != own and values in", "if values != own and own in"),
        ('own.translate(str.maketrans("kK", "vV"))', "own"),
        ('"kK", "vV"', '"k", "v"'),
        ('.replace("Key", "Value")', ""),
        ("name not in heads and (other", "(other"),
        ("patterns.count(p) > 1", "True"),
        ("isinstance(wanted, str)", "False"),
        ('if "" in named and', "if False and"),
        ("if kind is not nn.Linear", "if not issubclass(kind, nn.Linear)"),
        ("if nn.utils.parametrize.is_parametrized(layer)", "if False"),
        ('if "weight" not in own', "if False"),
        ("is_floating_point()", "is_signed()"),
        ('calls["_forward_hooks"] or ', ""),
        ('calls["_forward_pre_hooks"] or ', ""),
        ('"forward" in calls', "False"),
        ("id(layer) in named", "False"),
        ("in embeddings)", "in ())"),
        ("if not method.in_place:", "if True:"),
        ("if not biases or", "if True or"),
        ("    if method.in_place:\n        _refuse_shared", "    if False:\n        _refuse_shared"),
        ("id(module) not in inside", "True"),
        ("stacklevel=3", "stacklevel=2"),
    ],
}

STATISTICS = {
    ("stats.py", SEEDS): [
        ("centre = correct + z * z / 2", "centre = correct + z * z"),
        ("/ n + z * z / 4)", "/ n + z * z / 2)"),
        ("_t_quantile(level, n - 1) * sd / math.sqrt(n)", "_t_quantile(level, n) * sd / math.sqrt(n)"),
        ("_t_quantile(level, n - 1) * sd / math.sqrt(n)", "_t_quantile(level, n - 1) * sd / math.sqrt(n - 1)"),
        ("_t_quantile(level, n - 1) * sd / math.sqrt(n)", "_normal_quantile(level) * sd / math.sqrt(n)"),
        ("for value in values) / (len(values) - 1))", "for value in values) / len(values))"),
        ('2 * _special("stdtr")(n - 1, -abs(t))', '_special("stdtr")(n - 1, -abs(t))'),
        ('2 * _special("stdtr")(n - 1, -abs(t))', '2 * _special("stdtr")(n, -abs(t))'),
        ("estimate = (c - b) / n", "estimate = (b - c) / n"),
        ("low = -1.0 if b == n else", "low = -1.0 if b == 0 else"),
        ("- 8 * n * constant", "- 4 * n * constant"),
        ("b - a - math.hypot(b - lower, high - a)", "b - a - math.hypot(higher - b, a - low)"),
        (">= abs(math.fsum(differences)) - slack", "> abs(math.fsum(differences)) + slack"),
        ("abs(math.fsum(differences)) - slack", "abs(math.fsum(differences))"),
        ("2.0 ** (1 - n)", "2.0 ** -n"),
        ("(len(p_values) - rank) * p_values[index]", "len(p_values) * p_values[index]"),
        ("largest = max(largest, min(1.0,", "largest = max(0.0, min(1.0,"),
        ("(tail(fewer - 1, b + c, 0.5) if fewer else 0.0)", "tail(fewer, b + c, 0.5)"),
        ("math.hypot(half, _normal_quantile(level) * error)", "half + _normal_quantile(level) * error"),
    ],
    ("analysis/inference.py", INFERRED): [
        ("FEWEST = 3", "FEWEST = 2"),
        ("interval.sd < image * (1 - 1e-9)", "interval.sd == 0"),
        ("interval.sd < image * (1 - 1e-9)", "interval.sd <= image"),
        ("p = stats.paired_t(values).p", "p = stats.sign_flip(values).p"),
        ("100 * (second.correct - first.correct) / first.n", "100 * (first.correct - second.correct) / first.n"),
        ("holm=(p := next(adjusted))", "holm=(p := min(next(adjusted), gap.p))"),
        ("low, high = min(low, 0.0), max(high, 0.0)", "pass"),
        (
            "low, high = (None, None) if lacks else (interval.low, interval.high)",
            "low, high = interval.low, interval.high",
        ),
        ("> FAR_APART * error", "> FAR_APART"),
        ("c.correct * (c.n - c.correct) / c.n**3", "c.correct * (c.n - c.correct) / c.n**2"),
        ("p = stats.mcnemar_mid_p(lost, gained)", "p = stats.mcnemar_mid_p(lost, gained) / 2"),
    ],
}

PAIRING = {
    ("analysis/settings.py", PAIRED): [
        ("[*related, *same_base, *of_base_seed,", "[*same_base, *of_base_seed,"),
        ("[*related, *same_base, *of_base_seed,", "[*related, *of_base_seed, *same_base,"),
        ("[*related, *same_base, *of_base_seed,", "[*related, *same_base,"),
        ("*(same_seed if len(same_seed) == 1 else ())]", "]"),
        ("*(same_seed if len(same_seed) == 1 else ())]", "*same_seed]"),
        ("same_seed = [other for other in others if other.seed == run.seed]", "same_seed = list(others)"),
        ("same_base = [other for other in same_seed", "same_base = [other for other in others"),
        ("is not None and seed == base_seed(run)]", "is not None]"),
        ("run.id == other.parents.base or other.id == run.parents.base", "run.id == other.parents.base"),
        ('[run.seed, run.parents.base or ""] = run', '[run.seed, ""] = run'),
        ('[run.seed, run.parents.base or ""] = run', '[0, run.parents.base or ""] = run'),
        ("key = run.label, str(sorted(recipe.items()))", 'key = run.label, ""'),
        ('return {"data": data, **', "return {**"),
        ("_asked(run) | _images(run.parents.data, bases)", "_asked(run)"),
        ('if key != "seed"}', 'if key not in ("seed", "lr")}'),
        ("for place in sorted(own)", "for place in own"),
        ("complete = all(", "complete = any("),
        ('run.stage == "finetune" and run.status == "done"]', 'run.stage == "finetune"]'),
        ("each.k != 4", "each.k == 4"),
        ('**self.bases.get((run.parents.base or "", run.parents.data), {}), **run.before', "**run.before"),
    ],
    ("analysis/groups.py", f"{PAIRED} tests/test_quantities.py"): [
        ("any(run.id in baseline for run in setting.runs)", "all(run.id in baseline for run in setting.runs)"),
        ('run.status == "done" and run.stage != "fmnist"]', 'run.stage != "fmnist"]'),
        ("{} if setting is reference else", "{} if setting is not reference else"),
        ("whole = [known.with_bases(setting) for setting", "whole = [setting for setting"),
        ("<= MATCHED if", "<= 1 if"),
    ],
    ("analysis/inference.py", f"{PAIRED} tests/test_quantities.py"): [
        ("column = [row for row in adjusted if key in row]", "column = [row for row in adjusted if key in row][:1]"),
        ("(_number(quantity, old), _number(quantity, new))", "(_number(quantity, new), _number(quantity, old))"),
        ("[(value.after, value.before)", "[(value.before, value.after)"),
    ],
    (
        "analysis/quantities.py",
        "tests/test_quantities.py tests/test_ls.py tests/test_report_gate.py tests/test_report_groups.py",
    ): [
        ('partial(_counted, "metrics", stem)', 'partial(_counted, "before", stem)'),
        ("counted = whole.slices.get(part) if whole and part else whole", "counted = whole"),
        (
            "Fraction(*measured.before) - Fraction(*measured.after)",
            "Fraction(*measured.after) - Fraction(*measured.before)",
        ),
        (".removesuffix('.n')", ""),
        ("self.read(run) if self.read else at(self.key, run)", "self.read(run) if self.read else None"),
        ("before, after = count(run.before", "after, before = count(run.before"),
    ],
    ("analysis/groups.py", "tests/test_report_groups.py -k pareto"): [
        ("c <= point[0] and g >= point[1]", "c < point[0] and g >= point[1]"),
        ("c <= point[0] and g >= point[1]", "c <= point[0] and g > point[1]"),
        (" and (c, g) != point", ""),
    ],
    ("analysis/fairness.py", "tests/test_report_groups.py"): [
        ("if len(values) > 1]", "if len(values) > 2]"),
        ('f" of seed {run.seed}"', '""'),
        ("* run.settings['batch_size']:,} images\"", ':,} images"'),
        ('for key in (*GROUND, "threads"):', "for key in GROUND:"),
    ],
    ("analysis/paired.py", "tests/test_report_compare.py"): [
        ("len(first.labels) != len(second.labels) or ", ""),
        ("(first.labels != second.labels).any()", "False"),
        ("first.fmnist != second.fmnist:", "False:"),
        ("first.changed == second.changed)", "first.changed | ~second.changed)"),
        ("(first.change == second.change)", "True"),
        (
            "int((first & ~second).sum()), int((~first & second).sum())",
            "int((~first & second).sum()), int((first & ~second).sum())",
        ),
    ],
}

GATING = {
    ("analysis/gates.py", GATE): [
        ("return rows + _unfinished(runs)\n\n\ndef group_rows", "return rows\n\n\ndef group_rows"),
        ("return rows + _unfinished(runs)\n\n\ndef failing", "return rows\n\n\ndef failing"),
        ("reasons = [*met, *absent, *lines]", "reasons = [*met, *absent]"),
        ("reasons = [*met, *absent, *lines]", "reasons = [*met, *lines]"),
        ("lines = [*lost, ", "lines = ["),
        ("if reasons or any(decision is not None for decision in decided):", "if True:"),
        ("condition.decides(row.values)", "condition.holds(row.values)"),
        ("if n < of:", "if n == 0:"),
        ("isinstance(value, float) and not math.isfinite(value)", "False"),
        ("if len(numbers) == len(values) else None", "if numbers else None"),
        ("or not quantity.tuned)", "or True)"),
        ("_exact(end) / share", "_exact(end)"),
        ("gap.holm)", "gap.p)"),
        ("run.id not in shown", "False"),
        ("for name in _delta_names() if values[name] is None", "for name in ()"),
        ("if deltas and not lines and", "if deltas and"),
        ("zip(asked, decided, strict=True) if met]", "zip(asked, decided, strict=True) if not met]"),
    ],
    ("analysis/quantities.py", f"{GATE} tests/test_ls.py"): [
        ("1 <= value <= 100", "1 < value <= 100"),
        ("0 < abs(value) <= 100", "1 < abs(value) <= 100"),
        ('if signed and self.percent == "never":', "if False:"),
        ("value.denominator != 1", "False"),
        ("value < self.low)", "False)"),
        ("value > self.high)", "False)"),
    ],
    ("analysis/listing.py", f"{GATE} tests/test_ls.py"): [
        ("return POINTS if end and quantity.counts", "return SHARE if end and quantity.counts"),
        ("if not names:", "if False:"),
        ("alike = first == second or", "alike = True or"),
        ("value is not None and units[0] != NUMBER", "False"),
        ("number.decimal(float(100 * value))", "number.decimal(float(value))"),
    ],
    ("query.py", "tests/test_query.py"): [
        ("return None if decision is None else not decision", "return not decision"),
        ("known = known and decision", "known = decision"),
        ("                return missing\n", "                return False\n"),
        ("Fraction(repr(value))", "Fraction(value)"),
        ("return Fraction(written) if rough else Fraction(0)", "return Fraction(rough)"),
        ("if problem := self.rule(left, right):", "if False:"),
    ],
    ("analysis/claims.py", "tests/test_report.py -k 'expect or tolerance'"): [
        ("0 < abs(value) <= 1:", "False:"),
        ("- value) <= tolerance", "- value) < tolerance"),
        ("- value) <= tolerance", "- value) <= tolerance + Fraction(1, 1000000)"),
        ("if row.value is None:", "if False:"),
        ("    if key not in _UNITS:\n", "    if False:\n"),
        ("value.denominator != 1", "False"),
    ],
    ("runs/notes.py", "tests/test_runs.py tests/test_hostile.py -k 'note or newest'"): [
        ("if all(map(ID.fullmatch, study.runs)):", "if True:"),
        ("for _, study in reversed(self._studies()):", "for _, study in self._studies():"),
        ('f"+{capital[0].lower()}"', "capital[0]"),
        ("files.move(old, old.with_name(place))", "pass"),
    ],
    ("cli/stages.py", GATE): [
        ("lost.append(str(error))", "pass"),
        ("gone = [run_id for run_id in named.runs if run_id not in by_id]", "gone = []"),
    ],
    ("cli/look.py", GATE): [
        ("if fail_on is not None else None", "if fail_on else None"),
        ("for folder in broken]\n    else", "for folder in ()]\n    else"),
    ],
}

RECORDS = {
    ("runs/record.py", IDS): [
        ("sort_keys=True", "sort_keys=False"),
        ("DIGITS, EARLIER_DIGITS = 12, 8", "DIGITS, EARLIER_DIGITS = 8, 8"),
        ("now = _digest({**inputs, **parents})", "now = _digest(inputs)"),
        ("{name: earlier(parent) for name, parent in parents.items()}", "parents"),
    ],
    ("runs/record.py", "tests/test_hostile.py -k another_hand"): [
        ("abs(accuracy - correct / n) > ROUNDING", "False"),
        ("sum(map(sum, self.confusion)) != self.n", "False"),
        ("enumerate(self.confusion)) != self.correct", "enumerate(self.confusion)) > self.correct"),
        ("if parts and (sum(p.n for p in parts)", "if False and (sum(p.n for p in parts)"),
    ],
    ("runner/stages.py", IDS): [
        ('| ({"holdout": config.holdout} if config.holdout else {})', ""),
        ('{"stage": "fmnist", "settings": settings, **_images(config)}', '{"stage": "fmnist", "settings": settings}'),
        (
            '{"stage": "pretrain", "settings": settings, **_images(config)}',
            '{"stage": "pretrain", "settings": settings}',
        ),
        (
            'inputs = {"stage": "finetune", "settings": settings, **_images(config)}',
            'inputs = {"stage": "finetune", "settings": settings}',
        ),
        ("inputs, base=base, data=images.id)", "inputs, base=base)"),
        ("inputs, base=base, data=images.id)", "inputs, data=images.id)"),
        ('"stage": (run.stage, stage.kind), ', ""),
        ('"holdout": (run.holdout, stage.config.holdout)}', "}"),
        ("if different := [key for key, (had, asked) in pairs.items() if had != asked]:", "if different := []:"),
        (', "mnist": (run.mnist or data.CHECKSUM, data.CHECKSUM)}', "}"),
        ('"reuse": (run.reuse, stage.reuse), ', ""),
        ("pretrain(stage.config), store):", "pretrain(stage.config), store) and False:"),
        ("fmnist(stage.config), store):", "fmnist(stage.config), store) and False:"),
        ("else run.id != earlier(run.id)", "else True"),
    ],
    ("config/schema.py", "tests/test_identity.py -k 'gains or added'"): [
        ("if key not in late or value != late[key]", "if key not in late"),
        ("if key not in late or value != late[key]", ""),
    ],
    ("methods/entry.py", "tests/test_identity.py"): [
        (
            '{"method", "targets", "epochs", "batch_size", "lr", "warmup", "seed", "options"}',
            '{"method", "targets", "seed", "options"}',
        ),
        ('| {"also_train"}', "| set()"),
        ("if taken := sorted(RESERVED & self.options.keys()):", "if taken := []:"),
    ],
    ("runs/store.py", "tests/test_runs.py -k edited"): [("if run.files.get(name) != checksum:", "if False:")],
}

MEASUREMENT = "tests/test_measure.py --deselect tests/test_measure.py::test_the_command"
MEASURED = {
    ("scale/architectures.py", MEASUREMENT): [
        ("(1 if positions else 2) + positions * d + norm", "(1 if positions else 2) + norm"),
        (
            "matrix.bias * matrix.m for matrix in block) + 2 * norm",
            "matrix.bias * matrix.m for matrix in block) + norm",
        ),
        ("norm = 2 * d if positions else d", "norm = d"),
    ],
    ("scale/trial.py", MEASUREMENT): [
        ("is_causal=True, ", ""),
        ("self.blocks[:blocks]", "self.blocks"),
        ("second * cosine + first * sine", "second * cosine - first * sine"),
        ("self.positions.weight[: tokens.shape[1]]", "self.positions.weight[:1]"),
        ("normal_(std=0.02)", "normal_()"),
        ("self.model(tokens[:, :-1], blocks)", "self.model(tokens[:, :-1])"),
        ("tokens[:, 1:].flatten()", "tokens[:, 1:].flatten() * 0"),
        ("    path.unlink()\n", ""),
    ],
    ("scale/measure.py", MEASUREMENT): [
        ("fits = (sum(self.needs(n)[0 if both else 1 :])", "fits = (sum(self.needs(n)[1:])"),
        ("if most == layers and affordable(layers):", "if most == layers:"),
        ("range(most, first[0], -1) if affordable(n)", "range(most, first[0], -1)"),
        ("        stack.callback(trials.end)\n", ""),
        ('trials.running.pop("full").end()', 'trials.running.pop("full")'),
        ("        self.end()\n        for name in names:", "        for name in names:"),
    ],
    ("analysis/measured.py", MEASUREMENT): [
        ("line / measured.mean - 1", "line / measured.mean"),
        ("(layers - a) / (b - a)", "(layers - a) / b"),
        ("return (times.mean, times.high, times.low)", "return (1 / times.mean, times.high, times.low)"),
        ('if quantity == "step" else [0.0]', 'if quantity != "step" else [0.0]'),
        ("return [whole / part for", "return [part / whole for"),
        ("1 / value + less", "1 / value - less"),
    ],
}

LEDGER = (
    "tests/test_report.py tests/test_two_fmnists.py "
    "-k 'talk or verdict or figure or ledger or speed or peak or ways or own_bases'"
)
SCALE = "tests/test_scale.py -k 'not command'"
SWEEP = "tests/test_sweep.py -k 'grid or axis or pairs or failures or estimate or lead or row_and or cached or refused'"
REST = {
    ("scale/projection.py", SCALE): [
        ("held * precision.weight + trained *", "trained * precision.weight + trained *"),
        ("-(-size // (gigabytes * 10**9))", "size // (gigabytes * 10**9)"),
        ("return 100 * whole, whole + 100 *", "return 100 * whole, 100 *"),
        ("2 * products - unneeded", "2 * products"),
        ("for matrix in adapted if not matrix.bias)", "for matrix in adapted)"),
        ("added = 0 if entry.in_place else", "added ="),
        ("(matrix.layers - ends) * made.backward + ends * made.lowest", "matrix.layers * made.backward"),
        ("entry.where is not methods.every", "False"),
        ("for _ in range(matrix.layers)]", "for _ in range(1)]"),
        ("other[1:] != asked[1:]", "other.name != asked.name"),
    ],
    ("scale/architectures.py", SCALE): [
        ("(not matrix.beside) if heights else 0", "1 if heights else 0"),
        ("else matrix.layers\n", "else 1\n"),
        ("if height <= heights[first] else 0", "if height < heights[first] else 0"),
    ],
    ("scale/claims.py", SCALE): [
        ("round(saved, 4) >= CHECKPOINT_SAVED", "saved >= CHECKPOINT_SAVED"),
        ('"possible" if saved >= TIME_SAVED', '"possible" if saved > 0'),
        ('"holds" if share <= GPU_SHARE', '"holds" if share < 1'),
        ("(counted + unit // 2) // unit == figure", "counted // unit == figure"),
        ("row.vectors * width", "row.vectors"),
        ("if count < 10_000 * unit", "if count < 1_000 * unit"),
    ],
    ("sweep.py", SWEEP): [
        ("if axis.path == other.path:", "if axis.key == other.key:"),
        ("if combinations > MOST_RUNS:", "if False:"),
        ("repeated += stages.same_seeds(own)", "pass"),
        ("if stages.cached(stage, store)}\n    missing", "if stage.epochs}\n    missing"),
        ("return [(*work, method), work]", "return [work]"),
        ("sum(filter(None, seconds)) / workers", "sum(filter(None, seconds))"),
        ("seconds.count(None)", "len(missing)"),
        ("and not point.failed]", "]"),
        ("whole.sort(key=lambda pair: -pair[0])", "whole.sort(key=lambda pair: pair[0])"),
        ("(behind.get(run.seed), run.fmnist)", "(run.fmnist, behind.get(run.seed))"),
        ("run.seed: run.fmnist for run in second.tuned", "run.seed: run.fmnist for run in first.tuned"),
        ("tuned_run(result.run, stage.config.seed)", "tuned_run(result.run, result.run.seed)"),
    ],
    ("sweep.py", "tests/test_two_fmnists.py -k sweep"): [
        ("(run.before, run.fmnist)", "(run.fmnist, run.before)"),
        ("        if self.several:\n", "        if False:\n"),
    ],
    ("tune.py", "tests/test_tune.py -k 'grid or best'"): [
        ("(point[0], -point[1])", "(point[0], point[1])"),
        ("mean.n == len(runs)", "True"),
        ("low -= best == self.lrs[0]", "low -= 0"),
        ("high += best == self.lrs[-1]", "high += best == self.lrs[0]"),
        ("config.holdout or HOLDOUT", "HOLDOUT"),
        ("range(WIDENINGS)", "range(1)"),
        ("if stage.id not in tried]", "]"),
    ],
    ("bench.py", "tests/test_bench.py -k 'bytes or mean or fast'"): [
        ("ratios = [a / b for", "ratios = [b / a for"),
        ("_bytes([p for p in parameters if p.requires_grad])", "_bytes(parameters)"),
        ("[*parameters, *gradients, *state]", "[*parameters, *state]"),
        ("if storage.data_ptr() not in own:", "if True:"),
    ],
    ("analysis/paired.py", "tests/test_report_compare.py"): [
        ("affected & ~flipped", "affected"),
        ("len(flipped) != len(labels)", "False"),
        ('if "before_" in name}', "}"),
    ],
    ("spectrum.py", "tests/test_spectrum.py"): [
        (".double().square()", ".double()"),
        ("ENERGY = 0.9", "ENERGY = 0.5"),
        ("(total / energy[0])", "(total / energy[-1])"),
        (".sum()) + 1", ".sum())"),
    ],
    (
        "analysis/number.py",
        "tests/test_number.py tests/test_report.py -k 'number or print or plus or decision or level or ages'",
    ): [
        ("(ends[0] <= 0 <= ends[1]) == (low <= 0 <= high)", "True"),
        ("round(value, decimals) < 0.05) != (value < 0.05)", "False)"),
        ("abs(round(value.mean, decimals)) <= round(half, decimals)) != holds", "False)"),
        ("number == spans[-1][-1] + 1", "number == spans[-1][0] + 1"),
        ("then.replace(tzinfo=UTC)", "then.astimezone(UTC).replace(hour=0, tzinfo=UTC)"),
        ("passed >= size", "passed > size"),
        ("if value.n <= 5:", "if value.n <= 6:"),
    ],
    ("analysis/single.py", "tests/test_report_confusion.py"): [
        ("100 * row[digit] / sum(row) if", "100 * row[digit] / sum(map(sum, matrix)) if"),
        ("if t != p and count]", "if count]"),
        ("(-cell.count, cell.true", "(cell.count, cell.true"),
        ("-abs(c.after - c.before)", "c.before - c.after"),
        ("cell.before != cell.after", "cell.before < cell.after"),
    ],
    ("analysis/groups.py", "tests/test_report_plot.py tests/test_figures.py -k 'rank or series or plot'"): [
        ('is not None], "k", "lr")', 'is not None], "k")'),
        ('else _alike(group, "k")', "else [group]"),
        ("for group in ranked if len(group) > 1]", "for group in ranked]"),
        ("key=lambda point: point.k", "key=lambda point: -point.k"),
        ("if len(recipes) == 1 else {}", "if recipes else {}"),
    ],
    ("analysis/listing.py", "tests/test_ls.py tests/test_report_runs.py"): [
        ("for key in reversed(keys):", "for key in keys:"),
        ("named[:limit] if keys else named[-limit:]", "named[:limit]"),
        ("fitting = len(named)\n", "fitting = len(runs)\n"),
        ("isinstance(value, float) and math.isnan(value)", "False"),
        ("float(100 * value) if isinstance", "float(value) if isinstance"),
    ],
    ("analysis/claims.py", LEDGER): [
        ('if f"{ours:,}" == row.talk', "if ours"),
        ("TOLERANCE = 0.5", "TOLERANCE = 0.6"),
        ("LEVELS = 0.95, 0.90", "LEVELS = 0.95, 0.95"),
        ("talk - TOLERANCE <= narrow.low and narrow.high <= talk + TOLERANCE", "narrow.low <= talk <= narrow.high"),
        ('"above" if wide.low > talk else "below" if wide.high < talk', '"above" if wide.mean > talk else "below"'),
        ("if departures := _data(run):", "if departures := []:"),
        ("scaled = alpha is not None and alpha != run.k", "scaled = alpha is not None"),
        ("change == 0 and all(", "change == 0 or all("),
        ('if run.stage == "fmnist" or not study.images(run):', "if True:"),
        ("next((bases for bases in recipes if own in bases), ", "next((bases for bases in recipes), "),
        ("if (value := settings.get(key, talk)) != talk", "if (value := settings.get(key)) != talk"),
        ("for run in study.runs if not run.holdout)", "for run in study.runs)"),
        ("lambda ratio: 100 * (ratio - 1)", "lambda ratio: 100 * ratio"),
        ("100 / (1 - ours) - 100", "100 * ours"),
        ("if ours and whole]", "if ours or whole]"),
    ],
    ("analysis/comparison.py", "tests/test_report_compare.py tests/test_quantities.py"): [
        ("or (row.key == _DIRTY and any(row.values))", ""),
        ("if [sum(row) for row in before] == [sum(row) for row in after]:", "if True:"),
    ],
    ("analysis/study.py", "tests/test_report.py tests/test_report_methods.py"): [
        ("100 * run.params.trainable / whole if whole", "100 * run.params.total / whole if whole"),
        ("[] if any(run.holdout for run in runs) else", ""),
        ("summed(old.confusion for old, _ in both)", "summed(new.confusion for _, new in both)"),
    ],
    ("analysis/single.py", "tests/test_report_runs.py tests/test_report_compare.py tests/test_quantities.py"): [
        ("100 * before.correct / before.n if before", "before.correct / before.n if before"),
        ("else second - first", "else first - second"),
        ('quantity.of(run) if run.status == "done" else None', "quantity.of(run)"),
        ("value / per if", "value if"),
        ("if counts.n]", "]"),
        (
            'predictions[f"before_{name}"] == labels, predictions[name] == labels',
            'predictions[name] == labels, predictions[f"before_{name}"] == labels',
        ),
        ("100 * flipped / images", "100 * flipped / sum(counts['images'])"),
    ],
}

MUTANTS = [
    Mutant(f"lorabench/{file}", tests, old, new)
    for room in (TRAINING, CHECKPOINT, METHODS, STATISTICS, PAIRING, GATING, RECORDS, MEASURED, REST)
    for (file, tests), changes in room.items()
    for old, new in changes
]
