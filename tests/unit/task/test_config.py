from typing import Any, get_args

import pytest
from airflow.sdk import DAG, task

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.task.config import BatchFormat, RowFormat, Split
from burla_provider.worker.batch_formats import BATCH_FORMATS
from burla_provider.worker.rows import ROW_FORMATS


def operator(**options: Any) -> BurlaMapOperator:
    return BurlaMapOperator(**{"task_id": "t", "python_callable": abs, "inputs": [1], **options})


def table_operator(**options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(**{"task_id": "t", "table": "orders", "totals": {"n": "count(*)"}, **options})


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
        ({"func_gpu": 1}, 'func_gpu: must be a string, got 1. Use a name that Burla knows, such as "A100".'),
        ({"disk_gb": "much", "grow": True}, "disk_gb: must be an integer >= 1, got 'much'."),
        (
            {"disk_gb": 200},
            "disk_gb: is for nodes that are booted for the job, got 200. Use grow=True, or leave it out.",
        ),
        ({"grow": 1}, "grow: must be a boolean, got 1. Use True or False."),
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
        ({"tolerated_failures": "nan%"}, "tolerated_failures: must be a number of items or a percentage, got 'nan%'."),
        ({"burla_conn_id": None}, "burla_conn_id: must be a name, got None. Use the id of an Airflow connection."),
        ({"image": 5}, "image: must be text, got 5. Use text, or leave it out."),
        ({"collect": "False"}, "collect: must be a boolean, got 'False'. Use True or False. It is not a template."),
    ],
)
def test_what_cannot_be_used_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        operator(**options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": None}, "table: must be a name, got None. Write it as in SQL: orders, sales.orders."),
        ({"table": ""}, "table: must be a name, got ''."),
        ({"table": 2024}, "table: must be a name, got 2024."),
        ({"postgres_conn_id": None}, "postgres_conn_id: must be a name, got None."),
        ({"key": 5}, "key: must be a list, got 5."),
        ({"key": [5]}, "key: must contain only strings, got 5."),
        ({"ledger": 5}, "ledger: must be text, got 5."),
        ({"results_table": 5}, "results_table: must be text, got 5."),
        ({"incremental": "{{ params.new }}"}, "incremental: must be a boolean, got '{{ params.new }}'."),
        ({"refine": "False"}, "refine: must be a boolean, got 'False'."),
        ({"isolate_failures": None}, "isolate_failures: must be a boolean, got None."),
        (
            {"incremental": True, "key": "id", "lag": "5 minutes"},
            "lag: must be a number of ids or a timedelta, got '5 m",
        ),
        ({"incremental": True, "key": "id", "lag": True}, "lag: must be a number of ids or a timedelta, got True."),
        ({"incremental": True, "key": "id", "lag": -1}, "lag: must not be negative, got -1."),
        ({"lag": 5}, "lag: is for incremental=True, got 5."),
        ({"start": "2026-01-01"}, "start: is for incremental=True, got '2026-01-01'."),
        (
            {"incremental": True, "key": "id", "tolerated_failures": "5%"},
            "tolerated_failures: must be 0 with incremental=True, got '5%': no later run",
        ),
    ],
)
def test_what_a_table_cannot_use_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        table_operator(**options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "name", ["target_table", "target_conn_id", "version_column", "reject_table", "pause_while", "pause_conn_id"]
)
def test_a_target_is_named_by_text(name: str) -> None:
    target = {"target_table": "archive", "write_mode": "upsert", "map_row": abs, name: 5}
    with pytest.raises(InvalidParameterError, match=rf"^{name}: must be text, got 5. Use text, or leave it out.$"):
        BurlaPostgresTransformOperator(task_id="t", table="orders", **target)


def test_a_template_that_renders_to_nothing_leaves_a_parameter_out() -> None:
    target = {"target_table": "archive", "write_mode": "upsert", "map_row": abs, "version_column": ""}
    made = BurlaPostgresTransformOperator(task_id="t", table="orders", **target)
    assert made.make_config().version_column is None
    assert operator(op_kwargs="").make_config().op_kwargs == {}


@pytest.mark.parametrize(
    "options",
    [
        {"max_parallelism": "{{ params.workers }}"},
        {"max_parallelism": " 8\n"},
        {"requirements": ""},
        {"func_gpu": "", "disk_gb": ""},
        {"func_gpu": "{{ params.gpu }}", "disk_gb": "{{ params.gb }}", "grow": "{{ params.grow }}"},
        {"disk_gb": "200", "grow": "true"},
        {"requirements": lambda context, jinja_env: ["pandas"]},
        {"func_cpu": "dynamic", "func_ram": 4},
        {"requirements": "environment"},
        {"requirements": "{{ params.packages }}", "op_kwargs": "{% if 1 %}{% endif %}"},
        {"requirements": ["{{ params.package }}"], "op_kwargs": {"base": 8}, "python_callable": int},
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


RUN_PARAMETERS = ("plan_only", "split", "consistency", "trial_ranges", "on_range_failure", "tolerated_failures")
"""Parameters of a table that a person sets for one run, in the form of the DAG's params."""


def test_what_is_set_for_one_run_may_be_a_template() -> None:
    templates = {name: f"{{{{ params.{name} }}}}" for name in RUN_PARAMETERS}
    assert table_operator(**templates, verify="count").consistency == "{{ params.consistency }}"
    assert table_operator(**templates, incremental=True, key="id", outlets=[])
    names = ("trial_inputs", "on_input_failure", "tolerated_failures")
    assert operator(**dict.fromkeys(names, "{{ params.x }}")).trial_inputs == "{{ params.x }}"


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("true", True), (" False\n", False), ("", False), (None, False), (True, True)]
)
def test_a_plan_only_that_was_rendered_is_a_bool(text: Any, value: bool) -> None:
    config = table_operator(plan_only=text).make_config()
    assert config.plan_only is value
    assert config.starts_job is not value


@pytest.mark.parametrize(("text", "value"), [("500", 500), (500, 500), ("", None), (None, None)])
def test_a_batch_size_that_was_rendered_is_a_number(text: Any, value: int | None) -> None:
    made = table_operator(totals=None, process_rows=len, batch_format="arrow", batch_size="{{ params.size }}")
    made.batch_size = text
    assert made.make_config().batch_size == value


@pytest.mark.parametrize(("text", "value"), [("2", 2), ("", 0), (None, 0), (2, 2)])
def test_the_size_of_a_trial_that_was_rendered_is_a_number(text: Any, value: int) -> None:
    assert table_operator(trial_ranges=text).make_config().trial_ranges == value
    assert operator(trial_inputs=text).make_config().trial_inputs == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan_only": "yes"}, "plan_only: must be a boolean, got 'yes'. Use True or False."),
        ({"plan_only": 1}, "plan_only: must be a boolean, got 1."),
        ({"trial_ranges": "some"}, "trial_ranges: must be an integer >= 0, got 'some'."),
        ({"trial_ranges": "-1"}, "trial_ranges: must be an integer >= 0, got '-1'."),
        ({"split": ""}, "split: '' is unknown. Use \"auto\""),
        ({"consistency": "None"}, 'consistency: \'None\' is unknown. Use "snapshot" or "none".'),
        ({"on_range_failure": "wait"}, "on_range_failure: 'wait' is unknown."),
        ({"tolerated_failures": ""}, "tolerated_failures: must be a number of items or a percentage, got ''."),
        ({"consistency": "none", "verify": "count"}, "verify: rows can be compared in a snapshot only."),
    ],
)
def test_a_value_that_was_rendered_is_checked_by_the_run(options: dict[str, Any], message: str) -> None:
    made = table_operator()
    for name, value in options.items():  # as Airflow does when it renders
        setattr(made, name, value)
    with pytest.raises(InvalidParameterError) as raised:
        made.make_config()
    assert str(raised.value).startswith(message)


def test_a_mapped_task_is_checked_when_it_runs() -> None:
    with DAG("d", schedule=None):
        mapped = BurlaMapOperator.partial(task_id="t", python_callable=abs).expand(trial_inputs=[-1])
    made = mapped.unmap({"trial_inputs": -1})
    with pytest.raises(InvalidParameterError, match="trial_inputs"):
        made.make_config()


def test_the_names_in_the_signature_are_those_of_the_lists() -> None:
    assert set(get_args(Split)) == {"auto", *STRATEGIES}
    assert set(get_args(RowFormat)) == set(ROW_FORMATS)
    assert get_args(BatchFormat) == tuple(BATCH_FORMATS)


def test_a_run_has_numbers_where_templates_rendered_to_text() -> None:
    config = operator(max_parallelism=" 8\n", func_cpu="2").make_config()
    assert (config.max_parallelism, config.func_cpu, config.func_ram) == (8, 2, "dynamic")
    limits = {"start_id": "5", "end_id": "", "ranges": "4", "key": "", "lower": ""}
    table = table_operator(**limits).make_config()
    assert (table.start_id, table.end_id, table.ranges, table.key, table.lower) == (5, None, 4, None, None)


def test_a_run_accepts_no_value_that_was_not_rendered() -> None:
    unrendered = operator(max_parallelism="{{ params.workers }}")
    with pytest.raises(InvalidParameterError, match=r"max_parallelism: must be an integer >= 1, got '\{\{ params"):
        unrendered.make_config()


def test_a_function_within_a_list_is_refused_at_parse_because_airflow_does_not_call_it() -> None:
    with pytest.raises(InvalidParameterError, match="requirements: must contain only strings, got <function"):
        operator(requirements=[lambda: "pandas"])


@pytest.mark.parametrize(
    ("options", "consistency"),
    [
        ({}, "snapshot"),
        ({"consistency": "none"}, "none"),
        ({"process_range": print, "totals": None, "ledger": "public.ledger"}, "none"),
    ],
)
def test_only_a_job_that_writes_has_no_snapshot_by_default(options: dict[str, Any], consistency: str) -> None:
    assert table_operator(**options).make_config().consistency == consistency


def test_exactly_one_parameter_says_what_is_done_with_the_rows() -> None:
    with pytest.raises(InvalidParameterError, match="totals, process_rows, process_range: exactly one must be given"):
        table_operator(process_rows=print)
