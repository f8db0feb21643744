"""`python -m metricshub_apikey`, and what the command `apikey` calls."""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # The process ends before collecting garbage could pay; it would cost a sixth of `list`.
    gc.disable()
    # Until the command line handles it, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from metricshub_apikey.cli.main import run

    code = run(sys.argv[1:])
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
