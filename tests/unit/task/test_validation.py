from typing import Any, get_args

import pytest
from airflow.sdk import DAG, task

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator, RowFormat, Split
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.worker.processors.process_rows import ROW_FORMATS


def operator(**options: Any) -> BurlaMapOperator:
    return BurlaMapOperator(**{"task_id": "t", "python_callable": abs, "inputs": [1], **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_parallelism": 0},
            "max_parallelism: 0 is no number that fits. Use a whole number from 1 on, or leave it out.",
        ),
        ({"max_parallelism": "two"}, "max_parallelism: 'two' is no number that fits."),
        ({"max_parallelism": 2.5}, "max_parallelism: 2.5 is no number that fits."),
        ({"max_parallelism": True}, "max_parallelism: True is no number that fits."),
        ({"func_cpu": None}, "func_cpu: None is no number that fits."),
        (
            {"func_ram": "much"},
            "func_ram: 'much' is no number that fits. Use a whole number from 1 on, or \"dynamic\".",
        ),
        ({"job_retries": -1}, "job_retries: -1 is no number that fits. Use a whole number from 0 on."),
        ({"queue_timeout": -1}, "queue_timeout: -1 is no time. Give seconds, a number from 0 on."),
        ({"queue_timeout": None}, "queue_timeout: None is no time."),
        ({"queue_timeout": "60"}, "queue_timeout: '60' is no time."),
        ({"queue_timeout": float("nan")}, "queue_timeout: nan is no time."),
        ({"resume": "always"}, "resume: 'always' is unknown. Use \"auto\", True or False."),
        ({"resume": 0}, "resume: 0 is unknown."),
        ({"job_retries": "2"}, "job_retries: '2' is no number that fits."),
        ({"requirements": "pandas"}, "requirements: 'pandas' is no list. Give a list of text, also of a single one."),
        ({"requirements": None}, "requirements: None is no list."),
        ({"requirements": ["pandas", 2]}, "requirements: 2 in it is no text."),
        ({"op_kwargs": "rate"}, "op_kwargs: 'rate' is no dict."),
        ({"trial_inputs": -1}, "trial_inputs: -1 is no number that fits."),
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
    with pytest.raises(InvalidParameterError, match=r"trial_inputs: '\{\{ 2 \}\}' is no number that fits"):
        operator(trial_inputs="{{ 2 }}")


def test_a_mapped_task_is_checked_when_it_runs() -> None:
    with DAG("d", schedule=None):
        mapped = BurlaMapOperator.partial(task_id="t", python_callable=abs).expand(trial_inputs=[-1])
    made = mapped.unmap({"trial_inputs": -1})
    with pytest.raises(InvalidParameterError, match="trial_inputs"):
        made._check_parameters()


def test_the_operator_offers_what_there_is() -> None:
    assert set(get_args(Split)) == {"auto", *STRATEGIES}
    assert set(get_args(RowFormat)) == set(ROW_FORMATS)
