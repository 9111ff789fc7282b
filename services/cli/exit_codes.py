"""Exit codes of the command line, and the exception that ends a command with one of them."""

OK = 0
FAILED = 1
WRONG_USAGE = 2
UNAVAILABLE = 69
INTERRUPTED = 130
OUTPUT_CLOSED = 141

HELP = """\
exit codes:
  0    done
  1    the call failed, or one of its items did
  2    wrong usage
  69   a service, or the engine behind it, cannot be reached
  130  interrupted by Ctrl-C
"""


class CommandError(Exception):
    """Ends the command with one line on stderr and an exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
