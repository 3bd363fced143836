"""What `analysis` found -> what a person reads. Returns everything, prints nothing.

    overview   a study, and the talk's figures beside ours      groups   many settings, a row for each
    detail     one run, in full and in short; two compared      listing  the table of `ls`
    explain    a method drawn to scale, and a run of it         sweep    a grid of settings, curves of learning rates
    costs      what was measured, and what a model that is      plot     accuracy against k, training, in characters
               not here would take                              digits   images and confusion matrices in characters
    tables     small tables and notes that these share          shown    which of these `report` shows
    blocks     the document: lines, tables, pictures
    writers/   a file for each format: terminal, markdown, page (HTML), latex, sheet (CSV), data (JSON), ...
    figures/   the same as PNG and SVG

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch, and this file imports nothing: `ls` need not wait for the tables of a study.
"""
