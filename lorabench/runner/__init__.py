"""How runs are made.

stages       what there is to do, and the ids of it
queue        the stages of a study in their order
engines/     where they run: in this process, side by side in others, on a Dask cluster
session      where the stages of one process are made: runs folder, data, device
make         what each stage does: train, measure, write
load         a run back as a model
environment  on which machine it was made
"""
