// How unlike the ranges are: a strip for their rows and one for their times, from nothing to the greatest.

import { element, find, say } from "./dom.js";
import { count, duration, times } from "./format.js";

const EVEN = 1.5;
const QUANTILES = ["Least", "Median", "95 % are at most", "Greatest"];

export function showSpread(report, noun) {
  const { rows, seconds } = report.timeline.spread;
  const done = (report.timeline.spans ?? []).filter((span) => span[5]);
  find("#spread").hidden = report.done - report.resumed < 2;
  if (find("#spread").hidden) return;
  say("#spread-title", `How even the ${noun}s are`);
  say("#spread-note", verdict(rows, seconds, noun));
  const strips = [strip(`Time a ${noun}`, seconds, done.map((span) => span[2]), duration)];
  if (rows[3] > 0) strips.unshift(strip(`Rows a ${noun}`, rows, done.map((span) => span[4]), count));
  find("#spread .strips").replaceChildren(...strips);
}

function verdict(rows, seconds, noun) {
  const [ofRows, ofSeconds] = [rows, seconds].map(([, median, , most]) => (median ? most / median : null));
  const told = [];
  if (ofRows) {
    told.push(ofRows < EVEN ? `all ${noun}s have about as many rows` : `the largest ${noun} has ${times(ofRows)} the median's rows`);
  }
  if (ofSeconds) {
    told.push(ofSeconds < EVEN ? "all took about as long" : `the slowest took ${times(ofSeconds)} the median's time`);
  }
  const text = told.join(", ");
  return text && `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function strip(title, quantiles, values, tell) {
  const [least, median, most95, most] = quantiles;
  const place = (value) => `${most ? (100 * value) / most : 0}%`;
  const rug = values.map((value) => element("i", { style: { left: place(value) } }));
  const band = { left: place(least), width: most ? `${(100 * (most95 - least)) / most}%` : "0%" };
  return element(
    "figure",
    {},
    element("figcaption", {}, title),
    element(
      "div",
      { class: "strip", "aria-hidden": "true" },
      element("span", { class: "band", style: band }),
      ...rug,
      element("b", { style: { left: place(median) } }),
      element("b", { class: "most", style: { left: place(most) } }),
    ),
    element(
      "dl",
      {},
      ...quantiles.map((value, number) =>
        element("div", {}, element("dt", {}, QUANTILES[number]), element("dd", {}, tell(value))),
      ),
    ),
  );
}
