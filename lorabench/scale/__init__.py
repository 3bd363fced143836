"""Parameters, bytes and multiply-adds, from this classifier to GPT-3 175B: by arithmetic, and measured if asked.

architectures  models as lists of weight matrices
projection     what it takes to train all of one, or by a registered method a part: bytes, GPUs, multiply-adds
claims         the talk's claims about GPT-3, and the LoRA paper's figures, counted again
measure        a decoder trained here, or some of its blocks; `trial` builds and trains it, in processes
"""

from lorabench.scale.architectures import ARCHITECTURES, Architecture, Matrix, given
from lorabench.scale.claims import (
    CHECKPOINT_SAVED,
    GPU_SHARE,
    PAPER_CHECKPOINT,
    PAPER_MEMORY,
    PAPER_SPEED,
    TIME_SAVED,
    ComputedClaim,
    claims,
    recounts,
    size,
)
from lorabench.scale.measure import Setup, check, measure
from lorabench.scale.projection import (
    PRECISIONS,
    Projection,
    Training,
    architecture,
    full,
    gpus,
    project,
    train,
    training_bytes,
    warnings,
)

__all__ = [
    "ARCHITECTURES",
    "CHECKPOINT_SAVED",
    "GPU_SHARE",
    "PAPER_CHECKPOINT",
    "PAPER_MEMORY",
    "PAPER_SPEED",
    "PRECISIONS",
    "TIME_SAVED",
    "Architecture",
    "ComputedClaim",
    "Matrix",
    "Projection",
    "Setup",
    "Training",
    "architecture",
    "check",
    "claims",
    "full",
    "given",
    "gpus",
    "measure",
    "project",
    "recounts",
    "size",
    "train",
    "training_bytes",
    "warnings",
]
