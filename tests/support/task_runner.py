"""Airflow's task runner with a supervisor that stores data in memory, instead of an API server with a database.

Airflow's code renders templates, installs its signal handler, runs ``execute``, serializes XComs, finalizes links and
decides on retries. Only the supervisor's end of the pipe is replaced.
"""

from __future__ import annotations

import datetime
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import structlog
from airflow.sdk import DAG, Connection
from airflow.sdk.api.datamodels._generated import DagRun, DagRunState, DagRunType, TIRunContext
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time import comms, task_runner

START = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
HAS_PARTITIONS = "partition_key" in DagRun.model_fields
HAS_STATE_STORES = hasattr(comms, "GetTaskStateStore")
_MAX_SECONDS = 300
"""A killed task that takes longer has hung."""
NO_STATE_STORES = "this Airflow has no state stores, which came with 3.3"


@dataclass
class TaskResult:
    """The result of one try."""

    state: str
    xcoms: dict[str, Any]
    error: BaseException | None
    rendered: dict[str, Any]
    log: str

    @property
    def value(self) -> Any:
        return self.xcoms.get("return_value")


@dataclass
class Airflow:
    """The data of tasks: connections, variables, XComs, state stores. It is kept between tries.

    ``state_store`` is the store of the task instance that ran last.
    """

    connections: dict[str, Connection] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    xcoms: dict[str, Any] = field(default_factory=dict)
    state_store: dict[str, Any] = field(default_factory=dict)
    asset_store: dict[tuple[str, str], Any] = field(default_factory=dict)
    rendered: dict[str, Any] = field(default_factory=dict)
    outlet_events: list[Any] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    scope: tuple[Any, ...] | None = None
    other_state_stores: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    dag_version_id: uuid.UUID = field(default_factory=uuid.uuid4)
    log_lines: list[str] = field(default_factory=list)

    def add_connection(self, conn_id: str, conn_type: str, **fields: Any) -> None:
        extra = fields.pop("extra", None)
        self.connections[conn_id] = Connection(
            conn_id=conn_id, conn_type=conn_type, extra=json.dumps(extra) if extra else None, **fields
        )

    def run(
        self,
        operator: Any,
        *,
        try_number: int = 1,
        max_tries: int = 0,
        run_id: str = "scheduled__2026-11-20",
        map_index: int = -1,
        logical_date: datetime.datetime = START,
        run_started: datetime.datetime = START,
        loop: Any = None,
        on_ready: Any = None,
        data_interval: tuple[datetime.datetime, datetime.datetime] | None = None,
        partition: str | None = None,
        conf: dict[str, Any] | None = None,
    ) -> TaskResult:
        """Run one try of ``operator`` in this process, as an Airflow worker does.

        :param loop: the context's "loop". It imitates Airflow 3.4, which is not released.
        :param data_interval: data interval of the run; None: the day that starts at ``logical_date``.
        :param partition: the day that is the run's partition of an asset; then it has neither date nor interval.
        :param conf: the run's configuration, which overrides the DAG's params.
        """
        self.xcoms.clear()
        interval = data_interval or (logical_date, logical_date + DAY)
        ti = self._task_instance(
            operator, try_number, max_tries, run_id, map_index, logical_date, run_started, interval, partition
        )
        ti._ti_context_from_server.dag_run.conf = conf
        self._enter((ti.dag_id, ti.task_id, ti.run_id, ti.map_index))
        with captured_log() as lines, self._supervised():
            self.log_lines = lines
            context = ti.get_template_context()
            if loop is not None:
                context["loop"] = loop
            log = structlog.get_logger(logger_name="task")
            if on_ready is not None:
                on_ready()
            state, _, error = task_runner.run(ti, context, log)
            task_runner.finalize(ti, state, context, log, error)
        return TaskResult(state.value, dict(self.xcoms), error, dict(self.rendered), "\n".join(lines))

    def has_logged(self, text: str) -> bool:
        """Return whether a line of the try that runs has the text. Any thread may call this."""
        return any(text in line for line in tuple(self.log_lines))

    def _enter(self, scope: tuple[Any, ...]) -> None:
        if self.scope not in (None, scope):
            self.other_state_stores[self.scope] = self.state_store
            self.state_store = self.other_state_stores.get(scope, {})
        self.scope = scope

    def send(self, msg: Any) -> Any:
        """Answer a message of the task runner as the API server does."""
        # A message that cannot be serialized fails here, as on the way to the real supervisor.
        comms._RequestFrame(id=0, body=msg.model_dump()).as_bytes()
        self.messages.append(msg)
        handler = getattr(self, f"_on_{type(msg).__name__}", None)
        return handler(msg) if handler else comms.OKResponse(ok=True)

    def _on_GetConnection(self, msg: Any) -> Any:
        connection = self.connections.get(msg.conn_id)
        if connection is None:
            return comms.ErrorResponse(error=comms.ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": msg.conn_id})
        names = ("conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra")
        return comms.ConnectionResult(**{name: getattr(connection, name) for name in names})

    def _on_GetVariable(self, msg: Any) -> Any:
        if msg.key in self.variables:
            return comms.VariableResult(key=msg.key, value=self.variables[msg.key])
        return comms.ErrorResponse(error=comms.ErrorType.VARIABLE_NOT_FOUND, detail={"key": msg.key})

    def _on_SetXCom(self, msg: Any) -> None:
        # The API server's column is of type jsonb: refuse what it refuses, and lose what it does not keep.
        if "\\u0000" in json.dumps(msg.value).replace("\\\\", ""):
            detail = {"message": "unsupported Unicode escape sequence"}
            raise AirflowRuntimeError(comms.ErrorResponse(error=comms.ErrorType.API_SERVER_ERROR, detail=detail))
        self.xcoms[msg.key] = json.loads(json.dumps(msg.value))

    def _on_GetXCom(self, msg: Any) -> Any:
        return comms.XComResult(key=msg.key, value=self.xcoms.get(msg.key))

    def _on_DeleteXCom(self, msg: Any) -> None:
        self.xcoms.pop(msg.key, None)

    def _on_SetRenderedFields(self, msg: Any) -> None:
        self.rendered = msg.rendered_fields

    def _on_SucceedTask(self, msg: Any) -> None:
        self.outlet_events = list(msg.outlet_events or [])

    def _on_GetTaskStateStore(self, msg: Any) -> Any:
        if msg.key not in self.state_store:
            return comms.ErrorResponse(error=comms.ErrorType.TASK_STORE_NOT_FOUND, detail={"key": msg.key})
        return comms.TaskStateStoreResult(value=self.state_store[msg.key])

    def _on_SetTaskStateStore(self, msg: Any) -> None:
        self.state_store[msg.key] = json.loads(json.dumps(msg.value))

    def _on_DeleteTaskStateStore(self, msg: Any) -> None:
        self.state_store.pop(msg.key, None)

    def _on_ClearTaskStateStore(self, msg: Any) -> None:
        self.state_store.clear()

    def _on_GetAssetStateStoreByName(self, msg: Any) -> Any:
        if (msg.name, msg.key) not in self.asset_store:
            return comms.ErrorResponse(error=comms.ErrorType.ASSET_STORE_NOT_FOUND, detail={"key": msg.key})
        return comms.AssetStateStoreResult(value=self.asset_store[msg.name, msg.key])

    def _on_SetAssetStateStoreByName(self, msg: Any) -> None:
        self.asset_store[msg.name, msg.key] = json.loads(json.dumps(msg.value))

    def _on_ValidateInletsAndOutlets(self, msg: Any) -> Any:
        return comms.InactiveAssetsResult(inactive_assets=[])

    @contextmanager
    def _supervised(self) -> Iterator[None]:
        before = getattr(task_runner, "SUPERVISOR_COMMS", None)
        task_runner.SUPERVISOR_COMMS = self
        try:
            yield
        finally:
            task_runner.SUPERVISOR_COMMS = before

    def _task_instance(
        self,
        operator: Any,
        try_number: int,
        max_tries: int,
        run_id: str,
        map_index: int,
        logical_date: Any,
        run_started: Any,
        interval: Any,
        partition: str | None,
    ) -> Any:
        if not operator.has_dag():
            operator.dag = DAG("test_dag", start_date=START, schedule=None)
        dag_id = operator.dag.dag_id
        date = datetime.datetime.fromisoformat(f"{partition}T00:00Z") if partition else None
        partition_fields = {"partition_key": partition, "partition_date": date}  # since Airflow 3.2 and 3.3
        dag_run = DagRun(
            dag_id=dag_id,
            run_id=run_id,
            logical_date=None if partition else logical_date,
            data_interval_start=None if partition else interval[0],
            data_interval_end=None if partition else interval[1],
            run_after=logical_date + DAY,
            start_date=run_started,
            end_date=None,
            run_type=DagRunType.SCHEDULED,
            state=DagRunState.RUNNING,
            consumed_asset_events=[],
            **{name: value for name, value in partition_fields.items() if name in DagRun.model_fields},
        )
        return task_runner.RuntimeTaskInstance.model_construct(
            id=uuid.uuid5(uuid.NAMESPACE_URL, f"{dag_id}/{operator.task_id}/{run_id}/{map_index}/{try_number}"),
            task_id=operator.task_id,
            dag_id=dag_id,
            run_id=run_id,
            try_number=try_number,
            map_index=map_index,
            max_tries=max_tries,
            task=operator,
            bundle_instance=SimpleNamespace(name="test", version=None),
            start_date=datetime.datetime.now(datetime.UTC),
            dag_version_id=self.dag_version_id,
            _ti_context_from_server=TIRunContext(
                dag_run=dag_run, max_tries=max_tries, should_retry=try_number <= max_tries
            ),
        )


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Yield the list of lines that the task logs: the operators with logging, the runner with structlog."""
    lines: list[str] = []

    class ListHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    def append(_: Any, __: str, event: dict[str, Any]) -> Any:
        lines.append(" ".join(f"{name}={value}" for name, value in event.items()))
        raise structlog.DropEvent

    handler = ListHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    before = structlog.get_config()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    structlog.configure(processors=[structlog.processors.format_exc_info, append], cache_logger_on_first_use=False)
    try:
        yield lines
    finally:
        structlog.configure(**before)
        root.setLevel(level)
        root.removeHandler(handler)


def run_and_kill(airflow: Airflow, operator: Any, number: int, *, when: Any, times: int = 1, **options: Any) -> int:
    """Run a try of ``operator`` in a forked process, as the supervisor does, and send it a signal.

    The child sends its state store and state to this process.

    :param number: the signal. It is sent as soon as ``when()`` is true.
    :param times: how often it is sent.
    :returns: the exit status of the process, as in ``os.waitstatus_to_exitcode``.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        # Coverage would lose what it measures here. A signal that arrives while it locks its data would wait for ever.
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        receiver.close()
        airflow.state_store = _SendingStore(airflow.state_store, sender)
        status = 70
        try:
            result = airflow.run(operator, max_tries=1, **options)
            sender.send(("state", result.state))
            status = 0
        finally:
            os._exit(status)
    sender.close()
    deadline = time.monotonic() + _MAX_SECONDS
    while True:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"The task has not ended within {_MAX_SECONDS} s.")
        # ``when`` may depend on other things than the state store: check it regularly.
        if receiver.poll(0.05):
            try:
                key, value = receiver.recv()
            except EOFError:
                break
            airflow.states.append(value) if key == "state" else airflow.state_store.__setitem__(key, value)
        if times and when():
            os.kill(pid, number)
            times -= 1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class _SendingStore(dict[str, Any]):
    """A state store in a child process that sends every value to its parent."""

    def __init__(self, values: dict[str, Any], sender: Any) -> None:
        super().__init__(values)
        self._sender = sender

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._sender.send((key, value))
