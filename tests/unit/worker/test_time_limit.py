import signal
import threading
import time

import pytest

from burla_provider.exceptions import RangeTimeoutError
from burla_provider.worker import time_limit as time_limit_module
from burla_provider.worker.time_limit import time_limit


def test_waiting_is_interrupted():
    with pytest.raises(RangeTimeoutError, match=r"range_timeout=0\.05"), time_limit(0.05):
        time.sleep(60)


def test_a_busy_loop_is_interrupted():
    def busy():
        while True:
            pass

    with pytest.raises(RangeTimeoutError), time_limit(0.05):
        busy()


def test_except_exception_does_not_catch_the_interruption():
    def stubborn():
        while True:
            try:
                time.sleep(60)
            except Exception:
                continue

    with pytest.raises(RangeTimeoutError), time_limit(0.05):
        stubborn()


def swallow(times):
    for _ in range(times):
        try:
            time.sleep(60)
        except BaseException:
            continue


def repeat_after(monkeypatch, seconds):
    # Not the module's attribute: a test that has unpickled the class in this process gave its methods other globals.
    monkeypatch.setitem(time_limit_module._Alarm.__enter__.__globals__, "REPEAT_SECONDS", seconds)


def test_a_bare_except_is_interrupted_again(monkeypatch):
    repeat_after(monkeypatch, 0.05)

    def stubborn():
        swallow(3)
        time.sleep(60)

    with pytest.raises(RangeTimeoutError), time_limit(0.05):
        stubborn()


def test_a_block_that_catches_every_interruption_times_out_at_its_end(monkeypatch):
    repeat_after(monkeypatch, 0.05)
    with pytest.raises(RangeTimeoutError, match=r"range_timeout=0\.05"), time_limit(0.05):
        swallow(3)


def test_a_late_interruption_does_not_reach_code_after_the_block(monkeypatch):
    repeat_after(monkeypatch, 0.001)
    before = signal.getsignal(signal.SIGALRM)
    for _ in range(2_000):
        try:
            with time_limit(0.00002):
                sum(range(100))
        except RangeTimeoutError:
            pass
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_signal_handler_is_restored():
    before = signal.getsignal(signal.SIGALRM)  # other tests of the same process may have left one
    with time_limit(60):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_another_thread_has_no_limit():
    done = []

    def work():
        with time_limit(0.0001):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
