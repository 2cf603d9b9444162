// The slowest ranges.

import { element, fillTable, find, setText } from "./dom.js";
import { count, duration, factor } from "./format.js";

export function showSlowest(report, noun) {
  const { slowest, timeline } = report;
  find("#slowest").hidden = slowest.length === 0;
  setText("#slowest-title", `Slowest ${noun}s`);
  const longest = slowest[0]?.seconds || 1;
  const median = timeline.spread.seconds[1];
  fillTable(
    find("#slowest table"),
    [
      { title: noun, render: ({ item }) => item },
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
