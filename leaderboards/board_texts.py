"""A filled table as markdown, CSV, HTML or LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from leaderboards import render
from leaderboards.board import Apart, Board
from leaderboards.cells import OWN, TIE, Cell, Row

LEGEND = (
    f"Bold: best of its column. {OWN}: result of this harness. {TIE}: its 95% interval holds the best of the others."
)
APART = ("result", "task", "split", "metric", "value", "why it stands apart")


def legend(board: Board) -> list[str]:
    """Legend of a table: marks, why cells are empty, notes."""
    reasons = missing(board)
    lines = [f"– {mark}: {reason}." for reason, mark in reasons.items()]
    own = any(row.own for row in board.rows)
    return [*([LEGEND] if own else []), *lines, *board.notes]


def missing(board: Board) -> dict[str, str]:
    """Reasons of empty cells, with the letter that stands for each."""
    found = dict.fromkeys(cell.missing for row in board.rows for cell in row.cells if cell.missing)
    return {reason: chr(ord("a") + at) for at, reason in enumerate(found)}


def plain_cells(board: Board) -> list[list[str]]:
    """Texts of the cells, with marks but without emphasis."""
    reasons = missing(board)
    return [[_plain(row, at, cell, reasons) for at, cell in enumerate(row.cells)] for row in board.rows]


def apart_cells(apart: Sequence[Apart]) -> list[tuple[str, ...]]:
    """Results that stand apart, as APART names the columns."""
    return [
        (
            f"{OWN} {one.label}" + (f" (latest of {one.rows:,})" if one.rows > 1 else ""),
            one.task, one.split, one.metric, one.text, one.reason,
        )
        for one in apart
    ]  # fmt: skip


def _plain(row: Row, at: int, cell: Cell, reasons: dict[str, str]) -> str:
    if cell.missing:
        return f"– {reasons[cell.missing]}"
    mark = f"{OWN} " if row.own and at == 0 else ""
    return f"{mark}{cell.text}{f' {TIE}' if cell.tie else ''}"


def markdown(board: Board) -> str:
    """GitHub's markdown."""
    lines = [f"**{_escaped_markdown(board.title)}**", ""]
    lines += _markdown_table(board.columns, plain_cells(board), best=lambda row, at: board.rows[row].cells[at].best)
    lines += ["", *(f"{_escaped_markdown(text)}  " for text in legend(board))]
    if board.apart:
        lines += ["", "**Results that cannot stand in the table**", ""]
        lines += _markdown_table(APART, apart_cells(board.apart))
    return "\n".join(lines) + "\n"


def _markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], best: Callable[[int, int], bool] = lambda row, at: False
) -> list[str]:
    cells = [
        [f"**{_escaped_markdown(text)}**" if best(line, at) else _escaped_markdown(text) for at, text in enumerate(row)]
        for line, row in enumerate(rows)
    ]
    head = [_escaped_markdown(name) for name in columns]
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *cells)]


def _escaped_markdown(text: str) -> str:
    return text.translate(render.MARKDOWN)


def csv(board: Board) -> str:
    """Numbers as numbers; `kind` says whose row it is, `reason` why a result stands apart."""
    columns = ["kind", *board.columns, "reason"]
    rows: list[list[object]] = []
    for row in board.rows:
        cells = [
            cell.text if at < board.texts or cell.value is None else cell.value for at, cell in enumerate(row.cells)
        ]
        gaps = dict.fromkeys(cell.missing for cell in row.cells if cell.missing)
        rows.append(["this harness" if row.own else "published", *cells, "; ".join(gaps)])
    for one in board.apart:
        place = f"{one.label}, {one.task} {one.split} {one.metric}"
        blank = [""] * (len(board.columns) - 2)
        rows.append(["apart", place, *blank, "" if one.value is None else one.value, one.reason])
    return render.csv_text(columns, rows)


def html(board: Board) -> str:
    """A fragment: a table in a section, with the classes `best`, `own` and `apart`."""
    body = []
    for row, texts in zip(board.rows, plain_cells(board), strict=True):
        cells = [
            f"<td{' class=best' if cell.best else ''}{_title(cell.missing)}>{render.escaped(text)}</td>"
            for cell, text in zip(row.cells, texts, strict=True)
        ]
        body.append(f"<tr{' class=own' if row.own else ''}>{''.join(cells)}</tr>")
    parts = [f"<section><h2>{render.escaped(board.title)}</h2>", _html_table(board.columns, body)]
    parts += [f"<p>{render.escaped(text)}</p>" for text in legend(board)]
    if board.apart:
        rows = [
            "<tr>" + "".join(f"<td>{render.escaped(text)}</td>" for text in one) + "</tr>"
            for one in apart_cells(board.apart)
        ]
        parts += ["<h3>Results that cannot stand in the table</h3>", _html_table(APART, rows, kind="apart")]
    return "\n".join([*parts, "</section>"]) + "\n"


def _title(text: str) -> str:
    return f' title="{render.escaped(text)}"' if text else ""


def _html_table(columns: Sequence[str], rows: Sequence[str], kind: str = "board") -> str:
    head = "".join(f'<th scope="col">{render.escaped(name)}</th>' for name in columns)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead>\n<tbody>\n' + "\n".join(rows) + "\n</tbody></table>"


def latex(board: Board) -> str:
    """A tabular with booktabs' rules for each part."""
    best = [[cell.best for cell in row.cells] for row in board.rows]
    parts = [f"% {board.title}", _tabular(board.columns, plain_cells(board), best, texts=board.texts)]
    parts += [f"\\par {_latex(text)}" for text in legend(board)]
    if board.apart:
        parts += [
            "% results that cannot stand in the table",
            _tabular(APART, apart_cells(board.apart), texts=len(APART)),
        ]
    return "\n".join(parts) + "\n"


def _tabular(
    columns: Sequence[str], rows: Sequence[Sequence[str]], best: Sequence[Sequence[bool]] = (), *, texts: int
) -> str:
    lines = [f"\\begin{{tabular}}{{{'l' * texts}{'r' * (len(columns) - texts)}}}", "\\toprule"]
    lines += [" & ".join(map(_latex, columns)) + r" \\", "\\midrule"]
    for line, row in enumerate(rows):
        cells = [
            rf"\textbf{{{_latex(text)}}}" if best and best[line][at] else _latex(text) for at, text in enumerate(row)
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"])


def _latex(text: str) -> str:
    return render.latex(text)


WRITERS = {"markdown": markdown, "csv": csv, "html": html, "latex": latex}
