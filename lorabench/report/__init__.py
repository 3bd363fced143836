"""Run records -> what a person reads, and the same as plain data for `--json`. Returns everything, prints nothing.

    overview   a study: `study_report(runs)`       ledger, talk   the talk's figures beside ours
    single     one run: `run_report(run)`          expect         the gate over the ledger's rows
    compare    two runs, the baseline first        confusion      matrices, alone, paired, subtracted
    groups     many runs, a row for each setting   contrast       two accuracies and their difference
    listing    the table of `ls`                   evidence       what a run left behind of each image
    summary    how a command ends                  digits         images as block characters
    evaluation runs measured again                 methods        a study's methods side by side
    curves     learning rates on held-out images   spectrum       rank and size of the weights' change
    exported   how an export ends
    blocks     the document: lines, tables, pictures; style builds them
    writers/   a file for each format: terminal, markdown, page (HTML), latex, sheet (CSV), data (JSON), ...
    scaling    a method on a model that is not here mistakes      wrongly classified images, drawn
    fields     a run as flat, named values         selection      which runs and fields `ls` shows
    shown      which of these `report` shows       gate           the rows that `--fail-on` is asked of
    rank, plot accuracy against k, and a run's training, in characters
    figures/   the same as PNG and SVG             drawn          which of them were written
    sweep      a grid of settings over seeds

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch, and this file imports nothing: `ls` need not wait for the tables of a study.
"""
