// The status sentence: what the task does now, or how it has ended.

import { epoch, isFinished, now } from "./airflow.js";
import { age, clock, count, duration, factor, plural, roundedClock } from "./format.js";
import { awaitedItem, expectedEnd, isIsolating } from "./in_flight.js";

const NOT_RUNNING = [null, "scheduled", "queued", "restarting"];
/** The states of a report whose try has ended. */
export const ENDINGS = ["success", "planned", "incomplete", "failed", "rescheduled"];

/** What a task was doing when it was last seen. */
const LAST_SEEN = {
  connecting: "connecting",
  planning: "planning",
  waiting: "waiting for a node",
  trial: "in the trial",
  running: "running",
  paused: "paused",
  combining: "combining the results",
};

/** From this ratio on, the sentence says how many times the median an item takes. */
const NOTABLE_RATIO = 2;

/** The beginning of an error that lists failures: "18 of 48 ranges failed". */
const COUNTED = /^\d.*\bfailed\b/;

const DESCRIPTIONS = {
  connecting: (report) => ["Connecting", "active", `Connecting since ${since(report)}.`],
  planning: (report) => ["Planning", "active", `Planning since ${since(report)}.`],
  waiting: describeWaiting,
  paused: ({ status }) => [
    "Paused",
    "waiting",
    `Paused since ${clock(status.since)}${status.detail ? ` by: ${status.detail}` : "."}`,
  ],
  trial: describeTrial,
  running: describeRunning,
  combining: () => ["Combining", "active", "Combining the results."],
  success: describeSuccess,
  planned: ({ total, unit }) => [
    "Planned",
    "neutral",
    `Planned: nothing was processed, because of plan_only. A run processes ${plural(total, unit)}.`,
  ],
  incomplete: describeIncomplete,
  failed: (report) => ["Failed", "bad", failed(report)],
  rescheduled: ({ status }) => [
    "Rescheduled",
    "waiting",
    `Rescheduled: the task has freed its slot. Airflow starts it again later, and it continues.${status.detail ? ` ${status.detail}` : ""}`,
  ],
};

/** Whether the report is from a try before the current one. */
export function isOfEarlierTry(report, instance) {
  if (isFinished(instance) || instance.state === "up_for_retry" || instance.state === "up_for_reschedule") return false;
  if (NOT_RUNNING.includes(instance.state)) return true;
  const [reported, current] = [report.try?.number, instance.try_number];
  if (reported && current && reported !== current) return reported < current;
  return report.updated < epoch(instance.start_date);
}

/** Whether the try of the report still runs, as far as Airflow knows. */
export function isUnderWay(report, instance) {
  return instance.state === "running" && !isOfEarlierTry(report, instance) && !ENDINGS.includes(report.status.state);
}

/**
 * Return `{label, kind, sentence, details}`: the text of the badge and its kind (active, waiting, good, warn, bad,
 * neutral), the sentence, and the further lines of the error if it has several and no section shows them.
 */
export function describeStatus(report, instance) {
  const [label, kind, sentence] = describe(report, instance);
  const { state, detail } = report.status;
  const isShown = state === "failed" && !listsFailures(report);
  return { label, kind, sentence, details: isShown ? detail.split("\n").slice(1).join("\n").trimEnd() : "" };
}

function describe(report, instance) {
  const { state } = report.status;
  if (instance.state === "up_for_retry") return describeRetry(report, instance);
  if (instance.state === "up_for_reschedule") return DESCRIPTIONS.rescheduled({ status: { detail: "" } });
  if (!ENDINGS.includes(state) && !isUnderWay(report, instance)) return describeLoss(report, instance);
  return DESCRIPTIONS[state]?.(report, instance) ?? [state, "neutral", ""];
}

function describeWaiting({ status }) {
  const limit = status.until === null ? ` since ${clock(status.since)}` : ` until ${roundedClock(status.until)}`;
  return ["Waiting", "waiting", `Waiting for a node${limit}${status.detail ? `: ${status.detail}` : "."}`];
}

function describeTrial({ status, done, failed, total, unit }) {
  const scope = status.detail || `${count(done)} of ${plural(total, unit)} so far`;
  return ["Trial", "active", `Trial: ${scope}${failed ? `, ${count(failed)} failed` : ""}.`];
}

function describeRunning(report) {
  const { done, failed, total, unit, in_flight: inFlight } = report;
  const progress = `${count(done)} of ${plural(total, unit)}${failed ? `, ${count(failed)} failed` : ""}`;
  const label = ["Running", "active"];
  if (total > 0 && done + failed >= total) return [...label, `Running: all ${plural(total, unit)} have ended, waiting for the end of the job.`];
  const awaited = awaitedItem(report);
  if (awaited) {
    const what = isIsolating(awaited) ? `Finding the failing rows of ${awaited.item}` : `Running: waits for ${awaited.item}`;
    const others = total - done - failed - 1;
    return [...label, `${what}${describeAge(report, awaited)}${others > 0 ? ` (and for ${plural(others, `other ${unit}`)})` : ""}.`];
  }
  const isolating = inFlight.listed.filter(isIsolating);
  const more = isolating.length > 1 ? ` and ${isolating.length - 1} more` : "";
  const search = isolating.length > 0 ? `Finding the failing rows of ${isolating[0].item}${more}.` : "";
  if (search && isolating.length === total - done - failed) return [...label, search];
  const slow = inFlight.listed.find((entry) => entry.is_slow && !isIsolating(entry));
  const end = expectedEnd(report);
  const notes = [
    `Running: ${progress}${end === null ? "" : `, expected end about ${roundedClock(end)}`}.`,
    slow ? `Slow: ${slow.item}${describeAge(report, slow)}.` : "",
    search,
  ];
  return [...label, notes.filter(Boolean).join(" ")];
}

function describeAge({ updated }, { worker, since, ratio }) {
  const place = worker ? ` on ${worker}` : "";
  return `${place}, which has been running for ${age(updated - since)}${ratio >= NOTABLE_RATIO ? `, ${factor(ratio)} the median` : ""}`;
}

function describeSuccess({ total, unit, rows, elapsed }, instance) {
  const amount = `${plural(total, unit)}${rows === null ? "" : ` with ${plural(rows, "row")}`}`;
  return ["Finished", "good", `Finished: ${amount} in ${duration(instance.duration ?? elapsed)}.`];
}

function describeIncomplete({ status, failed, total, unit }) {
  const detail = status.detail || `${count(failed)} of ${plural(total, unit)} failed and are not in the result`;
  return ["Incomplete", "warn", `Incomplete: ${detail}.`];
}

function describeRetry(report, instance) {
  const number = report.try?.number ?? instance.try_number;
  const { seconds, remaining } = report.retry ?? {};
  const ended = epoch(instance.end_date);
  const due = seconds != null && ended !== null ? ended + seconds : null;
  const facts = [
    number ? `try ${number + 1}${report.try?.count ? ` of ${report.try.count}` : ""}` : "",
    remaining ? `will process ${plural(remaining, report.unit)}` : "",
  ].filter(Boolean);
  const what = facts.length > 0 ? ` (${facts.join(", ")})` : "";
  const when =
    due === null ? "Airflow retries it later" : due < now() ? `Retry is due since ${clock(due)}` : `Retry at ${roundedClock(due)}`;
  const { state } = report.status;
  const reason =
    state === "failed" ? `failed: ${reasonOf(report)}` : `ended without a final report, last seen ${LAST_SEEN[state] ?? state} at ${clock(report.updated)}.`;
  return ["Up for retry", "waiting", `${when}${what}. Try ${number ?? ""} ${reason}`];
}

function describeLoss(report, instance) {
  const { state } = report.status;
  const sentence = `Ended without a final report (killed?): last seen ${LAST_SEEN[state] ?? state} at ${clock(report.updated)}.`;
  return instance.state === "success" ? ["Ended", "neutral", sentence] : ["Failed", "bad", sentence];
}

function since({ status, updated }) {
  return `${clock(status.since)} (${age(updated - status.since)})`;
}

/** "18 of 48 ranges failed" needs no prefix. */
function failed(report) {
  const reason = reasonOf(report);
  return COUNTED.test(reason) ? reason : `Failed: ${reason}`;
}

/** The first line of the error; version 1 stored none. */
function reasonOf(report) {
  const { status, failed, total, unit } = report;
  const [reason] = status.detail.split("\n", 1);
  if (!reason) return failed ? `${count(failed)} of ${plural(total, unit)} failed.` : "see the log.";
  return listsFailures(report) ? reason.replace(/:$/, ".") : reason;
}

/** Whether the error lists the failures, which the section of the failures shows. */
function listsFailures({ status, failures }) {
  return COUNTED.test(status.detail) && failures.groups.length > 0;
}
