"""Parameters, bytes and multiply-adds, from this classifier to GPT-3 175B: by arithmetic, and measured if asked.

architectures  models as lists of weight matrices
projection     what it takes to train all of one, or by a registered method a part: bytes, GPUs, multiply-adds
claims         the talk's claims about GPT-3, and the LoRA paper's figures, counted again
measure        a decoder trained here, or some of its blocks; `trial` does it, in processes, with what `blocks` builds
"""

from lorabench.scale.architectures import ARCHITECTURES, Architecture, Matrix, given
from lorabench.scale.claims import GPU_SHARE, PAPER_SPEED, Claim, claims, recounts, size
from lorabench.scale.projection import (
    PRECISIONS,
    Projection,
    Training,
    architecture,
    check_method,
    full,
    gpus,
    project,
    train,
    training_bytes,
    warnings,
)

__all__ = [
    "ARCHITECTURES",
    "GPU_SHARE",
    "PAPER_SPEED",
    "PRECISIONS",
    "Architecture",
    "Claim",
    "Matrix",
    "Projection",
    "Training",
    "architecture",
    "check_method",
    "claims",
    "full",
    "given",
    "gpus",
    "project",
    "recounts",
    "size",
    "train",
    "training_bytes",
    "warnings",
]
