"""Run records -> numbers. Opens no terminal and imports neither Rich nor torch; `report` draws what this gives.

    quantities   what is measured of a run, declared   inference    a mean, a difference, a decision
    settings     runs that differ in their seeds       aggregate    quantities over seeds, and differences
    groups       a row for each setting, compared      study        what a study's report holds
    claims       the talk's figures beside ours        measured     a large model measured beside arithmetic
    predictions  what a run left of each image         paired       two runs image by image
    comparison   two runs, and all that differs        fairness     what makes a comparison unfair, or is missing
    single       one run in full                       rank         accuracy against k
    fields, unit what can be asked of a run            listing      which runs `ls` shows, and its rows
    gates        the rows that `--fail-on` is asked of confusion    matrices summed and compared
    number, plain   how they are written

How one accuracy gets from `run.json` to a table: `runs.Metrics.correct` of `n` -> `Quantity.of` (a `Count`) ->
`settings.collect` (the runs of a setting) -> `aggregate.over_seeds` -> `inference.accuracy` (an `Estimate`: mean,
interval, n) -> `study.overview` or `groups.groups` -> `report.accuracy` or `report.groups`, with `number.estimate`.

Accuracies are in percent here and fractions in `run.json`. This file imports nothing: `ls` need not wait for a study.
"""
