"""The command line. Only `main` turns errors into one line and an exit code.

Commands are in `commands`, and their output in `show`. Nothing here loads torch, and `--help` loads next to nothing.
"""

import sys


def main() -> None:
    """Run the command line and exit: 0, an error's own exit code (see mmsynth.errors), 130 after Ctrl-C."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    sys.exit(run([a for a in arguments if a != "--debug"], debug))


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
    if code == _INTERRUPTED:
        return _say("stopped; what is committed is kept, and the same command goes on from there", _INTERRUPTED)
    return code if isinstance(code, int) else 0


_INTERRUPTED = 130


def _say(message: str, code: int) -> int:
    from mmsynth.secrets import in_words

    print(" ".join(in_words(message).split()), file=sys.stderr)
    return code
