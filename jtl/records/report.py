"""One self-contained report.html: the verdict in words, the numbers, the pictures.

No script, nothing from outside: the pictures are inline, and a content security policy keeps a
browser from asking for anything. Whatever comes from data or configs is escaped.
"""

import base64
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jtl.metrics import METRICS, Interval
from jtl.records.atomic import replacing
from jtl.records.log import duration, gibibytes, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = Path(__file__).parent / "templates" / "report.css"
DOTS_PER_INCH = 180
SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
"""Metrics shown in percent; the others as they are."""
NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "ece": "Calibration error (ECE, 15 bins)",
    "log_loss": "Log loss (nats)",
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

Picture = tuple[str, str, "Figure"]
"""Heading, caption, figure."""
Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads of the columns, and rows, as text."""


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    figures: Iterable[Picture],
    subtitle: str = "",
    remark: str = "",
    notes: Sequence[str] = (),
    tables: Mapping[str, Table] | None = None,
) -> None:
    """Writes the report of one run, atomically.

    Args:
      path: of the HTML file.
      title: the run's name.
      summary: as summary.json holds it.
      config: nested; shown folded, one row a key.
      manifest: as :func:`jtl.records.manifest.manifest` gives it; shown folded.
      figures: heading, caption and figure of each picture, in order.
      subtitle: one line below the title, such as what was adapted to what.
      remark: the end of the verdict: what the accuracy says of transfer, and what it does not.
      notes: what to read the numbers with.
      tables: shown after the figures, by heading.
    """
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else "",
        f'<p class="verdict">{_text(f"{verdict(summary)} {remark}".strip())}</p>',
        _cards(summary),
        _notes(notes),
        _metrics(summary),
        *(_picture(*picture) for picture in figures),
        *(_text_table(name, *table) for name, table in (tables or {}).items()),
        _folded("Config", config),
        _folded("How this was made", manifest),
    ]
    _write(path, title, body, f"{manifest.get('started', '')} · jtl")


def write_study_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    question: str,
    answer: str,
    protocol: Sequence[str],
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    figures: Iterable[Picture],
    notes: Sequence[str] = (),
    more: Mapping[str, Table] | None = None,
) -> None:
    """Writes the report of a study (one question, many runs), atomically.

    Args:
      path: of the HTML file.
      title: the study's name.
      question: what it asks, in a sentence.
      answer: what it found, in a sentence or two.
      protocol: one choice a line: who sees which labels, what chose the hyper-parameters.
      columns: heads of the table.
      rows: its cells, as text, the first naming the row.
      figures: heading, caption and figure of each picture, in order.
      notes: what to read the table with, such as where transfer hurts.
      more: further tables, by heading.
    """
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="subtitle">{escape(question)}</p>',
        f'<p class="verdict">{_text(answer)}</p>',
        _notes(notes),
        _text_table("Results", columns, rows),
        *(_picture(*picture) for picture in figures),
        *(_text_table(name, *further) for name, further in (more or {}).items()),
        _list("Protocol", protocol, "protocol"),
    ]
    _write(path, title, body, "jtl")


def _text_table(heading: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = _table(columns, ([escape(cell) for cell in row] for row in rows))
    return f"<section><h2>{escape(heading.replace('_', ' ').capitalize())}</h2>{cells}</section>"


def verdict(summary: Mapping[str, Any]) -> str:
    """The run's accuracy, in a sentence for each domain that has one.

    Args:
      summary: as summary.json holds it.
    """
    if "target_test" not in summary:
        return f"Source accuracy {percent(summary['source_test']['accuracy'])}."
    said = [f"Target accuracy {percent(summary['target_test']['accuracy'])}."]
    if "source_test" in summary:
        source = summary["source_test"]["accuracy"]["value"]
        said.append(f"On held-out source examples it is {100 * source:.1f} %.")
    return " ".join(said)


def _cards(summary: Mapping[str, Any]) -> str:
    cards = []
    for split, name in (("target_test", "Target"), ("source_test", "Source")):
        if split in summary:
            metric = summary[split]["accuracy"]
            span = f"95 % interval {100 * metric['low']:.1f} to {100 * metric['high']:.1f}"
            cards.append((f"{name} accuracy", f"{100 * metric['value']:.1f} %", span))
    speed = f"{summary['steps']:,} steps, {summary['examples_per_second']:,.0f} examples a second"
    seconds = duration(summary["train_seconds"])
    if "peak_memory" in summary:  # runs of older versions did not look
        speed += f"; at most {gibibytes(summary['peak_memory'])} of memory"
    cards.append(("Training time, evaluation apart", seconds, speed))
    cards.append(("Method", str(summary["method"]), f"seed {summary['seed']}"))
    html = "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<span>{escape(detail)}</span></div>"
        for name, value, detail in cards
    )
    return f'<div class="cards">{html}</div>'


def _metrics(summary: Mapping[str, Any]) -> str:
    splits = [name for name, value in summary.items() if _is_split(value)]
    rows = [[NAMES[name], *(_cell(name, summary[s][name]) for s in splits)] for name in METRICS]
    heads = ["", *(split.replace("_", " ").capitalize() for split in splits)]
    caption = (
        "Values with 95 % intervals: percentile bootstrap over test examples. They say what other "
        "examples would change, not what another seed would."
    )
    return (
        f'<section><h2>All numbers</h2><p class="caption">{caption}</p>'
        f"{_table(heads, rows)}</section>"
    )


def _is_split(value: object) -> bool:
    return isinstance(value, Mapping) and set(METRICS) <= value.keys()


def _cell(name: str, metric: Interval) -> str:
    factor, digits, unit = (100, 1, " %") if name in SHARES else (1, 3, "")
    value, low, high = (f"{factor * metric[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value}{unit}<small>{low} to {high}</small>"


def _picture(heading: str, caption: str, figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width = round(100 * figure.get_figwidth())  # ten inches are the full width
    return (
        f"<section><figure><h2>{escape(heading)}</h2><figcaption>{escape(caption)}</figcaption>"
        f'<img alt="{escape(heading)}" width="{width}" src="data:image/png;base64,{data}">'
        "</figure></section>"
    )


def _notes(notes: Sequence[str]) -> str:
    return _list("Read with care", notes, "care") if notes else ""


def _list(heading: str, lines: Sequence[str], kind: str) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f'<section class="{kind}"><h2>{escape(heading)}</h2><ul>{items}</ul></section>'


def _text(text: str) -> str:
    """Escaped, and no line begins with a percent sign."""
    return escape(text).replace(" %", "&nbsp;%")


def _folded(heading: str, values: Mapping[str, Any]) -> str:
    rows = ([escape(key), escape(value)] for key, value in flatten(values))
    return f"<details><summary>{escape(heading)}</summary>{_table((), rows)}</details>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already; the first of each row is its head.

    A mean and its deviation stay on one line, and the table scrolls where it is too wide.
    """
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    head = f"<thead><tr>{heads}</tr></thead>" if columns else ""
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    ).replace(" ± ", "&nbsp;±&nbsp;")
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as rows of dotted keys and text.

    >>> flatten({"model": {"backbone": "a"}, "steps": 3})
    [('model.backbone', 'a'), ('steps', '3')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows


def _write(path: str | os.PathLike[str], title: str, body: Iterable[str], footer: str) -> None:
    path = Path(path)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS.read_text('utf-8')}</style></head>"
        f"<body><main>\n{chr(10).join(filter(None, body))}\n"
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
