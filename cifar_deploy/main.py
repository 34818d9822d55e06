"""Run a command line. Errors become exit codes here alone."""

import contextlib
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence

from typer.exceptions import Abort

from cifar_deploy import cli, commands, config, process, steps
from cifar_deploy.core.errors import DeployError, Terminated, UsageError, one_line, printable

log = logging.getLogger(__name__)

_WARNINGS_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and leave with its exit code: 0, 1, 2, 130 or 143, and one line for every error."""
    process.begin()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    process.end(_exit_code([argument for argument in arguments if argument != "--debug"], debug))


def _exit_code(arguments: list[str], debug: bool) -> int:
    try:
        with process.signals_raised(), _warnings_shown(debug):
            code = _outcome(arguments, debug)
    except KeyboardInterrupt:
        process.print_error(f"interrupted; {_how_to_go_on(arguments)}")
        code = 130
    except Terminated:
        process.print_error(f"terminated; {_how_to_go_on(arguments)}")
        code = 143
    lost = process.lost_output()
    return _not_done(lost, debug) if lost and not code else code


def _outcome(arguments: list[str], debug: bool) -> int:
    """The exit code of whatever is not a signal."""
    try:
        code = cli.tree().main(arguments, prog_name="cifar-deploy", standalone_mode=False)
        if code == 130:  # typer answers Ctrl-C itself, and says nothing
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except Abort:
        raise KeyboardInterrupt from None
    except DeployError as error:
        return _failed(str(error), error.exit_code, debug)
    except SystemExit as left:  # raised by shell completion, and by rich and typer when the reader of a pipe has gone
        return 1 if left.code else 0
    except OSError as error:
        return _not_done(error, debug)
    except Exception:
        log.exception("internal error")
        return _failed(
            f"internal error, please report; details in {steps.log_file or 'the traceback of --debug'}", 1, debug
        )


def _not_done(error: OSError, debug: bool) -> int:
    """What the system refused is named, but for a pipe whose reader has gone, as with `| head`."""
    if isinstance(error, BrokenPipeError):
        return 1
    return _failed(f"{error.filename or 'system'}: {error.strerror or error}; mend that and run it again", 1, debug)


@contextlib.contextmanager
def _warnings_shown(debug: bool) -> Iterator[None]:
    """A warning is a line on stderr. Of many only the first are shown, and the others counted."""
    count = 0

    def show(message: Warning | str, *_: object) -> None:
        nonlocal count
        count += 1
        log.warning("%s", message)
        if debug or count <= _WARNINGS_SHOWN:
            process.complain(one_line(f"cifar-deploy: warning: {message}"))

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        finally:
            if not debug and count > _WARNINGS_SHOWN:
                process.complain(f"cifar-deploy: warning: {count - _WARNINGS_SHOWN} more warnings; --debug shows them")


def _how_to_go_on(arguments: list[str]) -> str:
    has_out = config.gives("out") or any(argument.startswith(("-o", "--out")) for argument in arguments)
    if arguments[:1] == ["bench"] and not has_out:
        return "nothing is kept; with --out the same command would go on"
    if arguments[:2] == ["env", "create"]:
        return "nothing was changed; the same command starts over"
    if arguments[:1] == ["predict"]:
        return "nothing was predicted; the same command starts over"
    if arguments[:1] == ["profile"]:
        return "no profile was made; the same command starts over"
    if config.gives("force") or "--force" in map(commands.today, arguments):
        if arguments[:1] == ["train"]:
            return "if a state was saved, the same command without --force goes on from there"
        return "with --force the same command starts over"
    if arguments[:1] in (["train"], ["train-all"], ["run"]):  # nothing, perhaps
        return "the same command goes on from what was saved"
    return "the same command goes on from here"


def _failed(message: str, code: int, debug: bool) -> int:
    process.print_error(message)
    if debug:
        for line in traceback.format_exc().splitlines():
            process.complain(printable(line))
    elif code != UsageError.exit_code:  # a wrong command line says all of itself, and leaves nothing behind
        log.debug("%s", message, exc_info=True)
    return code
