"""lorabench: one small study of LoRA, measured honestly. The rooms, in reading order:

errors       what can go wrong on purpose, and the exit code of each
files        what a user asked to be written, whole or not at all
config/      YAML and flags -> one frozen Config
data/        MNIST fetched and verified; F-MNIST, in which some images are mirrored
classifier   the sizes of the talk's classifier
model        SimpleMnistClassifier
methods/     one file per way to fine-tune, and their registry
memory       what this process holds, and what the system would still give it
scale/       what a method takes on larger models: worked out up to GPT-3 175B, and measured as far as they fit here
frozen       what need be computed only once
threads      the same bits at any number of threads
train        fit(): the one training loop
evaluate     logits -> accuracy, confusion matrix, slices
checkpoint   trained tensors as bytes, and back with every doubt checked
npz          NumPy archives of other hands, read within bounds
runs/        run folders on disk
spectrum     what training did to the weights
runner/      stages and their ids, how a stage is made, in which order, and where
tune         a learning rate for each method, on held-out images
sweep        a grid of settings over seeds
exchange/    a run taken elsewhere, as plain weights, a PEFT folder, IDX or event files; a PEFT folder brought back
bench        what each method costs on this machine
stats        intervals and paired tests
query        conditions on what runs hold
analysis/    run records -> numbers: accuracies over seeds, differences, what the talk claims, gates
report/      numbers -> tables, and figures
events       what a running stage tells
cli/         the command line: options, progress, commands
notebook     the study from Python: lorabench.study(...), lorabench.runs(...)
"""

from typing import Any

__version__ = "1.0.0"


def __getattr__(name: str) -> Any:
    """`study` and `runs`, imported when they are asked for: `import lorabench` stays instant."""
    if name not in ("study", "runs"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module("lorabench.notebook").study if name == "study" else import_module("lorabench.runs")
