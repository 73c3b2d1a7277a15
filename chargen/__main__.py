"""``python -m chargen`` is ``chargen``: where a process begins."""

import signal

# Until the imports are done, Ctrl-C ends the process by the signal itself, without a traceback.
_handler = signal.getsignal(signal.SIGINT)
if _handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from chargen.cli import main  # noqa: E402

signal.signal(signal.SIGINT, _handler)

if __name__ == "__main__":
    main()
