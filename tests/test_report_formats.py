"""The report in every format: the same rows in each, whatever the labels hold; files whole or not at all."""

from __future__ import annotations

import csv
import html.parser
import io
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from report_factory import (
    failed,
    finetune,
    render,
    squeezed,
    study,
    study_data,
    study_report,
    widest,
    without_escapes,
)
from rich.console import Console

from lorabench.analysis.comparison import compare
from lorabench.analysis.groups import groups
from lorabench.cli import main
from lorabench.errors import UsageError
from lorabench.report import detail, digits, writers
from lorabench.report.blocks import Beside, Block, Line, Picture, Table, grid, heading, leaves, line, note, plain, stack
from lorabench.report.detail import compare_report
from lorabench.report.groups import groups_report
from lorabench.report.writers import Report, latex, markdown, page
from lorabench.report.writers.terminal import renderable
from lorabench.runs import Run, Store

NASTY = [
    "a_b & <b>c</b> | 5% $x$ #1 {y} ~ ^ \\textbf \\\\",
    "[x](https://example.org) *bold* `code` _it_",
    "[/red] [bold]",
    "-0.5 [-1.0, +2.0] --flag",
    "\"quoted\" 'too' &amp; %d",
]
Rows = list[list[str]]


def many() -> list[Run]:
    """A study with several methods, one of them hard to write down, and a run that failed."""
    runs = [*study(), failed()]
    for seed in range(5):
        run = finetune(seed, fmnist_errors=240 + 3 * seed)
        settings = run.settings | {"method": "a_b|c", "lr": 0.001}
        runs.append(
            run.model_copy(update={"id": f"a_b|c-s{seed}-0000000{seed}", "method": "a_b|c", "settings": settings})
        )
    return runs


def write(document: Block, runs: list[Run], form: str) -> str:
    return writers.write(Report(document, runs=runs), form)


def tables(what: Block) -> list[Rows]:
    """Heads and cells of every table, as they should come back."""
    found: list[Table] = []
    for block in leaves(what):
        found += block.tables if isinstance(block, Beside) else [block] if isinstance(block, Table) else []
    return [
        [[squeezed(head) for head in table.heads], *([squeezed(cell.text) for cell in row] for row in table.rows)]
        for table in found
    ]


def lines(what: Block) -> list[str]:
    return [squeezed(block.text) for block in leaves(what) if isinstance(block, Line)]


# What a reader of each format gets back


class Page(html.parser.HTMLParser):
    """Tables, and the text of everything that is not in one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[Rows] = []
        self.lines: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "br":
            self._text += "\n"
        if tag in ("td", "th", "p", "h1", "h2", "caption", "pre"):
            self._text = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.tables[-1][-1].append(squeezed(self._text))
        elif tag in ("p", "h1", "h2"):
            self.lines.append(squeezed(self._text))

    def handle_data(self, data: str) -> None:
        self._text += data


def from_html(text: str) -> tuple[list[Rows], list[str]]:
    found = Page(text)
    return found.tables, found.lines


def from_markdown(text: str) -> tuple[list[Rows], list[str]]:
    untitled = re.sub(r"^\*\*.*\*\*$", "", text, flags=re.MULTILINE)
    found = Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(untitled))
    assert not {tag for tag, _ in found.tags} & {"a", "em", "code", "s", "b", "ul", "ol", "blockquote"}
    return found.tables, [re.sub(r" \((\w.*)\)$", r" \1", line) for line in found.lines]


def from_latex(text: str) -> tuple[list[Rows], list[str]]:
    marks = {name: mark for mark, name in latex._SPECIAL.items()}  # pyright: ignore[reportPrivateUsage]
    undone = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))))

    def plain(cell: str) -> str:
        cell = re.sub(r"\\begin\{tabular\}\[t\]\{@\{\}[lr]@\{\}\}|\\end\{tabular\}|\\quad ", " ", cell)
        cell = re.sub(r"\\textbf\{(.*)\}$", r"\1", cell.replace("{[}", "[").replace("{*}", "*").replace("$-$", "-"))
        return squeezed(undone.sub(lambda mark: marks[mark[0]], cell.replace(" \\\\ ", " ")))

    found: list[Rows] = []
    others: list[str] = []
    for block in text.split("\n\n")[1:]:
        if "\\toprule" in block:
            body = block.split("\\toprule\n")[1].split("\\bottomrule")[0].replace("\\midrule\n", "")
            rows = [re.split(r"(?<!\\)&", line.removesuffix(" \\\\")) for line in body.splitlines()]
            found.append([[plain(cell.strip()) for cell in row] for row in rows])
        else:
            body = re.sub(r"\\(?:sub)?section\*\{(.*)\}\n?", r"\1 ", block)
            body = re.sub(r"^\{\\noindent(?:\\small)? (.*)\\par\}(?:\\medskip)?$", r"\1", body, flags=re.DOTALL)
            others.append(plain(body))
    return found, others


READ = {"html": from_html, "md": from_markdown, "tex": from_latex}


@pytest.mark.parametrize("form", ["html", "md", "tex"])
def test_every_format_holds_the_same_rows(form: str) -> None:
    runs = many()
    for shown in (
        study_report(runs),
        detail.run_report(runs[2]),
        groups_report(groups(runs[1:4])),
        detail.evaluation([finetune(0), finetune(1)]),
    ):
        found, others = READ[form](write(shown, runs, form))
        assert found == tables(shown)
        assert [text for text in others if text != "lorabench report"] == lines(shown)
        printed = squeezed(render(shown, 400))
        for row in (row for table in found for row in table[1:]):
            assert all(part in printed for cell in row for part in cell.split())


@pytest.mark.parametrize("form", ["html", "md", "tex"])
def test_a_text_is_never_markup(form: str) -> None:
    table = grid(*NASTY, align="<" * len(NASTY))
    table.add_row(*NASTY)
    table.add_row(*reversed(NASTY))
    shown = stack([heading(NASTY[0]), table, note(NASTY[1]), note(NASTY[3]), note(NASTY[4])])
    found, others = READ[form](write(shown, [], form))
    assert found == [[NASTY, NASTY, NASTY[::-1]]]
    assert others == [NASTY[0], NASTY[1], NASTY[3], NASTY[4]]


def test_a_cell_is_not_markup_in_a_terminal_either() -> None:
    table = grid("", align="<")
    table.add_row("a [red]b[/red] [/c]")
    assert render(table).split() == ["a", "[red]b[/red]", "[/c]"]


def test_a_line_of_markdown_opens_nothing() -> None:
    text = markdown.write(Report(note("# a\n- b\n1. c\n2) d\n> e\n+ f\n1.5 g\n=== h")))
    assert text == "\\# a\\\n\\- b\\\n1\\. c\\\n2\\) d\\\n\\> e\\\n\\+ f\\\n1.5 g\\\n\\=== h\n"


def test_a_row_of_latex_begins_with_no_option() -> None:
    table = grid("x", "y", align="<<")
    table.add_row("[1, 2]", "*\n[3]")
    assert "{[}1, 2] & \\begin{tabular}[t]{@{}l@{}}{*} \\\\ {[}3]\\end{tabular} \\\\" in latex.write(Report(table))
    assert latex.escape("_&%$#{}|<>^~") == (
        r"\_\&\%\$\#\{\}\textbar{}\textless{}\textgreater{}\textasciicircum{}\textasciitilde{}"
    )
    assert latex.escape("3-4, -5, (-6) a-7 -b --c") == "3-4, $-$5, ($-$6) a-7 -b -{}-c"


def test_a_matrix_is_a_table_and_keeps_its_shades() -> None:
    before, after = (finetune().before["fmnist"].confusion, finetune().metrics["fmnist"].confusion)
    text = page.write(Report(digits.confusion(before, "base")))
    (found,), _ = from_html(text)
    assert [
        [int(cell.replace(".", "0", 1) if cell == "." else cell) for cell in row[1:11]] for row in found[1:]
    ] == before
    assert text.count("color:#000000;background:#f0703a") == 2
    pair = page.write(Report(digits.side_by_side(before, after, ("base", "a <run>"))))
    assert pair.count('<table class="matrix">') == 2
    assert "<caption>a &lt;run&gt;</caption>" in pair
    assert "**lora - base**" in markdown.write(Report(digits.difference(before, after, "lora - base")))


def test_a_picture_keeps_its_characters() -> None:
    given: list[tuple[int, bool]] = []

    def draw(columns: int, ascii_only: bool) -> list[Line]:
        given.append((columns, ascii_only))
        return [line("x < y ``` z   "), line("  [red]", "bold")]

    shown = stack([Picture(draw, 'an "x"')])
    assert write(shown, [], "rich") == "x < y ``` z   \n  [red]\n"
    assert '<pre role="img" aria-label="an &#34;x&#34;">x &lt; y ``` z\n  [red]</pre>' in write(shown, [], "html")
    assert write(shown, [], "md") == "````\nx < y ``` z\n  [red]\n````\n"
    assert "x~\\textless{}~y" in write(shown, [], "tex")
    assert set(given) == {(80, False)}
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=33)
    console.print(renderable(shown))
    assert given[-1] == (33, True)


def test_a_row_is_no_wider_than_its_table() -> None:
    table = grid("a", "b", align="<>")
    table.add_row("only one")
    assert [cell.text for cell in table.rows[0]] == ["only one", ""]
    with pytest.raises(ValueError, match="3 cells for 2 columns"):
        table.add_row("1", "2", "3")


def test_thousands_of_rows_are_neither_folded_nor_cut() -> None:
    table = Table(("id", "n", "last"), "<><", folds=False)
    table.add_row("x" * 100, line("é1", "red"), "end")
    table.add_row("y", "23", "")
    lines_ = render(table, 40, color=True, crop=False).splitlines()
    assert without_escapes(lines_[0]) == f"{'id':100}   n  last"
    assert [without_escapes(text).rstrip() for text in lines_[1:]] == [f"{'x' * 100}  é1  end", f"{'y':100}  23"]
    assert "\x1b[38;2;255;255;255;48;2;179;38;30mé1\x1b[0m" in lines_[1]


# HTML


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>'
    text = page.write(Report(study_report(many()), figures=lambda: [("k & accuracy", svg)]))
    found = Page(text)
    names = {name for name, _ in found.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "a"}
    assert not re.search(r"https?:|url\(|@import|src=|<\?xml", text)
    assert {"main", "svg", "figcaption"} <= names
    assert "k &amp; accuracy" in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in found.tags
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text
    assert [name for name, _ in found.tags].count("table") == [
        attributes.get("class") for name, attributes in found.tags if name == "div"
    ].count("scroll")


def test_the_page_tells_its_story_before_its_tables() -> None:
    report = Report(study_report(study()), story=lambda: heading("what was done"))
    text = page.write(report)
    assert text.index("<h1>demo") < text.index("<h2>what was done") < text.index("<table")
    assert "what was done" not in writers.write(report, "md")


def test_verdicts_keep_their_colours() -> None:
    text = write(study_report(many()), [], "html")
    assert '<span class="red">failed</span>' in text
    assert '<span class="green">reproduced</span>' in text
    assert '<span class="dim">\n<span class="whole">p &lt; 0.0001</span></span>' in text


def test_a_study_is_the_pages_title() -> None:
    assert "<title>demo</title>" in write(study_report(study()), [], "html")
    two = compare_report(compare(finetune(0), finetune(1)))
    assert "<title>lorabench report</title>" in write(two, [], "html")


# CSV


def test_csv_has_a_line_for_each_run_with_its_exact_numbers() -> None:
    runs = many()
    found = list(csv.DictReader(io.StringIO(write(study_report(runs), runs, "csv"))))
    assert [line["id"] for line in found] == [run.id for run in runs]
    for row, run in zip(found, runs, strict=True):
        for name, metrics in run.metrics.items():
            assert float(row[f"{name}.accuracy"]) == metrics.accuracy
            assert float(row[f"{name}.loss"]) == metrics.loss
        if run.cost:
            assert float(row["cost.train_s"]) == run.cost.train_s
        assert row["settings.lr"] == ("" if run.stage == "fmnist" else str(run.settings["lr"]))
    assert found[0]["settings.classes"] == "2,3"
    broken = found[[run.id for run in runs].index(failed().id)]
    assert (broken["status"], broken["fmnist.accuracy"], broken["error.type"]) == ("failed", "", "RunFailedError")


def test_csv_and_the_data_agree() -> None:
    runs = many()
    lines_ = list(csv.DictReader(io.StringIO(write(stack([]), runs, "csv"))))
    for row in study_data(runs)["accuracy"][1:]:
        mine = [line for line in lines_ if line["label"] == row["label"] and line["status"] == "done"]
        for name, estimate in row["accuracy"].items():
            values = [100 * float(line[f"{name}.accuracy"]) for line in mine]
            gains = [100 * (float(line[f"{name}.accuracy"]) - float(line[f"before.{name}.accuracy"])) for line in mine]
            assert len(values) == estimate["n"] == 5
            assert sum(values) / 5 == pytest.approx(estimate["mean"])  # pyright: ignore[reportUnknownMemberType]
            gain = row["difference"][name]["estimate"]["mean"]
            assert sum(gains) / 5 == pytest.approx(gain, abs=1e-9)  # pyright: ignore[reportUnknownMemberType]


def test_csv_labels_tell_settings_apart() -> None:
    other = finetune(1, settings=finetune(1).settings | {"lr": 0.1})
    found = csv.DictReader(io.StringIO(write(stack([]), [finetune(0), other], "csv")))
    assert [line["label"] for line in found] == ["lora-k4 lr=0.003", "lora-k4 lr=0.1"]


def test_csv_columns_stand_together_whichever_run_comes_first() -> None:
    heads = [write(stack([]), runs, "csv").splitlines()[0].split(",") for runs in (study(), study()[::-1])]
    assert sorted(heads[0]) == sorted(heads[1])
    for head in heads:
        groups = [column.split(".")[0] for column in head if "." in column]
        assert list(dict.fromkeys(groups)) == [
            "mnist",
            "fmnist",
            "before",
            "params",
            "cost",
            "parents",
            "settings",
            "error",
        ]
        assert groups == sorted(groups, key=groups.index)


# The format, and the file


def test_a_new_format_is_one_file_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.py").write_text("def write(report):\n    return ' '.join(run.id for run in report.runs)\n")
    monkeypatch.setattr(writers, "__path__", [*writers.__path__, str(tmp_path)])
    monkeypatch.setitem(writers.FORMATS, "ids", "names")
    with Store(tmp_path / "runs").start(finetune(), "") as folder:
        folder.finish(finetune())
    expected = f"{finetune().id}\n"
    for wanted in (["--format", "ids"], ["--out", str(tmp_path / "all.ids")]):
        monkeypatch.setattr("sys.argv", ["lorabench", "report", "lora*", "--runs-dir", str(tmp_path / "runs"), *wanted])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    assert capsys.readouterr().out == expected
    assert (tmp_path / "all.ids").read_text() == expected


def test_the_format_is_what_was_asked_for_or_what_the_file_ends_in() -> None:
    assert writers.chosen(None, None) == "rich"
    assert writers.chosen("tex", None) == "tex"
    assert writers.chosen(None, None, json=True) == "json"
    assert writers.chosen("json", None, json=True) == "json"
    assert writers.chosen(None, Path("a.HTML")) == "html"
    assert writers.chosen(None, Path("a.txt")) == "rich"
    assert writers.chosen("md", Path("a.md")) == "md"
    assert writers.chosen("md", Path("README.markdown")) == "md"
    assert writers.chosen(None, Path("a.svg"), json=True) == "svg"


@pytest.mark.parametrize(
    ("name", "out", "json", "says"),
    [
        ("pdf", None, False, "--format pdf: write one of rich, md, csv, json, tex, html, svg"),
        ("md", Path("a.html"), False, "--format md --out a.html: the ending says html"),
        ("rich", Path("a.json"), False, "the ending says json"),
        (None, Path("a.pdf"), False, "--out a.pdf: the name must end in .txt, .md, .csv, .json, .tex, .html, .svg"),
        (None, Path("report"), False, "the name must end in"),
        ("csv", None, True, "--json --format csv"),
    ],
)
def test_contradictions_are_refused(name: str | None, out: Path | None, json: bool, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        writers.chosen(name, out, json=json)


def test_every_format_can_be_written() -> None:
    for form in set(writers.FORMATS) - {"json"}:
        assert "97.64" in write(study_report(study()), study(), form) or form == "csv"
    assert write(study_report(study()), study(), "rich") == render(study_report(study()))


def test_a_narrow_table_folds_between_numbers_and_comes_in_parts_before_it_cuts_a_word() -> None:
    table = grid("accuracy, %", "base", "lora-k4 - base", "trained", align="<<<>")
    table.add_row("lora-k4", "97.99 [97.70, 98.25]", "+4.97 [+4.51, +5.45]\nno detectable difference", "6,248")
    for width, parts in {100: 1, 60: 1, 44: 2, 30: 3}.items():
        lines = render(table, width).splitlines()
        assert max(map(len, lines)) <= width
        for whole in ("[97.70, 98.25]", "[+4.51, +5.45]", "6,248"):
            assert any(whole in line for line in lines), (width, whole)
        assert sum(line.startswith("accuracy, %") for line in lines) == parts


@pytest.mark.parametrize("width", [60, 80])
def test_no_report_cuts_an_interval_or_a_label(width: int) -> None:
    text = "\n".join(render(report, width) for report in (study_report(many()), groups_report(groups(many()))))
    assert not [line for line in text.splitlines() if re.search(r"\[[^]]*\d,?$|\+-$", line.rstrip())]
    assert widest(text) <= width


def test_plain_is_the_report_without_its_tests() -> None:
    known = groups_report(groups(many())), study_report(many())
    for report in known:
        text, shorter = render(report), render(plain(report))
        assert re.search(r"\bp\b|Holm|paired t", text)
        assert not re.search(r"\bp [<=]|Holm p|sign-flip| p$", shorter, re.MULTILINE)
        assert [line for line in shorter.splitlines() if line not in text.splitlines()] == []
    assert plain(known[0]) == plain(plain(known[0]))
