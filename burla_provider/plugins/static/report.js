// One report, shown. The page's skeleton stays as it is; only what it holds is replaced.

import { element, fillPairs, fillTable, find, say } from "./dom.js";
import { clock, count, duration, roughly, several, times } from "./format.js";
import { showPlan } from "./plan.js";
import { showSpread } from "./spread.js";
import { showTimeline } from "./timeline.js";

const STATES = { running: "Running", success: "Finished", failed: "Failed" };

/** Shows the report; `ended` when the task is no longer at work, whatever the report says. */
export function showReport(report, ended) {
  const noun = report.unit;
  showHeading(report, ended);
  showProgress(report, noun);
  fillPairs(find("#figures"), figures(report, ended));
  showFailures(report, noun);
  showTimeline(report, noun);
  showSpread(report, noun);
  showSlowest(report, noun);
  showPlan(report.plan);
}

function showHeading(report, ended) {
  const state = ended && report.state === "running" ? "failed" : report.state;
  say("#title", report.title);
  say("#state", STATES[state] ?? state);
  find("#state").className = state;
  const began = `Began at ${clock(report.began)}`;
  say("#when", state === "running" ? `${began}, as of ${clock(report.updated)}` : `${began}, took ${duration(report.elapsed)}`);
  showJob(report.job?.url);
}

function showJob(url) {
  const link = find("#job");
  link.hidden = !/^https?:/.test(url ?? "");
  if (link.hidden) return;
  link.href = url;
  // Airflow's frame forbids its pages to open windows, so the page around the frame opens it.
  link.onclick = (event) => {
    if (parent === window) return;
    const outside = parent.document.createElement("a");
    Object.assign(outside, { href: link.href, target: "_blank", rel: "noopener noreferrer" });
    outside.click();
    event.preventDefault();
  };
}

function showProgress(report, noun) {
  const bar = find("#progress");
  const told = `${count(report.done)} of ${several(report.total, noun)} done, ${count(report.failed)} failed`;
  bar.setAttribute("aria-valuemax", report.total);
  bar.setAttribute("aria-valuenow", report.done + report.failed);
  bar.setAttribute("aria-valuetext", told);
  for (const part of ["done", "failed"]) {
    bar.querySelector(`.${part}`).style.width = `${(100 * report[part]) / Math.max(report.total, 1)}%`;
  }
}

function figures(report, ended) {
  const left = report.total - report.done - report.failed;
  const running = report.state === "running" && !ended;
  const hasRows = report.rows !== null;
  return [
    ["Done", `${count(report.done)} of ${count(report.total)}`],
    ["Failed", report.failed ? count(report.failed) : running ? "none so far" : "none"],
    ["Left", left > 0 ? count(left) : null],
    ["Rows", hasRows ? count(report.rows) : null],
    ["Rows a second", hasRows ? count(report.rows_per_second) : null],
    ["Ends", running && report.seconds_left !== null ? estimate(report) : null],
    ["Tried again", report.retried ? count(report.retried) : null],
    ["Kept from an earlier try", report.resumed ? count(report.resumed) : null],
  ];
}

function estimate(report) {
  const end = report.updated + report.seconds_left;
  const left = end - Date.now() / 1000;
  return left < 1 ? "any moment" : `about ${clock(end)}, in ${roughly(left)}`;
}

function showFailures(report, noun) {
  const { failures, failed } = report;
  find("#failures").hidden = failures.length === 0;
  say("#failures-title", `${several(failed, noun)} failed`);
  say("#failures-note", failed > failures.length ? `The first ${failures.length} are here; the log names them all.` : "");
  find("#failures ol").replaceChildren(...failures.map(showFailure));
}

function showFailure({ range, error, sqlstate, attempts }) {
  const facts = [sqlstate && `SQLSTATE ${sqlstate}`, `tried ${attempts === 1 ? "once" : `${count(attempts)} times`}`];
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
  say("#slowest-title", `The slowest ${noun}s`);
  const longest = slowest[0]?.seconds || 1;
  const median = timeline.spread.seconds[1];
  fillTable(
    find("#slowest table"),
    [
      { title: noun, tell: ({ range }) => range },
      report.rows === null ? null : { title: "Rows", numeric: true, tell: ({ rows }) => count(rows) },
      { title: "Time", numeric: true, tell: ({ seconds }) => measure(seconds, longest) },
      { title: "Against the median", numeric: true, tell: ({ seconds }) => (median ? times(seconds / median) : "") },
    ],
    slowest,
  );
}

/** The time, and a bar as long as its share of the longest. */
function measure(seconds, longest) {
  const bar = element("span", { class: "bar", style: { width: `${(100 * seconds) / longest}%` }, "aria-hidden": "true" });
  return element("span", { class: "measure" }, bar, duration(seconds));
}
