// Messages for the cases in which there is no report, or a report that may mislead.

import { RequestError, isFinished } from "./airflow.js";
import { clock } from "./format.js";

const NOT_STARTED = {
  null: "",
  scheduled: "It is scheduled.",
  queued: "It is queued.",
  up_for_retry: "An earlier try ended without a plan. The next try is waiting for its start time.",
};
const DID_NOT_RUN = {
  skipped: "was skipped",
  upstream_failed: "did not run, because an upstream task failed",
  removed: "is no longer in the DAG",
};

/** Return the reason why there is no report. */
export function noReportMessage(instance, version) {
  if (instance === null) return "This task instance does not exist. It may have been deleted.";
  if (instance.state in DID_NOT_RUN) return `This task ${DID_NOT_RUN[instance.state]}, so there is no report.`;
  if (!/burla/i.test(instance.operator_name ?? "")) {
    return `This task does not run on Burla. Its operator is ${instance.operator_name}; this page shows the progress of Burla's operators.`;
  }
  if (instance.state in NOT_STARTED) return `This task has not started yet. ${NOT_STARTED[instance.state]}`.trim();
  if (isFinished(instance)) {
    return "This task has no report. It ended before it had a plan, or it ran with an earlier version of the provider. See its log.";
  }
  if (version[0] === 3 && version[1] < 3) {
    return `Airflow ${version.join(".")} stores no report of a running task. The report appears when the task has ended. Until then, see the log for the progress.`;
  }
  return "No report yet: the task is planning. This page refreshes every few seconds.";
}

/** Return what the viewer must know about the report; an empty string if it is complete and current. */
export function reportWarning(report, instance) {
  if (report.version !== 1) {
    return "This report was written by a newer version of the provider. Parts of it may be missing until Airflow's API server uses that version too.";
  }
  if (isFinished(instance)) {
    return report.state === "running"
      ? `The task ended (${instance.state}) without a final report. This was its progress at ${clock(report.updated)}.`
      : "";
  }
  if (report.state === "paused" && instance.state === "up_for_reschedule") {
    return "The pause took too long, so the job has ended. Airflow starts the task again later, and it continues.";
  }
  if (instance.state !== "running" || report.updated < Date.parse(instance.start_date) / 1000) {
    return "This report is from an earlier try of the task. The next try has not reported yet.";
  }
  return "";
}

/** Return the message for an error while the page was refreshed. */
export function errorMessage(error) {
  if (!(error instanceof RequestError)) return `This page cannot show the report: ${error.message}. See the log.`;
  if (error.status === 0) return "Airflow does not respond. This page tries again every few seconds.";
  if (error.status === 401) return "Your Airflow session has expired. Log in again.";
  if (error.status === 403) return "You are not allowed to see this report. You need permission to read this task's instances and XComs.";
  return `Airflow returned an error (${error.message}). This page tries again every few seconds. See the log of the API server.`;
}
