"""Run records -> numbers. Opens no terminal and imports neither Rich nor torch; `report` draws what this gives.

    quantities   what is measured of a run, declared   inference    a mean, a difference, a decision
    settings     runs that differ in their seeds       groups       a row for each setting, compared; accuracy over k
    study        what a study's report holds           claims       the talk's figures beside ours
    paired       two runs image by image               comparison   two runs, and all that differs
    single       one run in full, confusion matrices   fairness     what makes a comparison unfair, or is missing
    listing      a run as named values, and `ls`       gates        the rows that `--fail-on` is asked of
    number       how values are written                measured     a large model measured beside arithmetic

How one accuracy gets from `run.json` to a table: `runs.Metrics.correct` of `n` -> `Quantity.of` (a `Count`) ->
`settings.collect` (the runs of a setting) -> `inference.over_seeds` -> `inference.accuracy` (an `Estimate`: mean,
interval, n) -> `study.overview` or `groups.groups` -> `report.accuracy` or `report.groups`, with `number.estimate`.

Accuracies are in percent here and fractions in `run.json`. This file imports nothing: `ls` need not wait for a study.
"""
