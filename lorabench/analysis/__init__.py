"""Run records -> numbers. Opens no terminal and imports neither Rich nor torch; `report` draws what this gives.

    inference    a mean, a difference, a decision      aggregate    a setting's accuracies over its seeds
    settings     runs that differ in their seeds       paired       two runs image by image
    predictions  what a run left of each image         comparison   two runs, and all that differs
    fairness     what makes a comparison unfair        groups       many runs, a row for each setting
    study        what a study's report holds           methods      a study's methods side by side
    claims       the talk's figures beside ours        parameters, spectrum, class_counts, single   one run
    fields, unit what can be asked of a run            selection    which runs and fields `ls` shows
    gates        the rows that `--fail-on` is asked of listing      the rows of `ls`
    rank         accuracy against k                    pareto       what nothing else beats
    confusion    matrices summed and compared          number, format_setting, plain   how they are written

Accuracies are in percent here and fractions in `run.json`. This file imports nothing: `ls` need not wait for a study.
"""
