"""Lines and tables for the person at the terminal.

Texts from data sets and checkpoints are untrusted: rich's markup is off, and control characters,
which a terminal would obey, are shown as their codes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from utils.time_left import TimeLeft

LABEL_WIDTH = 9


def harmless(text: str) -> str:
    """Text whose control characters are shown instead of sent to the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def say(label: str, text: str = "") -> None:
    """One fact, its kind in front: ``model      efficientnet-b0, ...``."""
    print(f"{harmless(label):<{LABEL_WIDTH}} {harmless(text)}".rstrip(), flush=True)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; the first column is text, the others are numbers."""
    table = Table(title=Text(harmless(title)), title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(Text(harmless(column)), justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    Console(highlight=False).print(table)


def is_terminal() -> bool:
    """Whether a progress bar makes sense; a log file only gets lines."""
    return sys.stdout.isatty()


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function of (done, all): a bar on a terminal, elsewhere a line now and then."""
    if not is_terminal():
        yield _lines(label)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(),  # the shared one shows nothing while a bar of others is open on it
        transient=True,
    )
    with bar:
        task = bar.add_task(f"{harmless(label):<{LABEL_WIDTH}}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(label: str) -> Callable[[int, int], None]:
    left = TimeLeft()

    def show(done: int, total: int) -> None:
        if left.line_is_due() and total:
            say(label, f"{done} of {total}, {left.text(done / total)}")

    return show
