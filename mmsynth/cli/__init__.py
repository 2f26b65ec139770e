"""The command line. Only `main` turns errors into one line and an exit code.

Commands are in `commands`, and their output in `show`. Nothing here loads torch, and `--help` loads next to nothing.
"""

import atexit
import os
import sys
from typing import NoReturn


def main() -> None:
    """Run the command line and exit: 0, an error's own exit code (see mmsynth.errors), 130 after Ctrl-C, 143
    after SIGTERM."""
    from mmsynth.cli import streams

    streams.prepare()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    code = run([a for a in arguments if a != "--debug"], debug)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit at once when all is done: what native threads of libraries still do could abort Python's own way out."""
    atexit._run_exitfuncs()  # temporary folders, processes that are still there, logs
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            continue  # whoever read it has seen enough
        except (OSError, ValueError) as error:
            code = code or _say(f"error: cannot write to {stream.name}: {error}", 1)
    os._exit(code)


def run(arguments: list[str], debug: bool = False) -> int:
    """Run one command line and return its exit code. With `debug`, errors pass through with their traceback."""
    import typer

    from mmsynth.cli import selecting
    from mmsynth.errors import MMSynthError

    app = selecting.app

    # from click, or from the copy of click inside newer versions of typer
    usage_error = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    try:
        # typer returns an exit code for Ctrl-C and typer.Exit
        code = app(arguments, prog_name="mmsynth", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except SystemExit as stopped:  # by SIGTERM or SIGHUP: 128 and the signal's number
        code = stopped.code
    except MMSynthError as error:
        if debug:
            raise
        return _say(f"error: {error}", error.exit_code)
    except Exception as error:  # the last resort: one line instead of a traceback
        if debug:
            raise
        if isinstance(error, usage_error):
            error.show()  # type: ignore[attr-defined]  # found by name above
            return 2
        return _say(f"error: {type(error).__name__}: {error} (a bug in mmsynth? --debug shows the traceback)", 1)
    if isinstance(code, int) and code >= _SIGNALLED:
        return _say("stopped; what is committed is kept, and the same command goes on from there", code)
    return code if isinstance(code, int) else 0


#: exit codes above it are those of signals
_SIGNALLED = 128
_INTERRUPTED = _SIGNALLED + 2


def _say(message: str, code: int) -> int:
    from mmsynth.cli.streams import Lenient
    from mmsynth.secrets import in_words

    Lenient("stderr").write(" ".join(in_words(message).split()) + "\n")
    return code
