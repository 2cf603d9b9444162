// The slowest ranges. They are open if the ranges differ.

import { element, fillTable, find } from "./dom.js";
import { count, duration } from "./format.js";
import { isEven, timesMedian } from "./spread.js";

export function showSlowest(report) {
  const { slowest, timeline, unit } = report;
  // One range is not slower than others.
  find("#slowest").hidden = slowest.length < 2;
  if (find("#slowest").hidden) return;
  build(report);
  const median = timeline.spread.seconds[1];
  const longest = slowest[0].seconds || 1;
  fillTable(
    find("#slowest table"),
    [
      { title: unit, render: ({ item }) => item },
      { title: "Time", numeric: true, render: ({ seconds }) => timeBar(seconds, longest) },
      { title: "Compared", numeric: true, render: ({ seconds }) => timesMedian(seconds, median) ?? "" },
      report.rows === null ? null : { title: "Rows", numeric: true, render: ({ rows }) => count(rows) },
      slowest.some(({ worker }) => worker) ? { title: "Worker", render: ({ worker }) => element("span", { class: "whole" }, worker ?? "") } : null,
    ],
    slowest,
    ({ index }) => index,
  );
}

function build(report) {
  const section = find("#slowest");
  if (section.querySelector("details")) return;
  const title = find("#slowest-title");
  title.textContent = `Slowest ${report.unit}s`;
  const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Slowest ${report.unit}s, table` }, element("table"));
  const details = element("details", {}, element("summary", {}, title), scroll);
  details.open = !isEven(report);
  section.replaceChildren(details);
}

/** A time, and a bar whose length is proportional to it. */
function timeBar(seconds, longest) {
  const bar = element("span", { class: "bar", style: { width: `${(100 * seconds) / longest}%` }, "aria-hidden": "true" });
  return element("span", { class: "time-bar" }, bar, duration(seconds));
}
