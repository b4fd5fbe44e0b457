"""What the launcher says on the terminal: what it waits for and how long it took; plain lines in a pipe."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from control.local.layout import Layout, Unusable

LOOK_EVERY_S = 0.1
TAIL_LINES = 15

console = Console(highlight=False, soft_wrap=True)


class NotReady(Unusable):
    """A part does not serve in time; the text ends with the last lines of its log."""


def wait_for(layout: Layout, program: str, lacks: Callable[[], str], *, within_s: float = 60.0) -> None:
    """Wait until `lacks` says "", showing the time that passes. Raises NotReady with what it lacks and its log."""
    began = time.monotonic()
    while missing := lacks():
        passed_s = time.monotonic() - began
        if passed_s > within_s:
            _clear_line()
            raise NotReady(f"{program} is not ready after {within_s:.0f} s: {missing}\n{log_tail(layout, program)}")
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\033[Kwaiting for {program} … {passed_s:.1f} s")
            sys.stdout.flush()
        time.sleep(LOOK_EVERY_S)
    _clear_line()
    done(program, began)


def done(what: str, began: float) -> None:
    """One line: what is done, and how long it took since `began` (monotonic)."""
    console.print(f"[green]✓[/] {what:<18} [dim]{time.monotonic() - began:.1f} s[/]")


def note(text: str) -> None:
    """One line that the user should know."""
    console.print(f"[yellow]·[/] {escape(text)}")


def failed(what: str, error: Exception) -> None:
    """Say that something failed and why."""
    console.print(f"[bold red]✗ {what} failed:[/] {escape(str(error))}")


def log_tail(layout: Layout, program: str) -> str:
    """The last lines of a program's log, under its path."""
    path = layout.log(program)
    return f"--- {path}\n{tail(path)}"


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a file."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) or "(empty)"
    except OSError as error:
        return f"(cannot be read: {error})"


def _clear_line() -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")
