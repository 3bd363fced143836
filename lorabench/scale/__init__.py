"""The arithmetic of parameters, bytes and multiply-adds, from this classifier to GPT-3 175B: no tensor in sight.

architectures  models as lists of weight matrices
training       what a way to train takes: bytes, GPUs, multiply-adds
projection     a registered method on one of these models, beside training all of it
claims         the talk's claims about GPT-3, and the LoRA paper's figures, counted again
"""

from lorabench.scale.architectures import ARCHITECTURES, Architecture, Matrix, given
from lorabench.scale.claims import GPU_SHARE, PAPER_SPEED, Claim, PaperRow, claims, recounts, size
from lorabench.scale.projection import Projection, architecture, check_method, project, train, warnings
from lorabench.scale.training import PRECISIONS, Training, full, gpus, training_bytes

__all__ = [
    "ARCHITECTURES",
    "GPU_SHARE",
    "PAPER_SPEED",
    "PRECISIONS",
    "Architecture",
    "Claim",
    "Matrix",
    "PaperRow",
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
