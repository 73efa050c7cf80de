"""Signals that ask a run to end: they become exceptions, and none of them is lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

_AGAIN_S = 0.05
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


def end_by_exception() -> None:
    """Let SIGTERM raise KeyboardInterrupt as Ctrl-C does, so that temporary files are removed.

    Python only reports an exception that comes up in a finaliser: a signal that arrives there
    would stop nothing. It is raised again a moment later.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = _not_raised


def _not_raised(lost: "sys.UnraisableHookArgs") -> None:
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


@contextlib.contextmanager
def handlers_kept() -> Iterator[bool]:
    """Set the handlers of signals back after the block, the import of a library that sets some.

    Yields:
        Whether this is the main thread: in another one nothing can be set, nor must be kept.
    """
    can_set = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _ENDING} if can_set else {}
    try:
        yield can_set
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # else one that was not set from Python
                signal.signal(number, handler)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Handle signals that ask for the end after the block, one call of a library, not in it.

    For libraries that call Python back: an exception in there, which a signal may raise at any
    line, is dropped by the library's binding (ctypes, cffi), and what the callback should have
    taken or given is missing without a word. Python handles signals in the main thread alone,
    so in another one there is nothing to hold.
    """
    arrived: list[int] = []
    try:
        with handlers_kept() as can_set:
            for number in _ENDING if can_set else ():
                if callable(signal.getsignal(number)):
                    signal.signal(number, lambda number, _: arrived.append(number))
            yield
    finally:
        for number in arrived:
            signal.raise_signal(number)
