// The timeline: a lane per worker with a bar per range. Hovering over a bar names its range, a click pins it.
// The lanes are one list box: one tab stop, arrow keys choose a bar, Enter pins it, Escape unpins it.

import { element, fillTable, find, setChildren, setText } from "./dom.js";
import { clock, count, duration, percent, plural } from "./format.js";
import { laneNames, marksOf } from "./marks.js";
import { showPin } from "./pin.js";
import { axisLane, overlay, partsLane, share, timeWindow } from "./time_axis.js";
import { hideTip, showTip } from "./tip.js";

/** Lanes are thin if there are more workers. */
const MAX_WIDE_LANES = 16;
const MOVES = {
  ArrowLeft: (marks, from) => beside(marks, from, -1),
  ArrowRight: (marks, from) => beside(marks, from, 1),
  ArrowUp: (marks, from) => above(marks, from, -1),
  ArrowDown: (marks, from) => above(marks, from, 1),
  Home: (marks, from) => marks.filter(({ lane }) => lane === from.lane)[0],
  End: (marks, from) => marks.filter(({ lane }) => lane === from.lane).at(-1),
};

let report = null;
let marks = [];
let active = null;
/** The pinned mark as it was last seen, so that it stays if the report no longer lists it. */
let pinned = null;

export function showTimeline(newReport) {
  const isNewTry = report !== null && report.try?.number !== newReport.try?.number;
  report = newReport;
  const names = report.timeline === null ? [] : laneNames(report);
  find("#timeline").hidden = names.length === 0;
  if (names.length === 0) return;
  build();
  const window = timeWindow(report);
  marks = marksOf(report, window).sort((one, other) => one.lane - other.lane || one.from - other.from);
  if (isNewTry) pinned = active = null;
  if (pinned !== null) pinned = marks.find((mark) => isSame(mark, pinned)) ?? pinned;
  if (active !== null) active = marks.find((mark) => isSame(mark, active)) ?? null;
  setText("#timeline-note", describe(names, window));
  drawLanes(names, window);
  showPin(pinned, report, unpin);
  fillTables();
}

/** Create the parts of the section once. */
function build() {
  const section = find("#timeline");
  if (section.querySelector("[role=listbox]")) return;
  const lanes = element("div", { class: "lanes", role: "listbox", tabindex: "0", "aria-labelledby": "timeline-title", "aria-describedby": "timeline-note" });
  const details = element(
    "details",
    {},
    element("summary", {}, "Timeline as tables"),
    ...["workers", "spans"].map((id) =>
      element(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": id === "workers" ? "Workers, table" : "Timeline, table" },
        element("table", { id }),
      ),
    ),
  );
  section.replaceChildren(find("#timeline-title"), element("p", { id: "timeline-note", class: "quiet" }), lanes, element("div", { class: "pin" }), details);
  details.addEventListener("toggle", fillTables);
  lanes.addEventListener("pointerover", ({ target }) => point(markOf(target)));
  lanes.addEventListener("pointerleave", () => point(null));
  lanes.addEventListener("click", ({ target }) => toggle(markOf(target)));
  lanes.addEventListener("keydown", onKey);
  lanes.addEventListener("blur", () => point(null));
  document.addEventListener("keydown", ({ key }) => key === "Escape" && unpin());
}

function describe(names, { seconds }) {
  const { worker_count: total, timeline, unit, rows } = report;
  const who = total > names.length ? `${names.length} of ${count(total)} workers` : plural(Math.max(total, names.length), "worker");
  const legend =
    timeline.kind === "bins"
      ? `Each cell is a time interval. A stronger color means that more ${unit}s ended in it. The hatched part of a cell is the share that failed.`
      : `Each bar is one ${unit}.${rows === null ? "" : " A stronger color means more rows."}${report.failed ? " Hatched bars failed." : ""}`;
  const open = report.in_flight.count ? " Outlined bars have not ended." : "";
  return `${who}, ${duration(seconds)}. ${legend}${open} Select a ${timeline.kind === "bins" ? "cell" : "bar"} for its details.`;
}

function drawLanes(names, window) {
  const { workers, unit, rows } = report;
  const tracks = names.map(() => []);
  for (const mark of marks) tracks[mark.lane].push(bar(mark, window));
  const lanes = names.map((name, index) => {
    const sum = workers[index] ? count(rows === null ? workers[index].ranges : workers[index].rows) : "";
    return element(
      "div",
      { class: "lane", role: "group", "aria-label": name || "unknown worker", "data-key": `lane-${index}` },
      element("span", { class: "name", title: name, "aria-hidden": "true" }, element("bdi", {}, name || "unknown worker")),
      element("div", { class: "track", role: "presentation" }, ...tracks[index]),
      element("span", { class: "sum", "aria-hidden": "true" }, sum),
    );
  });
  const container = find("#timeline .lanes");
  container.classList.toggle("dense", names.length > MAX_WIDE_LANES);
  setChildren(
    container,
    partsLane(report, window),
    ...lanes,
    axisLane(window, rows === null ? `${unit}s` : "rows"),
    overlay(report, window),
  );
  markActive();
}

function bar(mark, { seconds }) {
  const style = {
    left: `min(${share(mark.from, seconds)}, 100% - 2px)`,
    "--share": share(mark.to - mark.from, seconds),
    "--weight": mark.weight.toFixed(3),
    "--failures": percent(mark.share ?? 0).replace(" ", ""),
  };
  return element("div", {
    class: `bar ${mark.state}`,
    role: "option",
    id: `mark-${mark.key}`,
    "data-key": mark.key,
    "aria-selected": String(pinned !== null && isSame(mark, pinned)),
    "aria-label": [mark.name, mark.summary, mark.failure ? errorLine(mark.failure) : null].filter(Boolean).join(", "),
    style,
  });
}

function errorLine({ type, message }) {
  return `${type}: ${message.split("\n")[0]}`;
}

/** Cells have other limits at each refresh: the one that includes the same time is the same. */
function isSame(mark, { key, item, worker, began }) {
  if (item !== undefined || mark.item !== undefined) return mark.key === key;
  return mark.worker === worker && Math.abs(mark.began - began) < (mark.to - mark.from) / 2;
}

function markOf(target) {
  const { key } = target.closest("[role=option]")?.dataset ?? {};
  return key === undefined ? null : marks.find((mark) => mark.key === key);
}

/** Show what the mark is, or nothing. */
function point(mark) {
  if (mark === null) return hideTip();
  const error = mark.failure ? element("p", { class: "error" }, errorLine(mark.failure)) : null;
  showTip(
    document.getElementById(`mark-${mark.key}`),
    element("strong", {}, mark.name),
    element("p", {}, mark.summary),
    element("p", { class: "quiet" }, `${mark.worker}${mark.item === undefined ? "" : `, started at ${clock(mark.began)}`}`),
    error,
  );
}

function onKey(event) {
  const { key } = event;
  if (key === "Enter" || key === " ") {
    toggle(active);
  } else if (key in MOVES && marks.length > 0) {
    active = active === null ? (pinned && marks.find((mark) => isSame(mark, pinned))) ?? marks[0] : MOVES[key](marks, active) ?? active;
    markActive();
    point(active);
  } else {
    return;
  }
  event.preventDefault();
}

function markActive() {
  const container = find("#timeline .lanes");
  for (const old of container.querySelectorAll(".active")) old.classList.remove("active");
  if (active === null) return container.removeAttribute("aria-activedescendant");
  const id = `mark-${active.key}`;
  document.getElementById(id).classList.add("active");
  container.setAttribute("aria-activedescendant", id);
}

/** The next mark of the same lane. */
function beside(all, from, step) {
  const next = all[all.indexOf(from) + step];
  return next?.lane === from.lane ? next : null;
}

/** The mark of the next lane that is nearest in time. */
function above(all, from, step) {
  const lane = [...new Set(all.map((mark) => mark.lane))].filter((number) => Math.sign(number - from.lane) === step).at(step < 0 ? -1 : 0);
  const distance = (mark) => Math.abs(mark.from + mark.to - from.from - from.to);
  const candidates = all.filter((mark) => mark.lane === lane);
  return candidates.reduce((best, mark) => (best === null || distance(mark) < distance(best) ? mark : best), null);
}

function toggle(mark) {
  if (mark === null) return;
  pinned = pinned !== null && isSame(mark, pinned) ? null : mark;
  active = mark;
  showPinned();
}

function unpin() {
  if (pinned === null) return;
  pinned = null;
  showPinned();
}

function showPinned() {
  for (const option of find("#timeline .lanes").querySelectorAll("[role=option]")) {
    option.setAttribute("aria-selected", String(option.dataset.key === pinned?.key));
  }
  markActive();
  showPin(pinned, report, unpin);
}

/** Fill the tables if they are open. */
function fillTables() {
  if (!find("#timeline details").open) return;
  const { timeline, workers, unit, rows } = report;
  const numberOf = (title, render) => ({ title, numeric: true, render });
  fillTable(
    find("#workers"),
    [
      { title: "Worker", render: ({ name }) => whole(name) },
      numberOf(`${unit}s`, ({ ranges }) => count(ranges)),
      rows === null ? null : numberOf("Rows", (worker) => count(worker.rows)),
      numberOf("Busy time", ({ seconds }) => duration(seconds)),
      numberOf("Utilization", ({ seconds }) => percent(Math.min(seconds / timeline.seconds, 1))),
    ],
    workers,
    ({ name }) => name,
  );
  const columns =
    timeline.kind === "bins"
      ? [
          { title: "Worker", render: ({ worker }) => whole(worker) },
          { title: "Time", render: ({ interval }) => interval },
          numberOf("Ended", ({ ended }) => count(ended)),
          rows === null ? null : numberOf("Rows", (mark) => count(mark.rows)),
          numberOf("Failed", ({ failed }) => count(failed)),
        ]
      : [
          { title: unit, render: ({ name }) => name },
          { title: "Worker", render: ({ worker }) => whole(worker) },
          { title: "Started", numeric: true, render: ({ began }) => clock(began) },
          numberOf("Time", ({ seconds }) => duration(seconds)),
          rows === null ? null : numberOf("Rows", (mark) => (mark.rows === null ? "" : count(mark.rows))),
          { title: "Result", render: ({ state, action, failure }) => action ?? (failure ? errorLine(failure) : state) },
        ];
  const listed = timeline.kind === "bins" ? marks.filter(({ item }) => item === undefined) : [...marks].sort((one, other) => one.began - other.began);
  fillTable(find("#spans"), columns, listed, ({ key }) => key);
}

/** Text that is not broken into lines. */
function whole(text) {
  return element("span", { class: "whole" }, text);
}
