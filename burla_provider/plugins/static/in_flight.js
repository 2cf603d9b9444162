// The ranges that workers process at the moment.

import { now } from "./airflow.js";
import { element, fillTable, find, setText } from "./dom.js";
import { duration, plural, ratio, roundedDuration } from "./format.js";

/** Reports are some seconds old. */
const GRACE_SECONDS = 5;

/** Whether the worker searches for the rows on which the range fails. */
export function isIsolating({ stage }) {
  return stage === "isolating";
}

/** Return the expected end, seconds since the epoch; null if it is unknown or has passed. */
export function expectedEnd({ updated, seconds_left: secondsLeft }) {
  return secondsLeft === null || isOverdue(updated + secondsLeft) ? null : updated + secondsLeft;
}

/** Return the entry that the end of the job waits for: a slow one, or the oldest if the expected end has passed. Else null. */
export function awaitedItem({ in_flight: { count: running, listed }, total, done, failed, updated, seconds_left: secondsLeft }) {
  const remaining = total - done - failed;
  if (listed.length === 0 || remaining <= 0) return null;
  if (secondsLeft !== null && isOverdue(updated + secondsLeft)) return listed[0];
  return remaining <= running ? (listed.find((entry) => entry.is_slow) ?? null) : null;
}

function isOverdue(end) {
  return end < now() - GRACE_SECONDS;
}

/** Show the ranges in flight. If the try is over, these are the ranges that it did not finish. */
export function showInFlight(report, underWay) {
  const { in_flight: inFlight, unit, updated } = report;
  const { listed } = inFlight;
  find("#in-flight").hidden = listed.length === 0;
  if (listed.length === 0) return;
  setText("#in-flight-title", underWay ? "Running now" : "Not finished when the task ended");
  const shown = inFlight.count > listed.length ? `The ${listed.length} oldest of ${plural(inFlight.count, unit)}` : plural(inFlight.count, unit);
  const median = inFlight.median ? ` The median of the finished ${unit}s is ${duration(inFlight.median)}.` : "";
  setText("#in-flight-note", `${shown}.${median}`);
  fillTable(
    find("#in-flight table"),
    [
      { title: unit, class: "wide", render: ({ item }) => item },
      { title: "Worker", class: "whole", render: ({ worker }) => worker },
      { title: "For", numeric: true, render: ({ since }) => roundedDuration(Math.max(updated - since, 0)) },
      listed.some((entry) => entry.ratio !== null) ? { title: "× median", numeric: true, render: ratioOf } : null,
      listed.some(isIsolating) ? { title: "Stage", render: stageOf } : null,
    ],
    listed,
    ({ index }) => String(index),
  );
}

function ratioOf(entry) {
  if (entry.ratio === null) return "";
  return entry.is_slow ? element("strong", { class: "bad" }, `slow, ${ratio(entry.ratio)}`) : ratio(entry.ratio);
}

function stageOf(entry) {
  return isIsolating(entry) ? "finding the failing rows" : "processing";
}
