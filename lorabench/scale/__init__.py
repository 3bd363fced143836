"""The arithmetic of parameters, bytes and multiply-adds, from this classifier to GPT-3 175B: no tensor in sight.

    architectures  models as lists of weight matrices
    memory         what training them takes, in full and by a method
    claims         the talk's claims about GPT-3, and the LoRA paper's figures, counted again

It knows no method: `lorabench.estimate` asks the registry for a method's numbers and puts them in.
"""

from lorabench.scale.architectures import ARCHITECTURES, CLASSIFIER, Architecture, Matrix, given, parameter_count
from lorabench.scale.claims import GPU_SHARE, PAPER_ROWS, PAPER_SPEED, Claim, PaperRow, Recount, claims, recount, size
from lorabench.scale.memory import PRECISIONS, Projection, Tuning, full, gpus, project, training_bytes

__all__ = [
    "ARCHITECTURES",
    "CLASSIFIER",
    "GPU_SHARE",
    "PAPER_ROWS",
    "PAPER_SPEED",
    "PRECISIONS",
    "Architecture",
    "Claim",
    "Matrix",
    "PaperRow",
    "Projection",
    "Recount",
    "Tuning",
    "claims",
    "full",
    "given",
    "gpus",
    "parameter_count",
    "project",
    "recount",
    "size",
    "training_bytes",
]
