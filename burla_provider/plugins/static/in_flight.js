// The ranges that workers process at the moment.

import { now } from "./airflow.js";
import { element, fillTable, find, setText } from "./dom.js";
import { age, duration, plural, ratio } from "./format.js";

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

/**
 * Return the entry that the end of the job waits for; null if it is not known. It is a slow one, or the oldest one if
 * the estimate is used up.
 */
export function awaitedItem(report) {
  const { in_flight: inFlight, total, done, failed, resumed, updated, seconds_left: secondsLeft } = report;
  const remaining = total - done - failed;
  const { listed } = inFlight;
  if (listed.length === 0 || remaining <= 0 || remaining > inFlight.count) return null;
  const isUsedUp = secondsLeft === null ? done + failed > resumed : isOverdue(updated + secondsLeft);
  return listed.find((entry) => entry.is_slow) ?? (isUsedUp ? listed[0] : null);
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
      { title: "For", numeric: true, render: ({ since }) => age(updated - since) },
      listed.some((entry) => entry.ratio !== null) ? { title: "× median", numeric: true, render: ratioOf } : null,
      { title: "Worker", class: "whole", render: ({ worker }) => worker },
      listed.some(isIsolating) ? { title: "Stage", render: stageOf } : null,
    ],
    listed,
    ({ index }) => String(index),
  );
}

function ratioOf(entry) {
  if (entry.ratio === null) return "";
  const times = `${ratio(entry.ratio)} ×`;
  return entry.is_slow ? element("strong", { class: "bad" }, `slow: ${times}`) : times;
}

function stageOf(entry) {
  return isIsolating(entry) ? "finding the failing rows" : "processing";
}
