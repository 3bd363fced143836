"""Run records -> what a person reads, and the same as plain data for `--json`. Returns everything, prints nothing.

    overview   a study: `study_report(runs)`       ledger, talk   the talk's figures beside ours
    single     one run: `run_report(run)`          expect         the gate over the ledger's rows
    compare    runs side by side                   confusion      matrices, alone, paired, subtracted
    listing    the table of `ls`                   paired         two classifiers on the same images
    summary    how a command ends                  digits         images as block characters
    evaluation runs measured again                 methods        a study's methods side by side
    curves     learning rates on held-out images   spectrum       rank and size of the weights' change
    scaling    a method on a model that is not here mistakes      wrongly classified images, drawn
    fields     a run as flat, named values         selection      which runs and fields `ls` shows

Accuracies are in percent here and fractions in `run.json`. Tables are made for 80 columns; the caller's console
sets the width. Nothing here imports torch.
"""

from lorabench.report.compare import compare_data, compare_report
from lorabench.report.costs import costs_table
from lorabench.report.curves import CurveRow, curves_data, curves_table
from lorabench.report.digits import preview
from lorabench.report.evaluation import evaluation, evaluation_data
from lorabench.report.expect import check, check_keys
from lorabench.report.fields import check_names, fields
from lorabench.report.ledger import ledger
from lorabench.report.listing import fields_data, fields_table, listing, listing_data
from lorabench.report.mistakes import mistakes
from lorabench.report.overview import study_data, study_report
from lorabench.report.scaling import scaling, scaling_data
from lorabench.report.selection import Selection, select
from lorabench.report.single import run_data, run_report
from lorabench.report.summary import summary, summary_data
from lorabench.report.talk import Row

__all__ = [
    "CurveRow",
    "Row",
    "Selection",
    "check",
    "check_keys",
    "check_names",
    "compare_data",
    "compare_report",
    "costs_table",
    "curves_data",
    "curves_table",
    "evaluation",
    "evaluation_data",
    "fields",
    "fields_data",
    "fields_table",
    "ledger",
    "listing",
    "listing_data",
    "mistakes",
    "preview",
    "run_data",
    "run_report",
    "scaling",
    "scaling_data",
    "select",
    "study_data",
    "study_report",
    "summary",
    "summary_data",
]
