"""Folders of adapters both ways between lorabench and other releases of PEFT, each put before the installed one.

    python tests/benchmarks/peft_releases.py 0.10.0 0.13.2
    python tests/benchmarks/peft_releases.py 0.17.1 transformers==4.56.2 huggingface_hub==0.35.3 tokenizers==0.22.1

For each release: what it saves (the cases of tests/test_peft_format.py) read here, and what is written here read by it,
both on the logits of one random classifier. Words with `==` are put beside it, for a PEFT that needs older libraries.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorabench import checkpoint, methods
from lorabench.data.ways import import_datasets
from lorabench.errors import InputError
from lorabench.exchange import peft_format
from lorabench.exchange.peft import KINDS
from lorabench.exchange.peft_types import TYPES

TESTS = Path(__file__).parents[1]


def main(words: list[str]) -> None:
    """Run this file with each release."""
    beside = [word for word in words if "==" in word]
    for release in [word for word in words if "==" not in word]:
        with tempfile.TemporaryDirectory() as place:
            install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", place]
            subprocess.run([*install, f"peft=={release}", *beside], check=True)
            env = {**os.environ, "PYTHONPATH": os.pathsep.join([place, str(TESTS), str(TESTS.parent)])}
            subprocess.run([sys.executable, __file__, "--with-this-one"], check=True, env=env)


def both_ways() -> None:
    """Print what became of each case with the PEFT that can be imported."""
    warnings.simplefilter("ignore")
    import_datasets()
    import peft
    import test_peft_format as cases

    def read_here(folder: Path, kind: str, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        theirs = cases.saved(peft, folder, kind, options)(cases.IMAGES)
        return theirs, cases.ours(folder)[1](cases.IMAGES)

    def read_there(folder: Path, method: str, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        ours = written(folder, method, options, copy.deepcopy(cases.BASE))(cases.IMAGES)
        model: Any = peft.PeftModel.from_pretrained(copy.deepcopy(cases.BASE), str(folder))  # pyright: ignore[reportArgumentType]
        return ours, model.eval()(cases.IMAGES)

    saved = [(kind, options) for kind, options, _ in cases.SAVED]
    own = [("lora", {"alpha": 2.5}), ("ia3", {"place": "in"}), ("lokr", {"k": 16})]
    own += [(method, dict[str, Any]()) for method in (*peft_format.METHODS, "vera")]
    for title, way, tried in (("saved by it, read here", read_here, saved), ("ours, read by it", read_there, own)):
        outcomes = [(kind, options, outcome(way, kind, options)) for kind, options in tried]
        counts = Counter(text.split(":")[0] for _, _, text in outcomes)
        print(f"PEFT {peft.__version__}, {title}: {', '.join(f'{n} {word}' for word, n in counts.items())}")
        for kind, options, text in outcomes:
            print(f"    {kind} {options}  {text}")


def written(folder: Path, method: str, options: dict[str, Any], model: torch.nn.Module) -> torch.nn.Module:
    """`model` with the method on it, everything that it trains stirred; and the folder that it goes to."""
    layers = methods.linear_layers(model)
    options = {**methods.METHODS[method].defaults, **options}
    methods.apply(model, method, targets=None, **options)
    torch.manual_seed(1)
    stirred = {name: t + 0.1 * torch.randn_like(t) for name, t in checkpoint.trained(model).items()}
    checkpoint.restore(model, stirred)
    kind = KINDS[method]
    parts = {part.ours for part in TYPES[peft_format.METHODS[kind]].PARTS}
    tensors = {
        f"{name}.{part}": getattr(model.get_submodule(name), part)
        for name in layers
        for part in parts
        if hasattr(model.get_submodule(name), part)
    }
    if kind in ("lora", "rslora"):
        options["alpha"] = float(options.get("alpha") or options["k"])
    adapter = peft_format.Adapter(kind, options, tuple(layers), tensors)
    for name, content in peft_format.encode(adapter).items():
        (folder / name).write_bytes(content)
    return model.eval()


def outcome(
    way: Callable[[Path, str, dict[str, Any]], tuple[Tensor, Tensor]], kind: str, options: dict[str, Any]
) -> str:
    """`equal` within 1e-4 or `unlike`, `refused` by us with the reason, or `not there` with what PEFT said."""
    with tempfile.TemporaryDirectory() as place:
        try:
            first, second = way(Path(place), kind, options)
        except InputError as error:
            return f"refused: {str(error).replace(place, '')[:100]}"
        except Exception as error:  # noqa: BLE001 - whatever another release raises
            return f"not there: {type(error).__name__} {' '.join(str(error).split())[:100]}"
        apart = (first - second).abs().max().item()
        return f"{'equal' if apart <= 1e-4 else 'unlike'}: {apart:.1e}"


if __name__ == "__main__":
    both_ways() if sys.argv[1:] == ["--with-this-one"] else main(sys.argv[1:])
