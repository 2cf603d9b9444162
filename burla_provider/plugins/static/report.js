// Show a report in the elements of index.html.

import { showDistribution } from "./distribution.js";
import { element, fillPairs, fillTable, find, setText } from "./dom.js";
import { clock, count, duration, factor, plural, roundedDuration } from "./format.js";
import { showPlan } from "./plan.js";
import { showTimeline } from "./timeline.js";

const STATES = { running: "Running", success: "Finished", failed: "Failed", paused: "Paused" };

/** Show the report. If `ended`, the task no longer runs, whatever state the report has. */
export function showReport(report, ended) {
  const noun = report.unit;
  showHeading(report, ended);
  showProgress(report, noun);
  fillPairs(find("#figures"), figures(report, ended));
  showFailures(report, noun);
  showTimeline(report, noun);
  showDistribution(report, noun);
  showSlowest(report, noun);
  showPlan(report.plan);
}

function showHeading(report, ended) {
  const state = ended && report.state === "running" ? "failed" : report.state;
  setText("#title", report.title);
  setText("#state", STATES[state] ?? state);
  find("#state").className = state;
  const started = `Started at ${clock(report.began)}`;
  setText("#when", state === "running" ? `${started}, as of ${clock(report.updated)}` : `${started}, took ${duration(report.elapsed)}`);
  showJob(report.job?.url);
}

function showJob(url) {
  const link = find("#job");
  link.hidden = !/^https?:/.test(url ?? "");
  if (link.hidden) return;
  link.href = url;
  // The page's frame cannot open windows, so Airflow's own page opens it.
  link.onclick = (event) => {
    if (parent === window) return;
    const outerLink = parent.document.createElement("a");
    Object.assign(outerLink, { href: link.href, target: "_blank", rel: "noopener noreferrer" });
    outerLink.click();
    event.preventDefault();
  };
}

function showProgress(report, noun) {
  const bar = find("#progress");
  const text = `${count(report.done)} of ${plural(report.total, noun)} done, ${count(report.failed)} failed`;
  bar.setAttribute("aria-valuemax", report.total);
  bar.setAttribute("aria-valuenow", report.done + report.failed);
  bar.setAttribute("aria-valuetext", text);
  for (const part of ["done", "failed"]) {
    bar.querySelector(`.${part}`).style.width = `${(100 * report[part]) / Math.max(report.total, 1)}%`;
  }
}

function figures(report, ended) {
  const remaining = report.total - report.done - report.failed;
  const running = report.state === "running" && !ended;
  const hasRows = report.rows !== null;
  return [
    ["Done", `${count(report.done)} of ${count(report.total)}`],
    ["Failed", report.failed ? count(report.failed) : running ? "none so far" : "none"],
    ["Remaining", remaining > 0 ? count(remaining) : null],
    ["Rows", hasRows ? count(report.rows) : null],
    ["Rows per second", hasRows ? count(report.rows_per_second) : null],
    ["Expected end", running && report.seconds_left !== null ? estimate(report) : null],
    ...pauseFigures(report, running),
    ["Retried", report.retried ? count(report.retried) : null],
    ["From an earlier try", report.resumed ? count(report.resumed) : null],
  ];
}

/** Since when the workers wait and for what, or how long they have waited. Earlier versions stored no pause. */
function pauseFigures({ pause, state }, running) {
  if (!pause) return [];
  const paused = pause.since !== null && (running || state === "paused");
  return [
    ["Paused", paused ? `since ${clock(pause.since)}, while ${pause.query}` : pause.seconds ? `${duration(pause.seconds)}, while ${pause.query}` : null],
  ];
}

function estimate(report) {
  const end = report.updated + report.seconds_left;
  const seconds = end - Date.now() / 1000;
  return seconds < 1 ? "any moment" : `about ${clock(end)}, in ${roundedDuration(seconds)}`;
}

function showFailures(report, noun) {
  const { failures, failed } = report;
  find("#failures").hidden = failures.length === 0;
  setText("#failures-title", `${plural(failed, noun)} failed`);
  setText("#failures-note", failed > failures.length ? `The first ${failures.length} are shown. The log lists all of them.` : "");
  find("#failures ol").replaceChildren(...failures.map(showFailure));
}

function showFailure({ range, error, sqlstate, attempts }) {
  const facts = [sqlstate && `SQLSTATE ${sqlstate}`, plural(attempts, "attempt")];
  return element(
    "li",
    {},
    element("h3", {}, range),
    element("span", { class: "quiet" }, facts.filter(Boolean).join(", ")),
    element("pre", {}, error),
  );
}

function showSlowest(report, noun) {
  const { slowest, timeline } = report;
  find("#slowest").hidden = slowest.length === 0;
  setText("#slowest-title", `Slowest ${noun}s`);
  const longest = slowest[0]?.seconds || 1;
  const median = timeline.spread.seconds[1];
  fillTable(
    find("#slowest table"),
    [
      { title: noun, render: ({ range }) => range },
      report.rows === null ? null : { title: "Rows", numeric: true, render: ({ rows }) => count(rows) },
      { title: "Time", numeric: true, render: ({ seconds }) => timeBar(seconds, longest) },
      { title: "Compared to the median", numeric: true, render: ({ seconds }) => (median ? factor(seconds / median) : "") },
    ],
    slowest,
  );
}

/** A time, and a bar whose length is proportional to it. */
function timeBar(seconds, longest) {
  const bar = element("span", { class: "bar", style: { width: `${(100 * seconds) / longest}%` }, "aria-hidden": "true" });
  return element("span", { class: "time-bar" }, bar, duration(seconds));
}
