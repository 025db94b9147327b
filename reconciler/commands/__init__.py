"""The command line: one file per command, found by listing the folder. No rule lives here.

Exit codes: 0 ok, 1 run failed or differences, 2 usage, invalid input or a repository that cannot be reached, 3 still
waiting at `--timeout`, 4 refused by policy, 20 internal.
"""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from reconciler.errors import ReconcilerError, RefusedError, TemporaryError, UsageError

OK, FAILED, USAGE, WAITING, REFUSED, INTERNAL = 0, 1, 2, 3, 4, 20

_SHARED = (
    "asked",
    "chronicle",
    "describing",
    "foretelling",
    "holds",
    "members",
    "nouns",
    "objects",
    "opening",
    "options",
    "planning",
    "present",
    "reading",
    "reasons",
    "showing",
    "standing",
    "steering",
    "telling",
    "uncounted",
    "undoing",
    "writing",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; expected errors become one line on stderr and an exit code, others a traceback and 20."""
    from typer import exceptions  # noqa: PLC0415 - kept out of the package's import

    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        result = _application()(words or ["--help"], prog_name="reconciler", standalone_mode=False)
    except exceptions.Exit as stop:
        return stop.exit_code
    except exceptions.TyperException as error:
        return _misused(error.format_message())
    except (exceptions.Abort, KeyboardInterrupt):
        return 130
    except ReconcilerError as error:
        return _say(error)
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except OSError as error:
        return _unusable(error)
    except Exception:  # noqa: BLE001 - our own mistake: told whole, and with a code of its own
        traceback.print_exc()
        return INTERNAL
    return result if isinstance(result, int) else OK


def _misused(message: str) -> int:
    """Say in one line what is wrong with the words; a group of commands without a command shows its page instead."""
    if message.startswith("Usage: "):
        sys.stdout.write(message + "\n")
        return OK
    sys.stderr.write(f"reconciler: {message.rstrip('.')}; --help tells more\n")
    return USAGE


def _say(error: ReconcilerError) -> int:
    from reconciler import redact  # noqa: PLC0415

    sys.stderr.write(f"reconciler: {redact.text(str(error))}\n")
    if isinstance(error, RefusedError):
        return REFUSED
    return USAGE if isinstance(error, UsageError | TemporaryError) else FAILED


def _unusable(error: OSError) -> int:
    """Say in one line which file or folder could not be used; without one it is our own mistake."""
    from reconciler import redact  # noqa: PLC0415

    if error.filename is None:
        traceback.print_exc()
        return INTERNAL
    sys.stderr.write(f"reconciler: {redact.line(str(error.filename))} cannot be used: {error.strerror}\n")
    return USAGE


def _application() -> Callable[..., Any]:
    import typer  # noqa: PLC0415

    application = typer.Typer(
        name="reconciler",
        help="Staged rollouts over fleets of Kubernetes clusters, driven by a Git repository.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain pages of help: the rich ones cost more time than the command
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    from reconciler.commands.options import everywhere  # noqa: PLC0415

    application.callback()(everywhere)
    for module in pkgutil.iter_modules(__path__):
        if module.name not in _SHARED:
            importlib.import_module(f"{__name__}.{module.name}").register(application)
    return application
