// Messages for the cases in which there is no report, or a report that may mislead.

import { RequestError, isFinished, now } from "./airflow.js";
import { VERSION } from "./earlier.js";
import { clock, roundedDuration } from "./format.js";
import { isOfEarlierTry, isUnderWay } from "./status.js";

const NOT_STARTED = {
  null: "",
  scheduled: "It is scheduled.",
  queued: "It is queued.",
  restarting: "Airflow restarts it.",
  up_for_retry: "An earlier try was killed before it could store a report. The next try is waiting for its start time.",
  up_for_reschedule: "It is waiting for its start time.",
};
const DID_NOT_RUN = {
  skipped: "was skipped",
  upstream_failed: "did not run, because an upstream task failed",
  removed: "is no longer in the DAG",
};
/** A running task stores its report every few seconds, unless a query takes longer. */
const SILENT_SECONDS = 120;
/** States of a report that was successful, and what Airflow should show then. */
const SUCCESSFUL = ["success", "planned", "incomplete"];

/** Return the reason why there is no report. */
export function noReportMessage(instance, version) {
  if (instance === null) return "This task instance does not exist. It may have been deleted.";
  if (instance.state in DID_NOT_RUN) return `This task ${DID_NOT_RUN[instance.state]}, so there is no report.`;
  if (!/burla/i.test(instance.operator_name ?? "")) {
    // It may be a user's subclass.
    return `This task has no report. Its operator is ${instance.operator_name}, and this page shows the progress of Burla's operators.`;
  }
  if (instance.state in NOT_STARTED) return `This task has not started yet. ${NOT_STARTED[instance.state]}`.trim();
  if (isFinished(instance)) {
    return instance.start_date
      ? "This task has no report. It was killed before it could store one, its parameters were refused, or it ran with an earlier version of the provider. See its log."
      : "This task has no report, because it never started. Its state was set by hand, or Airflow could not start it.";
  }
  if (version[0] === 3 && version[1] < 3) {
    return `Airflow ${version.join(".")} stores no report of a running task. The report appears when the task has ended. Until then, see the log for the progress.`;
  }
  return "No report yet: the task is starting. This page refreshes every few seconds.";
}

/** Return what the viewer must know about the report; an empty string if it is complete and current. */
export function reportWarning(report, instance) {
  const { state } = report.status;
  if (report.version > VERSION) {
    return "This report was written by a newer version of the provider. Parts of it may be missing until Airflow's API server uses that version too.";
  }
  if (isOfEarlierTry(report, instance)) {
    return `This report is from ${report.try ? `try ${report.try.number}` : "an earlier try"} of the task. The next try has not reported yet.`;
  }
  const silent = now() - report.updated;
  if (isUnderWay(report, instance) && silent > SILENT_SECONDS) {
    return `The task has stored no report since ${clock(report.updated)} (${roundedDuration(silent)}). It may have been killed, or it cannot reach Airflow's API server. See its log.`;
  }
  if (instance.state === "failed" && SUCCESSFUL.includes(state)) {
    return "Airflow shows this task as failed, although the job was successful: it failed after the job, or its state was set by hand. See its log.";
  }
  if (instance.state === "success" && state === "failed") {
    return "Airflow shows this task as successful, although the job failed: its state was set by hand.";
  }
  if (report.version < VERSION) {
    return "This report was written by an earlier version of the provider. It has fewer parts than reports of this version.";
  }
  return "";
}

/** Return the message for an error while the page was refreshed. */
export function errorMessage(error) {
  if (!(error instanceof RequestError)) return `This page cannot show a part of the report: ${error.message}. See the log.`;
  if (error.status === 0) return "Airflow does not respond. This page tries again every few seconds.";
  if (error.status === 401) return "Your Airflow session has expired. Log in again.";
  if (error.status === 403) return "You are not allowed to see this report. You need permission to read this task's instances and XComs.";
  return `Airflow returned an error (${error.message}). This page tries again every few seconds. See the log of the API server.`;
}
