"""Signals that ask for the end: none is lost, and none is handled in a library's callback."""

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import threading

import pytest

from mtla_espnet.signals import handlers_kept, signals_held

COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM]


@pytest.fixture(params=NUMBERS, ids=lambda number: number.name)
def number(request):
    """A signal that raises KeyboardInterrupt."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def sort_with_a_signal(number):
    """Sort by the C library, which calls Python; a signal comes up in the third call."""
    values = (ctypes.c_int * 20)(*reversed(range(20)))
    calls = []

    def compare(a, b):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
            for _ in range(1000):  # handled at one of these lines, if at all
                pass
        return a[0] - b[0]

    return values, lambda: ctypes.CDLL(None).qsort(values, 20, 4, COMPARE(compare))


def test_a_signal_in_a_callback_ends_the_call_after_it(number):
    values, sort = sort_with_a_signal(number)
    with pytest.raises(KeyboardInterrupt), signals_held():
        sort()
    assert list(values) == list(range(20))
    assert signal.getsignal(number) is signal.default_int_handler


def test_without_a_signal_nothing_is_raised(number):
    with signals_held():
        pass
    assert signal.getsignal(number) is signal.default_int_handler


def test_what_has_no_handler_in_python_stays(number):
    signal.signal(number, signal.SIG_IGN)
    with signals_held():
        assert signal.getsignal(number) is signal.SIG_IGN
        os.kill(os.getpid(), number)


def test_other_threads_hold_nothing():
    raised = []

    def hold():
        try:
            with signals_held():
                pass
        except ValueError as error:  # Python's, of signal.signal in a thread
            raised.append(error)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert not raised


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_finaliser_is_raised_again(number):
    program = f"""
import os, time
from mtla_espnet.signals import end_by_exception

class Late:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})
        for _ in range(1000):
            pass

end_by_exception()
try:
    late = Late()
    del late
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "interrupted\n", done.stderr


def test_handlers_that_a_library_sets_are_set_back(number):
    before = signal.getsignal(number)
    with handlers_kept():
        signal.signal(number, lambda *_: sys.exit())
    assert signal.getsignal(number) is before


def test_a_handler_that_was_not_set_from_python_is_left(number, monkeypatch):
    """`getsignal` gives it as None, which cannot be set."""
    with monkeypatch.context() as patched:
        patched.setattr(signal, "getsignal", lambda _: None)
        with handlers_kept():
            pass
        with signals_held():
            pass
    assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.skipif(importlib.util.find_spec("dask_jobqueue") is None, reason="needs Dask")
def test_the_engine_of_clusters_leaves_ctrl_c_as_it_is():
    program = (
        "import signal, mtla_espnet.jobs.cluster\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
