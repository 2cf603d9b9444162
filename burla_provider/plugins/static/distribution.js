// How much the ranges differ: one strip for their rows and one for their times, from 0 to the maximum.

import { element, find, setText } from "./dom.js";
import { count, duration, factor } from "./format.js";

/** Up to this ratio of maximum to median, ranges count as equal. */
const EVEN = 1.5;
const QUANTILES = ["Minimum", "Median", "95th percentile", "Maximum"];

export function showDistribution(report, noun) {
  const { rows, seconds } = report.timeline.spread;
  const done = (report.timeline.spans ?? []).filter((span) => span[5]);
  find("#distribution").hidden = report.done - report.resumed < 2;
  if (find("#distribution").hidden) return;
  setText("#distribution-title", `Distribution of the ${noun}s`);
  setText("#distribution-note", summarize(rows, seconds, noun));
  const strips = [strip(`Time per ${noun}`, seconds, done.map((span) => span[2]), duration)];
  if (rows[3] > 0) strips.unshift(strip(`Rows per ${noun}`, rows, done.map((span) => span[4]), count));
  find("#distribution .strips").replaceChildren(...strips);
}

function summarize(rows, seconds, noun) {
  const [rowRatio, timeRatio] = [rows, seconds].map(([, median, , maximum]) => (median ? maximum / median : null));
  const sentences = [];
  if (rowRatio) {
    sentences.push(
      rowRatio < EVEN
        ? `All ${noun}s have about the same number of rows.`
        : `The largest ${noun} has ${factor(rowRatio)} as many rows as the median.`,
    );
  }
  if (timeRatio) {
    sentences.push(
      timeRatio < EVEN
        ? `All ${noun}s took about the same time.`
        : `The slowest ${noun} took ${factor(timeRatio)} as long as the median.`,
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
    {},
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
      ...quantiles.map((value, index) =>
        element("div", {}, element("dt", {}, QUANTILES[index]), element("dd", {}, format(value))),
      ),
    ),
  );
}
