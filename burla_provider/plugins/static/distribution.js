// How much the ranges differ: one strip for their rows and one for their times, from 0 to the maximum.

import { element, find, setChildren } from "./dom.js";
import { count, duration, factor } from "./format.js";
import { bodyOf } from "./section.js";
import { EVEN, isEven, skewOf, timesMedian } from "./spread.js";

const QUANTILES = ["min", "median", "95th percentile", "max"];

export function showDistribution(report) {
  const { timeline, unit } = report;
  find("#distribution").hidden = report.done - report.resumed < 2 || !timeline;
  if (find("#distribution").hidden) return;
  const { rows, seconds } = timeline.spread;
  const done = (timeline.spans ?? []).filter((span) => span[5]);
  const hasRows = report.rows !== null && rows[3] > 0;
  const strips = isEven(report)
    ? []
    : [
        hasRows ? strip(`Rows per ${unit}`, rows, done.map((span) => span[4]), count) : null,
        strip(`Time per ${unit}`, seconds, done.map((span) => span[2]), duration),
      ];
  setChildren(
    bodyOf("#distribution"),
    element("p", { id: "distribution-note", "data-key": "note" }, summarize(report, hasRows)),
    element("div", { class: "strips", "data-key": "strips" }, ...strips),
  );
}

function summarize(report, hasRows) {
  const { unit, timeline } = report;
  const { rows, seconds } = timeline.spread;
  const [rowSkew, timeSkew] = [hasRows ? skewOf(rows) : null, skewOf(seconds)];
  if (isEven(report)) {
    const size = hasRows ? `the largest ${unit} has ${timesMedian(rows[3], rows[1])} rows, ` : "";
    return `Balanced: ${size}the slowest ${hasRows ? "took" : `${unit} took`} ${timesMedian(seconds[3], seconds[1]) ?? "as long as the others"} (${duration(seconds[3])}).`;
  }
  const sentences = [];
  if (rowSkew) {
    sentences.push(
      rowSkew < EVEN
        ? `All ${unit}s have about the same number of rows.`
        : `The largest ${unit} has ${factor(rowSkew)} as many rows as the median.`,
    );
  }
  if (timeSkew) {
    sentences.push(
      timeSkew < EVEN ? `All ${unit}s took about the same time.` : `The slowest ${unit} took ${factor(timeSkew)} as long as the median.`,
    );
  }
  return sentences.join(" ");
}

function strip(title, quantiles, values, format) {
  const [minimum, median, percentile95, maximum] = quantiles;
  const position = (value) => `${maximum ? (100 * value) / maximum : 0}%`;
  const ticks = values.map((value) => element("i", { style: { left: position(value) } }));
  const band = { left: position(minimum), width: maximum ? `${(100 * (percentile95 - minimum)) / maximum}%` : "0%" };
  return element(
    "figure",
    { "data-key": title },
    element("figcaption", {}, title),
    element(
      "div",
      { class: "strip", "aria-hidden": "true" },
      element("span", { class: "band", style: band }),
      ...ticks,
      element("b", { style: { left: position(median) } }),
      element("b", { class: "maximum", style: { left: position(maximum) } }),
    ),
    element(
      "dl",
      {},
      ...quantiles.map((value, index) => element("div", {}, element("dt", {}, QUANTILES[index]), element("dd", {}, format(value)))),
    ),
  );
}
