from typing import Any, get_args

import pytest
from airflow.sdk import DAG, task

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.task.config import RowFormat, Split
from burla_provider.worker.processors.process_rows import ROW_FORMATS


def operator(**options: Any) -> BurlaMapOperator:
    return BurlaMapOperator(**{"task_id": "t", "python_callable": abs, "inputs": [1], **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_parallelism": 0},
            "max_parallelism: must be an integer >= 1, got 0. Use a whole number, or leave it out.",
        ),
        ({"max_parallelism": "two"}, "max_parallelism: must be an integer >= 1, got 'two'."),
        ({"max_parallelism": 2.5}, "max_parallelism: must be an integer >= 1, got 2.5."),
        ({"max_parallelism": True}, "max_parallelism: must be an integer >= 1, got True."),
        ({"func_cpu": None}, "func_cpu: must be an integer >= 1, got None."),
        (
            {"func_ram": "much"},
            "func_ram: must be an integer >= 1, got 'much'. Use a whole number, or \"dynamic\".",
        ),
        ({"job_retries": -1}, "job_retries: must be an integer >= 0, got -1. Use a whole number."),
        ({"queue_timeout": -1}, "queue_timeout: must be a number >= 0, got -1. Use a number of seconds."),
        ({"queue_timeout": None}, "queue_timeout: must be a number >= 0, got None."),
        ({"queue_timeout": "60"}, "queue_timeout: must be a number >= 0, got '60'."),
        ({"queue_timeout": float("nan")}, "queue_timeout: must be a number >= 0, got nan."),
        ({"resume": "always"}, "resume: 'always' is unknown. Use \"auto\", True or False."),
        ({"resume": 0}, "resume: 0 is unknown."),
        ({"job_retries": "2"}, "job_retries: must be an integer >= 0, got '2'."),
        (
            {"requirements": "pandas"},
            "requirements: must be a list, got 'pandas'. Use a list, also for a single string.",
        ),
        ({"requirements": None}, "requirements: must be a list, got None."),
        ({"requirements": ["pandas", 2]}, "requirements: must contain only strings, got 2."),
        ({"op_kwargs": "rate"}, "op_kwargs: must be a dict, got 'rate'."),
        ({"trial_inputs": -1}, "trial_inputs: must be an integer >= 0, got -1."),
        ({"on_input_failure": "go on"}, 'on_input_failure: \'go on\' is unknown. Use "finish" or "stop".'),
        (
            {"tolerated_failures": "5 of 100"},
            "tolerated_failures: must be a number of items or a percentage, got '5 of 100'.",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        operator(**options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "options",
    [
        {"max_parallelism": "{{ params.workers }}"},
        {"max_parallelism": " 8\n"},
        {"requirements": ""},
        {"requirements": lambda context, jinja_env: ["pandas"]},
        {"func_cpu": "dynamic", "func_ram": 4},
        {"requirements": "environment"},
        {"requirements": "{{ params.packages }}", "op_kwargs": "{% if 1 %}{% endif %}"},
        {"requirements": ["{{ params.package }}"], "op_kwargs": {"rate": 1}},
        {"job_retries": 0, "queue_timeout": 0.5, "resume": False, "trial_inputs": 0},
    ],
)
def test_what_may_be_used_is_not_refused(options: dict[str, Any]) -> None:
    assert operator(**options).task_id == "t"


def test_what_another_task_returns_is_known_when_it_has_run() -> None:
    @task
    def workers() -> int:
        return 8

    with DAG("d", schedule=None):
        assert operator(max_parallelism=workers()).upstream_task_ids == {"workers"}
        assert operator(task_id="u", requirements=[workers()], op_kwargs=workers()).upstream_task_ids == {
            "workers__1",
            "workers__2",
        }


def test_the_size_of_a_trial_is_no_template_field() -> None:
    fields = {*BurlaMapOperator.template_fields, *BurlaPostgresOperator.template_fields}
    assert not {"trial_inputs", "trial_ranges"} & fields
    with pytest.raises(InvalidParameterError, match=r"trial_inputs: must be an integer >= 0, got '\{\{ 2 \}\}'"):
        operator(trial_inputs="{{ 2 }}")


def test_a_mapped_task_is_checked_when_it_runs() -> None:
    with DAG("d", schedule=None):
        mapped = BurlaMapOperator.partial(task_id="t", python_callable=abs).expand(trial_inputs=[-1])
    made = mapped.unmap({"trial_inputs": -1})
    with pytest.raises(InvalidParameterError, match="trial_inputs"):
        made.make_config()


def test_the_names_in_the_signature_are_those_of_the_lists() -> None:
    assert set(get_args(Split)) == {"auto", *STRATEGIES}
    assert set(get_args(RowFormat)) == set(ROW_FORMATS)
