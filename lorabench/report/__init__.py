"""Run records -> what a person reads, and the same as plain data for `--json`. Returns everything, prints nothing.

    overview   a study: `study_report(runs)`       ledger, talk   the talk's figures beside ours
    single     one run: `run_report(run)`          expect         the gate over the ledger's rows
    compare    runs side by side                   confusion      matrices, alone, paired, subtracted
    listing    the table of `ls`                   paired         two classifiers on the same images
    summary    how a command ends                  digits         images as block characters
    evaluation runs measured again                 methods        a study's methods side by side
    curves     learning rates on held-out images   spectrum       rank and size of the weights' change
    scaling    a method on a model that is not here
    rank, plot accuracy against k                  sparkline      a run's training in two lines
    figures/   the same as PNG and SVG             drawn          which of them were written

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch.
"""

from lorabench.report.compare import compare_data, compare_report
from lorabench.report.costs import costs_table
from lorabench.report.curves import CurveRow, curves_data, curves_table
from lorabench.report.digits import preview
from lorabench.report.drawn import drawn, drawn_data
from lorabench.report.evaluation import evaluation, evaluation_data
from lorabench.report.expect import check, check_keys
from lorabench.report.ledger import ledger
from lorabench.report.listing import listing, listing_data
from lorabench.report.overview import study_data, study_report
from lorabench.report.scaling import scaling, scaling_data
from lorabench.report.single import run_data, run_report
from lorabench.report.summary import summary, summary_data
from lorabench.report.talk import Row

__all__ = [
    "CurveRow",
    "Row",
    "check",
    "check_keys",
    "compare_data",
    "compare_report",
    "costs_table",
    "curves_data",
    "curves_table",
    "drawn",
    "drawn_data",
    "evaluation",
    "evaluation_data",
    "ledger",
    "listing",
    "listing_data",
    "preview",
    "run_data",
    "run_report",
    "scaling",
    "scaling_data",
    "study_data",
    "study_report",
    "summary",
    "summary_data",
]
