// Rows per second and busy workers over time, below the timeline and with its time axis.

import { element, find, setChildren, setText } from "./dom.js";
import { clock, count, percent, plural, withArticle } from "./format.js";
import { axisLane, overlay, partsLane, share, timeWindow } from "./time_axis.js";
import { hideTip, showTip } from "./tip.js";

/** The charts' own units; CSS gives their size. */
const [WIDTH, HEIGHT] = [1000, 100];
/** With fewer bins, there is no chart. */
const MIN_BINS = 4;

let shown = null;

export function showActivity(report) {
  const { activity, rows, unit } = report;
  find("#activity").hidden = !activity || activity.busy.length < MIN_BINS;
  if (find("#activity").hidden) return;
  build();
  const window = timeWindow(report);
  const rates = activity.rows.map((number) => number / activity.width);
  const charts = [
    rows === null ? null : { title: "Rows/s", values: rates, top: roundUp(Math.max(...rates, 1)), unit: "rows/s" },
    { title: "Busy workers", values: activity.busy, top: Math.max(workersAtOnce(report), Math.round(Math.max(...activity.busy)), 1), unit: "busy workers" },
  ].filter(Boolean);
  shown = { activity, charts, window };
  setText("#activity-note", caption(report));
  setChildren(
    find("#activity .lanes"),
    partsLane(report, window),
    ...charts.map((chart) => lane(chart, shown, unit)),
    axisLane(window, ""),
    overlay(report, window),
    element("div", { class: "cursor", "data-key": "cursor", "data-keep": "", hidden: "" }),
  );
}

function build() {
  const section = find("#activity");
  if (section.querySelector(".lanes")) return;
  const lanes = element("div", { class: "lanes charts" });
  lanes.addEventListener("pointermove", point);
  lanes.addEventListener("pointerleave", () => {
    find("#activity .cursor").hidden = true;
    hideTip();
  });
  section.append(element("p", { id: "activity-note", class: "quiet" }), lanes);
}

/** The number of workers that existed at the same time, of which the utilization is the busy share. */
function workersAtOnce({ activity, utilization }) {
  return utilization ? Math.round(meanOf(activity.busy) / utilization) : 0;
}

function meanOf(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function caption(report) {
  const { activity, utilization, unit } = report;
  if (utilization === null) return "";
  const workers = plural(workersAtOnce(report), "worker");
  const idle = utilization < 0.7 ? ` The others waited, for example for the last ${unit}s.` : "";
  return `Utilization ${percent(utilization)}: on average, ${meanOf(activity.busy).toFixed(1)} of ${workers} processed ${withArticle(unit)} while the job worked.${idle}`;
}

function lane({ title, values, top, unit }, { activity, window }) {
  const mean = meanOf(values);
  const peak = values.indexOf(Math.max(...values));
  const summary = `${title} over time: ${number(mean)} on average, at most ${number(values[peak])} at ${clock(activity.start + peak * activity.width)}`;
  const outline = steps(values, top, activity, window);
  const chart = element(
    "svg:svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": summary },
    element("svg:path", { class: "area", d: `${outline} V${HEIGHT} Z` }),
    element("svg:path", { class: "line", d: outline }),
  );
  return element(
    "div",
    { class: "lane chart", "data-key": unit },
    element("span", { class: "name" }, title),
    element("div", { class: "track" }, chart),
    element("span", { class: "sum" }, element("span", {}, number(top)), element("span", {}, "0")),
  );
}

/** The path over all bins, each with its own height, from the base line on. */
function steps(values, top, { start, width }, { from, seconds }) {
  const x = (time) => Math.min(Math.max((WIDTH * time) / seconds, 0), WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - (HEIGHT * Math.min(value, top)) / top).toFixed(1);
  const offset = start - from;
  const parts = values.map((value, bin) => `V${y(value)} H${x(offset + (bin + 1) * width)}`);
  return `M${x(offset)} ${HEIGHT} ${parts.join(" ")}`;
}

/** Show the values at the pointer. */
function point({ clientX }) {
  const { activity, charts, window } = shown;
  const place = find("#activity .chart .track").getBoundingClientRect();
  const time = ((clientX - place.left) / place.width) * window.seconds;
  const bin = Math.floor((time + window.from - activity.start) / activity.width);
  const cursor = find("#activity .cursor");
  cursor.hidden = !(bin in activity.busy) || time < 0 || time > window.seconds;
  if (cursor.hidden) return hideTip();
  cursor.style.setProperty("--at", share(time, window.seconds));
  const lines = charts.map(({ values, unit }) => element("p", {}, `${number(values[bin])} ${unit}`));
  showTip({ left: clientX, width: 0, top: place.top, bottom: place.bottom }, element("strong", {}, clock(window.from + time)), ...lines);
}

/** "7.5", and without a fraction from 10 on. */
function number(value) {
  return value < 9.95 ? String(Number(value.toFixed(1))) : count(value);
}

/** The next number with one or two digits other than 0. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((factor) => factor * power >= value) * power;
}
