"""How runs are made.

stages       what there is to do, and the ids of it
work         what each stage does
environment  on which machine it did it
queue        the stages of a study in their order
engines/     where they run: in this process, side by side in others, on a Dask cluster
"""
