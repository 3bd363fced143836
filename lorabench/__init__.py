"""lorabench: one small study of LoRA, measured honestly. The rooms, in reading order:

errors      what can go wrong on purpose, and the exit code of each
config/     YAML and flags -> one frozen Config
data/       MNIST fetched and verified; F-MNIST, in which some images are mirrored
model       SimpleMnistClassifier
methods/    one file per way to fine-tune, and their registry
train       fit(): the one training loop
evaluate    predictions -> accuracy, confusion matrix, slices
checkpoint  trained tensors on disk
runs        run folders on disk
study       the stages and their order: the room that knows all others
stats       intervals and paired tests
report/     run records -> tables
cli         the command line
"""

__version__ = "1.0.0"
