"""How runs are made.

stages       what there is to do, and the ids of it
queue        the stages of a study in their order
engines/     where they run: in this process, side by side in others, on a Dask cluster
session      where the stages of one process are made: runs folder, data, device; on which machine that is
make         how the run of a stage is made: train, measure, write
measure      a run back as a model, and a model on the two test sets
"""
