"""Every command of README.md, typed in its order in one folder; long ones with quick settings or as a dry run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command_line import CommandLine

README = Path(__file__).parent.parent / "README.md"
QUICK = [f"-s{text}" for text in ("pretrain.epochs=1", "finetune.epochs=1", "holdout=1000", "study.workers=1")]
TRAINING = {"pretrain", "make-fmnist", "finetune-lora", "finetune", "study", "sweep"}
INSTEAD = {
    "bench": ["bench", "bitfit", "--rounds", "1", "--steps", "2"],
    "tune -c methods": ["tune", "-c", "methods", "--dry-run"],
    "study -c methods": ["study", "-c", "methods", "--dry-run"],
    "study -c study": ["study", "-c", "study", "--seeds", "0", *QUICK],
    "study --seeds 0-9 --k 8": ["study", "--seeds", "0-1", "--k", "8", *QUICK],
    "sweep --grid k=1,2,4,8 --grid lora.lr=1e-2,3e-2 --seeds 0-1 -s holdout=5000 -j 2": [
        *("sweep", "--grid", "k=2,4", "--grid", "lora.lr=1e-2,3e-2", "--seeds", "0", *QUICK)
    ],
    "scale gpt2 --measure": ["scale", "gpt2"],  # tests/test_measure.py measures one
    "study --engine dask://HOST:8786": ["study", "--engine", "dask://HOST:8786", "--dry-run"],
}
"""What is typed in place of a command that takes minutes, or another machine."""
CODES = {"study -c study": 6, "report lora-k4-s0 --fail-on": 6}
"""A run of one epoch misses the figures that these ask for; all other commands exit with 0."""


@pytest.mark.slow
def test_the_readme_can_be_typed_from_top_to_bottom(
    tmp_path: Path, few_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = re.findall(r"^    lorabench ((?!typo)[a-z].*)$", README.read_text(), re.MULTILINE)
    assert len(lines) > 30
    monkeypatch.chdir(tmp_path)
    cli = CommandLine(Path("runs"), few_images)
    named: dict[str, str] = {}
    for line in lines:
        words = shlex.split(line, comments=True)
        text = shlex.join(words)
        typed = INSTEAD.get(text) or [*words, *(QUICK if words[0] in TRAINING else [])]
        for word, pattern in (("DIR", "*-peft"), ("FILE.safetensors", "*-merged/*.safetensors")):
            for path in Path("exports").glob(pattern):
                named[word] = str(path)
        typed = [named.get(word, word) for word in typed]
        cli.run(*typed, code=next((code for start, code in CODES.items() if text.startswith(start)), 0))
        if words[0] == "sweep":  # made another run of that name, and "lorabench lists them: name one"
            named["lora-k4-s0"] = cli.fails(2, "report", "lora-k4-s0").splitlines()[-1].split()[0]
