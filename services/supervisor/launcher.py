"""Replaces itself with a command that the kernel kills when the supervisor dies, however it dies.

Run as a script (`python -I -S launcher.py SUPERVISOR_PID COMMAND [ARGUMENT...]`) and kept free of imports from naiad,
so that it costs a few milliseconds. The order given here outlives `exec` (prctl(2), PR_SET_PDEATHSIG); a hook run
between fork and exec in the supervisor would not be safe, because gRPC has threads there.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_SUPERVISOR_GONE = 125
EXIT_NOT_EXECUTABLE = 126


def main() -> int:
    """Ties this process to the supervisor's life, then becomes the command; returns only when it cannot."""
    supervisor_pid = int(sys.argv[1])
    command = sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return EXIT_NOT_EXECUTABLE
    # The supervisor may have died before the order was given; then nobody would ever stop this process.
    if os.getppid() != supervisor_pid:
        return EXIT_SUPERVISOR_GONE
    try:
        os.execv(command[0], command)  # noqa: S606 - the supervisor chose the command; there is no shell
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return EXIT_NOT_EXECUTABLE


if __name__ == "__main__":
    sys.exit(main())
