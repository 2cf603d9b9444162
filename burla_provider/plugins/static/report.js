// Show a report in the elements of index.html.

import { showActivity } from "./activity.js";
import { isFinished, now } from "./airflow.js";
import { showBudget } from "./budget.js";
import { showDistribution } from "./distribution.js";
import { element, fillPairs, fillTable, find, setChildren, setText } from "./dom.js";
import { VERSION } from "./earlier.js";
import { showFailures } from "./failures.js";
import { clock, count, duration, percent, plural, roundedClock, roundedDuration } from "./format.js";
import { showHistory } from "./history.js";
import { awaitedItem, expectedEnd, showInFlight } from "./in_flight.js";
import { openOutside } from "./outside.js";
import { showPlan } from "./plan.js";
import { showResult } from "./result.js";
import { showSlowest } from "./slowest.js";
import { describeStatus, isUnderWay } from "./status.js";
import { showTimeline } from "./timeline.js";

const PARTS = { trial: "trial", rest: "rest", again: "after a loss" };

/**
 * Show the report of a task instance. If a section cannot be shown, show the others, and raise its error. Reports of a
 * newer version may have other shapes, which is no error.
 */
export function showReport(report, instance, ids) {
  const underWay = isUnderWay(report, instance);
  const sections = [
    () => showHeading(report, instance, underWay),
    () => showProgress(report, underWay),
    () => fillPairs(find("#figures"), figures(report, underWay)),
    () => showAdvice(report),
    () => showFailures(report),
    () => showInFlight(report, underWay),
    () => showResult(report),
    () => showTimeline(report),
    () => showActivity(report),
    () => showDistribution(report),
    () => showSlowest(report),
    () => showBudget(report, instance),
    () => showHistory(report, instance, ids),
    () => showPlaces(report),
    () => showTries(report),
    () => showPlan(report),
    () => placePlan(report),
  ];
  const errors = sections.flatMap(errorOf);
  if (errors.length > 0 && report.version <= VERSION) throw errors[0];
}

function errorOf(show) {
  try {
    show();
    return [];
  } catch (error) {
    return [error];
  }
}

function showHeading(report, instance, underWay) {
  const { label, kind, sentence, details } = describeStatus(report, instance);
  setText("#title", report.title);
  setText("#state", label);
  find("#state").className = `badge ${kind}`;
  setText("#try", report.try && report.try.count > 1 ? `try ${report.try.number} of ${report.try.count}` : "");
  setText("#sentence", sentence);
  setText("#reason", details);
  find("#reason").hidden = details === "";
  const started = `Started at ${clock(report.began)}`;
  const took = duration((isFinished(instance) && instance.duration) || report.elapsed);
  setText("#when", underWay ? `${started}, as of ${clock(report.updated)}` : `${started}, took ${took}`);
  setChildren(find("#jobs"), ...report.jobs.filter(({ url }) => /^https?:/.test(url ?? "")).map((job) => jobLink(job, report)));
  find("#jobs").onclick = openOutside;
}

function jobLink({ id, url, part, items }, { jobs, unit }) {
  const facts = [PARTS[part], jobs.length > 1 && items ? plural(items, unit) : ""].filter(Boolean).join(", ");
  return element(
    "a",
    { "data-key": id, href: url, target: "_blank", rel: "noopener noreferrer" },
    jobs.length > 1 || facts ? `Burla job${facts ? ` (${facts})` : ""} ` : "Open the Burla job ",
    element("span", { "aria-hidden": "true" }, "↗"),
  );
}

function showProgress(report, underWay) {
  const bar = find("#progress");
  const { total, done, failed, unit } = report;
  bar.hidden = total === 0 || report.status.state === "planned";
  const working = underWay ? Math.min(report.in_flight.count, total - done - failed) : 0;
  bar.setAttribute("aria-valuemax", total);
  bar.setAttribute("aria-valuenow", done + failed);
  bar.setAttribute("aria-valuetext", `${count(done)} of ${plural(total, unit)} done, ${count(failed)} failed`);
  for (const [part, amount] of Object.entries({ done, failed, working })) {
    const segment = bar.querySelector(`.${part}`);
    segment.hidden = amount <= 0;
    segment.style.width = `${(100 * amount) / Math.max(total, 1)}%`;
  }
}

function figures(report, underWay) {
  const { total, done, failed, rows, rows_per_second: rate, utilization, retried, resumed, status } = report;
  if (total === 0 || status.state === "planned") return [];
  const failures = failed ? element("span", { class: "bad" }, count(failed)) : underWay ? "none so far" : "none";
  return [
    ["Done", `${count(done)} of ${count(total)}`],
    ["Failed", failures],
    ["Rows", rows === null ? null : count(rows)],
    ["Rows/s", rows === null || rate === null ? null : count(rate)],
    ["Expected end", underWay ? describeEnd(report) : null],
    ["Utilization", utilization === null ? null : percent(utilization)],
    ["Retried", retried ? count(retried) : null],
    ["From an earlier try", resumed ? count(resumed) : null],
    ["Paused", pauseFigure(report, underWay)],
  ];
}

/** Return when the try is expected to end, or what it waits for. */
function describeEnd(report) {
  const { state } = report.status;
  if (!["trial", "running"].includes(state) || report.done + report.failed >= report.total) return null;
  const awaited = awaitedItem(report);
  if (awaited) return `waits for ${report.unit} ${awaited.index}`;
  const end = expectedEnd(report);
  if (end === null && report.seconds_left !== null) return `later than ${clock(report.updated + report.seconds_left)}`;
  if (end === null) return state === "running" ? "not known yet" : null;
  return `about ${roundedClock(end)}, in ${roundedDuration(Math.max(end - now(), 1))}`;
}

/** Since when the workers wait and for what, or how long they have waited. The status sentence says it during a pause. */
function pauseFigure({ pause, status }, underWay) {
  if (!pause || status.state === "paused") return null;
  if (pause.since !== null && underWay) return `since ${clock(pause.since)}, while ${pause.query}`;
  return pause.seconds ? `${duration(pause.seconds)}, while ${pause.query}` : null;
}

function showAdvice({ advice }) {
  find("#advice").hidden = advice.length === 0;
  setChildren(find("#advice ul"), ...advice.map((sentence) => element("li", {}, sentence)));
}

function showPlaces({ places }) {
  find("#places").hidden = places.length === 0;
  fillPairs(find("#places dl"), places);
}

function showTries({ tries, unit }) {
  find("#tries").hidden = tries.length === 0;
  if (tries.length === 0) return;
  fillTable(
    find("#tries table"),
    [
      { title: "Try", render: ({ number }) => String(number) },
      { title: "State", render: ({ state }) => state },
      { title: "Began", class: "whole", render: ({ began }) => clock(began) },
      { title: "Time", numeric: true, render: ({ seconds }) => duration(seconds) },
      { title: `${unit}s done`, numeric: true, render: ({ done }) => count(done) },
      { title: "Failed", numeric: true, render: ({ failed }) => count(failed) },
      { title: "Reason", class: "wide", render: ({ detail }) => detail },
    ],
    tries,
    ({ number }) => String(number),
  );
}

/** The plan is the last section, but the first one if there is nothing else. */
function placePlan({ status }) {
  const [plan, header] = [find("#plan"), find("#report > header")];
  if (status.state === "planned") {
    if (header.nextElementSibling !== plan) header.after(plan);
  } else if (plan.nextElementSibling !== null) {
    find("#report").append(plan);
  }
}
