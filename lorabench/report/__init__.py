"""What `analysis` found -> what a person reads. Returns everything, prints nothing.

    overview   a study: `overview_report(...)`      ledger    the talk's figures beside ours
    single     one run: `run_report(run)`           compare   two runs, the baseline first
    groups     many runs or a study's settings, a row for each        explain   a method drawn to scale, and a run of it
    accuracy, contrast, fairness, tables: what these share
    confusion  matrices, alone, paired, subtracted  listing   the table of `ls`
    summary    how a command ends                   evaluation   runs measured again, and their mistakes
    curves     learning rates on held-out images    sweep     a grid of settings over seeds
    digits     images as block characters           scaling   a method on a model that is not here
    plot       accuracy against k, and a run's training, in characters
    shown      which of these `report` shows
    blocks     the document: lines, tables, pictures; style builds them
    writers/   a file for each format: terminal, markdown, page (HTML), latex, sheet (CSV), data (JSON), ...
    figures/   the same as PNG and SVG

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch, and this file imports nothing: `ls` need not wait for the tables of a study.
"""
