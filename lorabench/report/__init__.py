"""What `analysis` found -> what a person reads. Returns everything, prints nothing.

    overview   a study, and the talk's figures beside ours      groups   many settings, a row for each
    single     one run; measured again, and its mistakes        compare  two runs, the baseline first
    explain    a method drawn to scale, and a run of it         listing  the table of `ls`
    sweep      a grid of settings, curves of learning rates     summary  how a command ends
    scaling    a method on a model that is not here             costs    what was measured: bench, scale --measure
    tables     small tables and warnings that these share       confusion    matrices, alone, paired, subtracted
    digits     images as block characters                       plot     accuracy against k, training, in characters
    shown      which of these `report` shows                    blocks   the document: lines, tables, pictures
    writers/   a file for each format: terminal, markdown, page (HTML), latex, sheet (CSV), data (JSON), ...
    figures/   the same as PNG and SVG

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch, and this file imports nothing: `ls` need not wait for the tables of a study.
"""
