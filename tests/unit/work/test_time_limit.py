import signal
import threading
import time

import pytest

from burla_provider.work.time_limit import RangeTimedOut, time_limit


def test_waiting_is_interrupted():
    with pytest.raises(RangeTimedOut, match=r"range_timeout=0\.05"), time_limit(0.05):
        time.sleep(60)


def test_a_busy_loop_is_interrupted():
    def busy():
        while True:
            pass

    with pytest.raises(RangeTimedOut), time_limit(0.05):
        busy()


def test_code_that_swallows_exceptions_is_interrupted():
    def stubborn():
        while True:
            try:
                time.sleep(60)
            except Exception:
                continue

    with pytest.raises(RangeTimedOut), time_limit(0.05):
        stubborn()


def test_nothing_is_left_behind():
    before = signal.getsignal(signal.SIGALRM)  # other tests of the same process may have left one
    with time_limit(60):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_another_thread_goes_without_a_limit():
    done = []

    def work():
        with time_limit(0.0001):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
