"""All ways in which a job can fail on a real cluster. No process, file or busy node may be left."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from burla_provider.exceptions import (
    ClusterBusyError,
    ClusterUnauthorizedError,
    ClusterUnreachableError,
    InvalidParameterError,
    JobCanceledError,
)
from burla_provider.jobs.job import ItemSucceeded, JobOptions, JobStarted, JobWaiting, OutputLine
from burla_provider.jobs.runner import check_client, run_job, start_client
from tests.cluster.jobs.conftest import Cluster
from tests.support.waiting import wait_for
from tests.unit.jobs.running import client_of, make_job, process_group, results, run, start_task


def sleep_long(index, item):
    print("at work")
    time.sleep(600)


def started_job(cluster, **engine):
    """Start a job, and return its events, id and process group while its workers are in long calls."""
    events = run_job(make_job(sleep_long, range(4)), replace(cluster.engine, **engine))
    for event in events:
        if isinstance(event, JobStarted):
            job_id = event.job_id
        if isinstance(event, OutputLine):
            return events, job_id, client_of().pid
    raise AssertionError


def heartbeat_environ(leader):
    """Return the environment that the client sets before it starts Burla, as its child inherited it."""
    (heartbeat,) = [process for process in process_group(leader) if process.pid != leader]
    return heartbeat.environ()


def private_config(leader):
    """Return the directory of the client's credentials."""
    return Path(heartbeat_environ(leader)["XDG_CONFIG_HOME"])


@pytest.mark.parametrize(("telemetry", "value"), [(False, "True"), (True, None)])
def test_telemetry_is_off_unless_the_connection_turns_it_on(cluster, monkeypatch, telemetry, value):
    monkeypatch.setenv("DISABLE_BURLA_TELEMETRY", "False")
    events, _, leader = started_job(cluster, telemetry=telemetry)
    assert heartbeat_environ(leader).get("DISABLE_BURLA_TELEMETRY") == value
    events.close()


def test_closing_the_job_cancels_it_and_frees_the_node(cluster):
    events, job_id, leader = started_job(cluster)
    config = private_config(leader)
    assert (config / "burla" / "burla_credentials.json").exists()
    events.close()
    assert process_group(leader) == []
    assert not config.exists()
    assert cluster.job(job_id)["status"] == "canceled"
    cluster.wait_until_free()


TASK = """
    import time
    from burla_provider.jobs.job import OutputLine, JobStarted
    from burla_provider.jobs.runner import run_job
    from tests.cluster.jobs.conftest import Cluster
    from tests.unit.jobs.running import client_of, make_job

    def work(index, item):
        print("at work")
        time.sleep(600)

    for event in run_job(make_job(work, range(4)), Cluster.engine):
        if isinstance(event, JobStarted):
            job_id = event.job_id
        if isinstance(event, OutputLine):
            print(client_of().pid, job_id, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_job_is_cancelled_if_the_task_is_killed(cluster, number):
    with start_task(TASK) as task:
        leader, job_id = task.stdout.readline().split()
        members = process_group(int(leader))
        config = private_config(int(leader))
        task.send_signal(number)
        cluster.wait_until_free()
        _, alive = psutil.wait_procs(members, timeout=60)
    assert alive == []
    assert not config.exists()
    assert cluster.job(job_id)["status"] == "canceled"


def test_a_task_and_its_client_killed_together_leave_no_heartbeat(cluster):
    with start_task(TASK) as task:
        leader, _ = task.stdout.readline().split()
        members = process_group(int(leader))
        task.kill()
        os.kill(int(leader), signal.SIGKILL)
        _, alive = psutil.wait_procs(members, timeout=60)
        assert alive == []
        cluster.wait_until_free()


def test_a_container_that_is_killed_frees_the_node(cluster):
    """No process is left that could cancel the job: the task, its client and the heartbeat end at once."""
    with start_task(TASK, as_pid_1=True) as task:
        task.stdout.readline()
        wait_for(lambda: has_heartbeat(task.pid), 60)  # before the first one, a node waits for the client forever
        task.kill()
        cluster.wait_until_free(120)


def has_heartbeat(task):
    """Return whether the heartbeat process below a task is connected to a node."""
    below = psutil.Process(task).children(recursive=True)
    heartbeats = [process for process in below if any("cloudpickle.load" in word for word in process.cmdline())]
    return any(process.net_connections() for process in heartbeats)


def test_after_a_killed_client_only_missing_items_run_again(cluster):
    def work(index, item):
        time.sleep(0.5)
        return b"done"

    events = []
    for event in run_job(make_job(work, range(20)), cluster.engine):
        events.append(event)
        if isinstance(event, ItemSucceeded) and len(results(events)) == 2:
            client_of().kill()
    assert results(events) == dict.fromkeys(range(20), b"done")
    assert sum(isinstance(event, JobStarted) for event in events) == 2


def test_a_job_that_is_cancelled_on_the_cluster_raises_its_own_error(cluster):
    events, job_id, leader = started_job(cluster)
    assert cluster.cancel(job_id)
    with pytest.raises(JobCanceledError):
        list(events)
    assert process_group(leader) == []
    assert not cluster.cancel(job_id)
    cluster.wait_until_free()


def test_a_job_waits_for_a_busy_cluster(cluster):
    first, _, _ = started_job(cluster)
    with start_task(WAITING) as second:
        assert second.stdout.readline() == "waiting: AllNodesBusy: All nodes are busy, please try again later.\n"
        first.close()
        assert second.communicate(timeout=120)[0].strip().endswith("answered")


WAITING = """
    from burla_provider.jobs.job import ItemSucceeded, JobWaiting
    from burla_provider.jobs.runner import run_job
    from tests.cluster.jobs.conftest import Cluster
    from tests.unit.jobs.running import make_job

    def work(index, item):
        return b"second"

    for event in run_job(make_job(work, [1]), Cluster.engine):
        if isinstance(event, JobWaiting):
            print(f"waiting: {event.reason}", flush=True)
        if isinstance(event, ItemSucceeded):
            print("answered")
"""


def test_a_job_fails_if_the_cluster_stays_busy(cluster):
    events, _, _ = started_job(cluster)
    with start_task(WAITING.replace("Cluster.engine)", "Cluster.engine, queue_timeout=1)")) as second:
        said, _ = second.communicate(timeout=60)
    events.close()
    assert second.returncode == 1
    assert "answered" not in said


def test_a_busy_cluster_raises_its_own_error(cluster):
    first, _, _ = started_job(cluster)
    second = run_job(make_job(sleep_long, [1]), cluster.engine, queue_timeout=0)
    with pytest.raises(ClusterBusyError, match="All nodes are busy"):
        list(second)
    first.close()


def test_a_job_that_waits_for_a_node_can_be_closed(cluster):
    first, _, _ = started_job(cluster)
    second = run_job(make_job(sleep_long, [1]), cluster.engine, queue_timeout=60)
    waiting = next(event for event in second if isinstance(event, JobWaiting))
    assert 0 < waiting.seconds <= 60
    leaders = {child.pid for child in psutil.Process().children()}
    second.close()
    ended = leaders - {child.pid for child in psutil.Process().children()}
    assert [process_group(leader) for leader in ended] == [[]]
    first.close()


def test_two_users_at_once_do_not_disturb_each_other(cluster):
    def half_a_second(index, item):
        time.sleep(0.5)
        return b"done"

    users = ["one@example.com", "two@example.com"]
    jobs = [run_job(make_job(half_a_second, range(4)), replace(cluster.engine, email=user)) for user in users]
    seen: list[list] = [[], []]
    while len(results(seen[0])) < 4 or len(results(seen[1])) < 4:
        for events, job in zip(seen, jobs, strict=True):
            events.extend(event for event in [next(job, None)] if event is not None)
    for job in jobs:
        list(job)
    ids = [next(event.job_id for event in events if isinstance(event, JobStarted)) for events in seen]
    assert [cluster.job(job_id)["user"] for job_id in ids] == users


def test_a_wrong_token_raises_an_error_that_does_not_show_it(cluster):
    with pytest.raises(ClusterUnauthorizedError) as raised:
        run(sleep_long, [1], replace(cluster.engine, token="wrong-t0ken"))
    assert "wrong-t0ken" not in str(raised.value)
    cluster.wait_until_free()


def test_the_error_names_a_cluster_that_does_not_answer():
    with pytest.raises(ClusterUnreachableError, match="No response from http://localhost:9 "):
        run(sleep_long, [1], replace(Cluster.engine, url="http://localhost:9"))


@pytest.mark.parametrize(
    ("options", "parameter"), [(JobOptions(image="no-such:image"), "image"), (JobOptions(func_cpu=512), "func_cpu")]
)
def test_the_error_names_the_parameter_that_the_cluster_refuses(cluster, options, parameter):
    with pytest.raises(InvalidParameterError) as raised:
        list(run_job(make_job(sleep_long, [1], options=options), cluster.engine))
    assert raised.value.parameter == parameter


def test_the_error_names_a_requirement_that_no_index_has(cluster):
    pins = {"zz-no-such-package": "zz-no-such-package==1.0"}
    with pytest.raises(InvalidParameterError, match="zz-no-such-package was not found") as raised:
        list(run_job(make_job(sleep_long, [1], requirements=pins), cluster.engine))
    assert raised.value.parameter == "requirements"
    cluster.wait_until_free()


def test_no_secret_is_in_any_command_line_or_environment(cluster):
    password = "work-secret"

    def work(index, item):
        print("at work")
        time.sleep(600)
        return password.encode()

    events = run_job(make_job(work, ["item-secret"]), replace(cluster.engine, project_id="p"))
    next(event for event in events if isinstance(event, OutputLine))
    leader = client_of().pid
    members = process_group(leader)
    seen = [Path(f"/proc/{member.pid}/{file}").read_bytes() for member in members for file in ("cmdline", "environ")]
    mode = (private_config(leader) / "burla" / "burla_credentials.json").stat().st_mode & 0o777
    events.close()
    assert len(members) == 2
    assert [text for text in seen if b"secret" in text or cluster.engine.token.encode() in text] == []
    assert mode == 0o600


# A client that is started before its job is known


def test_a_client_without_a_job_starts_none_on_the_cluster(cluster):
    jobs = cluster.get("/v1/management/jobs")["total_count"]
    client = start_client(cluster.engine)
    time.sleep(2)
    check_client(client)
    client.end()
    assert process_group(client.pid) == []
    assert cluster.get("/v1/management/jobs")["total_count"] == jobs  # the last one may get the time of its end


def test_a_job_runs_in_the_client_that_was_started_before(cluster):
    client = start_client(cluster.engine)
    events = list(run_job(make_job(lambda index, item: b"done", [1]), cluster.engine, client=client))
    assert results(events) == {0: b"done"}
    assert process_group(client.pid) == []
