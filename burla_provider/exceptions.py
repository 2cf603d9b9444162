"""Every error class of this provider, in one tree.

Error messages contain no secrets.
"""

from __future__ import annotations


class BurlaProviderError(Exception):
    """Root of the errors that this provider raises."""


class PermanentError(BurlaProviderError):
    """Raised when a retry cannot help. The operators fail the task without further retries."""


class InvalidParameterError(PermanentError, ValueError):
    """Raised when a parameter cannot be used, before any worker starts.

    :param parameter: name of the parameter, as the user wrote it.
    :param problem: what is wrong with its value.
    :param advice: what to do, as a sentence.
    """

    def __init__(self, parameter: str, problem: str, advice: str) -> None:
        super().__init__(f"{parameter}: {problem} {advice}")
        self.parameter = parameter
        self._problem = problem
        self._advice = advice

    def of_connection(self, conn_id: str) -> InvalidParameterError:
        """Return the same error about a field of a connection."""
        return InvalidParameterError(f"connection {conn_id!r}, {self.parameter}", self._problem, self._advice)


class JobError(BurlaProviderError):
    """Raised when a job ended before every item had an outcome."""


class BurlaNotInstalledError(JobError, PermanentError):
    """Raised when the client's interpreter has no burla, or an unsupported version of it."""


class ClusterUnauthorizedError(JobError, PermanentError):
    """Raised when the cluster refused the credentials of the Burla connection."""


class ClusterUnreachableError(JobError):
    """Raised when the cluster did not respond."""


class ClusterBusyError(JobError):
    """Raised when no node was free for the job within ``queue_timeout``."""


class JobCanceledError(JobError):
    """Raised when the job was canceled from the dashboard, from the CLI, or by the end of the task."""


class JobLostError(JobError):
    """Raised when the cluster lost the job, for example with a node: the missing items may be run again."""


class RangesFailedError(BurlaProviderError):
    """Raised when more ranges (or inputs) failed than are tolerated."""


class AllFailedError(RangesFailedError, PermanentError):
    """Raised when all ranges (or inputs) failed with the same permanent error."""


class UserFunctionError(PermanentError):
    """Raised when the user's function broke a rule; the message says which rule and what to do."""


class ReturnedRowError(UserFunctionError):
    """Raised when a row that the user's function returned has other columns than the target, or an inexact value."""


class WorkerSetupError(BurlaProviderError):
    """Raised when a worker could not unpickle the function, or make its instance or an object of ``init``."""


class RangeTimeoutError(BaseException):
    """Raised when a range took longer than ``range_timeout``.

    Not an ``Exception``: ``except Exception`` in user code must not catch it.
    """


class PlanCoverageError(BurlaProviderError):
    """Raised when the planned ranges do not cover every row exactly once, which would be a bug in this package."""


class PartitionsChangedError(BurlaProviderError):
    """Raised when partitions or children were attached or detached while ranges were read."""


class SnapshotLostError(BurlaProviderError):
    """Raised when the session that held the job's snapshot has ended: no further range can be read in it."""


class ConnectionLimitError(BurlaProviderError):
    """Raised when other jobs used all available connections of the database for a long time."""


class RowCountMismatchError(PermanentError):
    """Raised when the ranges together processed more or fewer rows than the table has."""


class RowsChangedError(BurlaProviderError):
    """Raised when other sessions change rows faster than they can be computed and updated in place."""


class TooManyRejectsError(BurlaProviderError):
    """Raised when more rows were rejected than ``tolerated_rejects``."""


class PauseQueryError(BurlaProviderError):
    """Raised when the query of ``pause_while`` fails while the job runs, or does not return true or false."""


class ConcurrentRunError(BurlaProviderError):
    """Raised when another run of an incremental task processed the same rows at the same time."""


class CombineError(PermanentError):
    """Raised when the values of ranges cannot be combined."""


class RunChangedError(BurlaProviderError):
    """Raised when the parameters are not those of the run's first try, whose writes a ledger has.

    It is not permanent: without a retry, the user could only clear the task, which writes everything again.
    """


class UnfinishedRunError(BurlaProviderError):
    """Raised in place of an error that a retry cannot mend, but somebody can, if the run may have written rows.

    It is not permanent: without a retry, the user could only clear the task, which writes everything again.
    """


class WrittenResultError(BurlaProviderError):
    """Raised when all ranges were written but their results cannot be combined: a retry writes nothing again."""


class OverwriteError(PermanentError):
    """Raised when rows of an overwrite cannot be in the target, which is unchanged.

    For example, a row is outside of ``overwrite_where``, or two rows have the same key.
    """


class ExchangeError(BurlaProviderError):
    """Raised when the server does not replace the rows at the end of an overwrite. A retry repeats only this step."""


class TaskKilledError(BaseException):
    """Raised when Airflow kills the task (``on_kill``).

    Not an ``Exception``: no library between ``on_kill`` and ``execute`` may catch it.
    """


class DemoError(BurlaProviderError):
    """Raised when the demo cannot continue."""


class EmbeddedPostgresError(BurlaProviderError):
    """Raised when the demo's PostgreSQL server is not installed or cannot start."""


class ClusterNotFoundError(BurlaProviderError):
    """Raised when there is no local Burla cluster."""
