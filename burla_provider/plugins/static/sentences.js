// What the page says where it has no report to show, or one that is not the whole truth.

import { Refused, isFinished } from "./airflow.js";
import { clock } from "./format.js";

const NOT_STARTED = {
  null: "",
  scheduled: "It is scheduled.",
  queued: "It is queued.",
  up_for_retry: "An earlier try ended before it had a plan, and the next one waits for its time.",
};
const NEVER_RAN = { skipped: "was skipped", upstream_failed: "did not run, because a task before it failed", removed: "is no longer in the DAG" };

/** Why nothing can be shown. */
export function whyNothing(instance, version) {
  if (instance === null) return "Airflow knows no such task instance. It may have been deleted.";
  if (instance.state in NEVER_RAN) return `This task ${NEVER_RAN[instance.state]}, so there is nothing to report.`;
  if (!/burla/i.test(instance.operator_name ?? "")) {
    return `This task does not run on Burla (it is a ${instance.operator_name}). Burla's operators tell here how their ranges go.`;
  }
  if (instance.state in NOT_STARTED) return `This task has not started yet. ${NOT_STARTED[instance.state]}`.trim();
  if (isFinished(instance)) {
    return "This task left no report: it ended before it had a plan, or it ran with an earlier version of the provider. Its log tells more.";
  }
  if (version[0] === 3 && version[1] < 3) {
    return `Airflow ${version.join(".")} keeps no report of a running task: it will be here when the task has ended. Until then, the log shows the progress.`;
  }
  return "No report yet: the task is making its plan. This page looks again every few seconds.";
}

/** What has to be known of a report beside what it says itself; empty where it is simply true. */
export function caveat(report, instance) {
  if (report.version !== 1) {
    return "A newer version of the provider wrote this report: some of it may be missing here until Airflow's API server has that version too.";
  }
  if (isFinished(instance)) {
    return report.state === "running"
      ? `The task ended (${instance.state}) without a last word: this is how far it was at ${clock(report.updated)}.`
      : "";
  }
  if (instance.state !== "running" || report.updated < Date.parse(instance.start_date) / 1000) {
    return "This is how far an earlier try of the task was; the next one has not reported yet.";
  }
  return "";
}

/** Why Airflow did not answer as asked. */
export function whyNot(error) {
  if (!(error instanceof Refused)) return `This page cannot show the report (${error.message}). The log has it all.`;
  if (error.status === 0) return "Airflow does not answer. This page keeps trying.";
  if (error.status === 401) return "Your session in Airflow has ended: log in again.";
  if (error.status === 403) return "You may not see this: it takes the permission to read this task's instances and XComs.";
  return `Airflow answered with an error (${error.message}). This page keeps trying; the API server's log tells more.`;
}
