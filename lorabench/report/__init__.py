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
    formats    the report in every format: document (its blocks) -> markdown, latex, page (HTML); sheet (CSV)
    scaling    a method on a model that is not here mistakes      wrongly classified images, drawn
    fields     a run as flat, named values         selection      which runs and fields `ls` shows
    shown      which of these `report` shows       gate           the rows that `--fail-on` is asked of
    rank, plot accuracy against k                  sparkline      a run's training in two lines
    figures/   the same as PNG and SVG             drawn          which of them were written
    sweep      a grid of settings over seeds

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch.
"""

from lorabench.report.costs import costs_table
from lorabench.report.curves import CurveRow, curves_data, curves_table
from lorabench.report.digits import preview
from lorabench.report.drawn import drawn, drawn_data
from lorabench.report.evaluation import evaluation, evaluation_data
from lorabench.report.expect import check, check_keys
from lorabench.report.exported import exported, exported_data
from lorabench.report.fields import check_names, fields
from lorabench.report.formats import chosen, save, write
from lorabench.report.gate import failing
from lorabench.report.ledger import ledger
from lorabench.report.listing import fields_data, fields_table, listing, listing_data
from lorabench.report.mistakes import mistakes
from lorabench.report.overview import study_data, study_report
from lorabench.report.scaling import scaling, scaling_data
from lorabench.report.selection import Selection, select
from lorabench.report.shown import Shown, runs_shown, study_shown
from lorabench.report.single import run_data, run_report
from lorabench.report.summary import summary, summary_data
from lorabench.report.sweep import plan_data, plan_report, sweep_data, sweep_report
from lorabench.report.talk import Row

__all__ = [
    "CurveRow",
    "Row",
    "Selection",
    "Shown",
    "check",
    "check_keys",
    "check_names",
    "chosen",
    "costs_table",
    "curves_data",
    "curves_table",
    "drawn",
    "drawn_data",
    "evaluation",
    "evaluation_data",
    "exported",
    "exported_data",
    "failing",
    "fields",
    "fields_data",
    "fields_table",
    "ledger",
    "listing",
    "listing_data",
    "mistakes",
    "plan_data",
    "plan_report",
    "preview",
    "run_data",
    "run_report",
    "runs_shown",
    "save",
    "scaling",
    "scaling_data",
    "select",
    "study_data",
    "study_report",
    "study_shown",
    "summary",
    "summary_data",
    "sweep_data",
    "sweep_report",
    "write",
]
