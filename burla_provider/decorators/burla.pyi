"""Written by ``python -m tests.support.decorator_stub``, from the signatures of the operators."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, overload

from airflow.sdk.bases.decorator import Task

from burla_provider.task.failure_policy import OnFailure
from burla_provider.task.resume import Resume

_Result = TypeVar("_Result")

class MapTaskDecorator(Protocol):
    # A call gives a list of items in place of the item, so that the arguments are not checked.
    def __call__(self, python_callable: Callable[..., _Result], /) -> Task[..., list[_Result]]: ...

@overload
def burla_task(python_callable: Callable[..., _Result], /) -> Task[..., list[_Result]]: ...
@overload
def burla_task(
    *,
    init: Mapping[str, Callable[..., Any]] | None = ...,
    trial_inputs: int | str = ...,
    collect: bool = ...,
    on_input_failure: OnFailure | str = ...,
    tolerated_failures: int | str = ...,
    describe: Callable[[Any], str] | None = ...,
    burla_conn_id: str = ...,
    max_parallelism: int | None = ...,
    func_cpu: int | Literal["dynamic"] = ...,
    func_ram: int | Literal["dynamic"] = ...,
    func_gpu: str | None = ...,
    grow: bool | str = ...,
    image: str | None = ...,
    region: str | None = ...,
    disk_gb: int | str | None = ...,
    requirements: Sequence[str] | Literal["environment"] = ...,
    burla_python: str | None = ...,
    queue_timeout: float = ...,
    job_retries: int = ...,
    max_result_bytes: int | None = ...,
    resume: Resume = ...,
    **kwargs: Any,
) -> MapTaskDecorator: ...
