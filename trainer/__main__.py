"""``python -m trainer`` and the console script ``xptrainer``."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the command line that was typed, from the first moment on without a traceback.

    Return the exit code, see `trainer.cli.main`.
    """
    if sys.stdout is None:  # closed with >&-
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if not __package__:  # python trainer, in a checkout
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        from trainer.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left that could be stopped


if __name__ == "__main__":
    sys.exit(main())
