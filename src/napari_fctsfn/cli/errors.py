"""What the user sees when something goes wrong: one line, and the status it ends with."""

from __future__ import annotations

import traceback
from typing import Annotated, Any, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from napari_fctsfn.errors import InputError

_DEBUG = "napari_fctsfn.debug"


@runtime_checkable
class _ParserError(Protocol):
    """What the parser raises on an unknown option or a missing one.

    Known by its face, because typer takes the class from click in some versions and brings its own
    in others.
    """

    exit_code: int

    def format_message(self) -> str: ...


def _remember(context: typer.Context, value: bool) -> bool:
    if value:
        context.meta[_DEBUG] = True
    return value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember, help="Show the traceback of an error.")
]
"""Option of every verb, and of the command itself."""


class Commands(TyperGroup):
    """The command line's verbs; whatever one raises ends in one line on the error stream."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was named."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the user gets one line
            if ctx.meta.get(_DEBUG):
                traceback.print_exc()
            message, status = _told(error)
            typer.echo(f"Error: {message}", err=True)
            raise typer.Exit(status) from None


def _told(error: Exception) -> tuple[str, int]:
    """One line for the user, and the exit status."""
    if isinstance(error, _ParserError):
        problem = error.format_message().rstrip(".")
        text, status = f"{problem}; --help shows the options", error.exit_code
    elif isinstance(error, InputError):
        text, status = str(error), 2
    else:
        kind = type(error).__name__
        text, status = f"unexpected {kind}: {error} (--debug shows where)", 1
    return " ".join(text.split()), status
