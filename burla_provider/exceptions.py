"""One tree of errors. Catch at the level you care about.

Every message names what was wrong and what to do about it; none carries a secret.
"""

from __future__ import annotations


class BurlaProviderError(Exception):
    """Root of everything this provider raises on purpose."""


class PermanentError(BurlaProviderError):
    """Trying again cannot help: the operators fail the task without using up its retries."""


class InvalidParameterError(PermanentError, ValueError):
    """A parameter cannot be used, known before any worker starts.

    :param parameter: its name, as the user wrote it.
    :param problem: what is wrong with its value.
    :param advice: what to do, a sentence.
    """

    def __init__(self, parameter: str, problem: str, advice: str) -> None:
        super().__init__(f"{parameter}: {problem} {advice}")
        self.parameter = parameter


class JobError(BurlaProviderError):
    """The job as a whole ended before every item had an answer."""


class BurlaNotInstalledError(JobError, PermanentError):
    """The client's interpreter has no burla, or one of a version that this provider does not know."""


class ClusterUnauthorizedError(JobError, PermanentError):
    """The cluster refused the credentials of the Burla connection."""


class ClusterUnreachableError(JobError):
    """No answer from the cluster's head."""


class ClusterBusyError(JobError):
    """No node was free for the job within ``queue_timeout``."""


class JobCanceledError(JobError):
    """Somebody cancelled the job: the dashboard, the CLI, or the end of the task."""


class JobLostError(JobError):
    """The cluster lost the job (a node or the head went away); what is missing may be run again."""


class WrittenResultError(BurlaProviderError):
    """All ranges are written, and their results cannot become the task's: a retry writes nothing again."""


class RangesFailedError(BurlaProviderError):
    """Some ranges (or inputs) failed for good while the others finished."""


class AllFailedError(RangesFailedError, PermanentError):
    """All ranges (or inputs) failed in the same way, which another try cannot mend."""


class RowCountMismatchError(PermanentError):
    """Raised when the ranges together processed more or fewer rows than the table has."""


class ConcurrentRunError(BurlaProviderError):
    """Another run of an incremental task has processed the same rows at the same time."""


class TaskKilledError(BaseException):
    """The task was told to end (``on_kill``). No ``Exception``, so that no library on the way out swallows it."""
