"""What failed items mean for the job: how many are tolerated, and what the error says."""

from __future__ import annotations

from typing import Any

import pytest

from burla_provider.exceptions import AllFailedError, InvalidParameterError, RangesFailedError
from burla_provider.task.failure_groups import FailureGroups
from burla_provider.task.failure_policy import FailurePolicy, allowance, with_local_module_hint
from burla_provider.task.validation import UNRENDERED
from burla_provider.worker.outcome import Failure, Outcome


def policy_of(*outcomes: Outcome, **options: Any) -> FailurePolicy:
    groups = FailureGroups("range {}".format)
    policy = FailurePolicy(options.get("on_failure", "stop"), options.get("tolerated", 0), groups)
    for outcome in outcomes:
        groups.add(outcome)
        policy.add(outcome)
    return policy


def failed(index: int, type_: str = "ValueError", sqlstate: str | None = None) -> Outcome:
    return Outcome(index, failure=Failure(type_, "no", sqlstate=sqlstate))


def error_of(policy: FailurePolicy, item_count: int = 100) -> RangesFailedError:
    with pytest.raises(RangesFailedError) as caught:
        policy.check(item_count)
    return caught.value


@pytest.mark.parametrize(
    ("tolerated", "count"), [("0.57%", 57), (" 1.13 % ", 113), ("100%", 10_000), (5, 5), ("7", 7), (0, 0)]
)
def test_a_percentage_of_items_is_exact(tolerated: int | str, count: int) -> None:
    assert allowance(tolerated, 10_000) == count


@pytest.mark.parametrize("tolerated", ["nan%", "inf%", "-1%", "100.1%", "1e999999999%", "%", "", "1.5", -1, None])
def test_what_is_no_number_of_items_is_refused(tolerated: object) -> None:
    with pytest.raises(InvalidParameterError, match="tolerated_failures: must be a number of items or a percentage"):
        allowance(tolerated, 10_000)  # type: ignore[arg-type]


def test_nothing_may_fail_if_the_number_is_unknown_until_the_task_runs() -> None:
    assert allowance(UNRENDERED, 10_000) == 0


@pytest.mark.parametrize("tolerated", [2, "2%"])
def test_a_job_goes_on_until_more_items_failed_than_tolerated(tolerated: int | str) -> None:
    two = policy_of(failed(1), failed(2), tolerated=tolerated)
    assert not two.must_stop(100)
    two.check(100)
    three = policy_of(failed(1), failed(2), failed(3), tolerated=tolerated)
    assert three.must_stop(100)
    assert str(error_of(three)).startswith(f"3 of 100 ranges failed (tolerated: {tolerated}):")


def test_a_job_that_finishes_does_not_stop_and_fails_at_its_end() -> None:
    policy = policy_of(failed(1), on_failure="finish")
    assert not policy.must_stop(100)
    error_of(policy)


def test_a_failure_of_the_trial_is_never_tolerated() -> None:
    policy_of(Outcome(1), tolerated=5).check_trial(100)
    message = r"The trial failed, and nothing else was started\. 1 of 100 ranges failed \(tolerated: 0\)"
    with pytest.raises(RangesFailedError, match=message):
        policy_of(failed(1), tolerated=5).check_trial(100)


@pytest.mark.parametrize("permanent", [failed(1, "TypeError"), failed(1, "UndefinedColumn", "42703")])
@pytest.mark.parametrize("other", [None, Outcome(2), failed(2), failed(2, "KeyError")])
def test_a_retry_is_useless_only_if_all_failed_with_the_same_permanent_error(
    permanent: Outcome, other: Outcome | None
) -> None:
    error = error_of(policy_of(permanent, *([other] if other else [])))
    assert isinstance(error, AllFailedError) == (other is None)
    assert ("A retry would fail again" in str(error)) == (other is None)


@pytest.mark.parametrize("passing", [failed(1), failed(1, "OperationalError", "53300"), failed(1, "ValueError", "")])
def test_a_retry_may_help_if_all_failed_with_an_error_that_is_not_permanent(passing: Outcome) -> None:
    assert not isinstance(error_of(policy_of(passing)), AllFailedError)


@pytest.mark.parametrize("kinds", [1, 2, 8, 9, 11])
def test_the_error_lists_eight_kinds_and_counts_the_others(kinds: int) -> None:
    lines = str(error_of(policy_of(*(failed(number, f"Error{number}") for number in range(kinds))))).splitlines()
    assert (f"failed, with {kinds} kinds of errors (" in lines[0]) == (kinds > 1)
    assert ("failed (" in lines[0]) == (kinds == 1)
    listed = [line for line in lines if line.startswith("- Error")]
    assert len(listed) == min(kinds, 8)
    more = [line for line in lines if line.startswith("- and")]
    assert [line.partition(" more kinds")[0] for line in more] == ([f"- and {kinds - 8}"] if kinds > 8 else [])


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_error_names_three_items_of_a_kind(count: int) -> None:
    lines = str(error_of(policy_of(*map(failed, range(count))))).splitlines()
    names = ", ".join(f"range {number}" for number in range(min(count, 3)))
    assert f"  in {names}{' and 1 more' if count > 3 else ''}" in lines


def test_only_a_missing_module_of_the_dag_folder_gets_the_hint() -> None:
    local = Failure("ModuleNotFoundError", "No module named 'unusual_prefix_0123_shop'")
    assert "was not sent with the function" in with_local_module_hint(local).advice
    for other in (
        Failure("ModuleNotFoundError", "No module named 'pandas'", advice="Install it."),
        Failure("ValueError", "No module named 'unusual_prefix_0123_shop'", advice="Install it."),
        Failure("ModuleNotFoundError", "no name", advice="Install it."),
    ):
        assert with_local_module_hint(other) == other
