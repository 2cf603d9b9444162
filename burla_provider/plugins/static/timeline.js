// The timeline: a lane per worker with a bar per range. If there are many ranges, a cell per time interval.
// It is hidden from screen readers; the tables below have the same content.

import { element, fillTable, find, setText } from "./dom.js";
import { count, duration, percent, plural } from "./format.js";

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
const MAX_TICKS = 8;
/** Lanes are thin if there are more workers. */
const MAX_WIDE_LANES = 16;

export function showTimeline(report, noun) {
  const { timeline, workers } = report;
  const hasRows = report.rows !== null;
  find("#timeline").hidden = workers.length === 0;
  if (workers.length === 0) return;
  const build = timeline.kind === "bins" ? buildCells : buildBars;
  const { marks, legend, columns, records } = build(timeline, workers, noun, hasRows);
  setText("#timeline-note", `${describeWorkers(report)}, ${duration(timeline.seconds)}. ${legend}`);
  showLanes(timeline, workers, marks, noun, hasRows);
  fillWorkers(timeline, workers, noun, hasRows);
  fillTable(find("#spans"), columns, records);
}

function describeWorkers({ workers, worker_count: total }) {
  return total > workers.length ? `${workers.length} of ${count(total)} workers` : plural(total, "worker");
}

/** One bar and one table row per range. */
function buildBars(timeline, workers, noun, hasRows) {
  const records = timeline.spans.map(([worker, start, seconds, item, rows, ok]) => ({
    worker: workers[worker].name,
    lane: worker,
    start,
    seconds,
    item,
    rows,
    result: ok ? "done" : "failed",
  }));
  const maxRows = Math.max(...records.map(({ rows }) => rows), 1);
  const rowText = ({ result, rows }) => (result === "done" && hasRows ? `${plural(rows, "row")} in ` : "");
  const marks = records.map((record) => ({
    lane: record.lane,
    from: record.start / timeline.seconds,
    share: record.seconds / timeline.seconds,
    weight: hasRows ? record.rows / maxRows : 1,
    failed: record.result === "failed",
    text: `${noun} ${record.item} ${record.result}: ${rowText(record)}${duration(record.seconds)}, started after ${duration(record.start)}, worker ${record.worker}`,
  }));
  const columns = [
    { title: noun, numeric: true, render: ({ item }) => String(item) },
    { title: "Worker", render: ({ worker }) => worker },
    { title: "Started after", numeric: true, render: ({ start }) => duration(start) },
    { title: "Time", numeric: true, render: ({ seconds }) => duration(seconds) },
    hasRows ? { title: "Rows", numeric: true, render: ({ rows }) => count(rows) } : null,
    { title: "Result", render: ({ result }) => result },
  ];
  const color = hasRows ? " A stronger color means more rows." : "";
  return { marks, records, columns, legend: `Each bar is one ${noun}.${color} Hatched bars failed.` };
}

/** One cell and one table row per worker and time interval. */
function buildCells(timeline, workers, noun, hasRows) {
  const width = timeline.seconds / timeline.bin_count;
  const records = timeline.bins.map(([worker, bin, ended, rows, failed]) => ({
    worker: workers[worker].name,
    lane: worker,
    bin,
    interval: `${duration(bin * width)} to ${duration((bin + 1) * width)}`,
    ended,
    rows,
    failed,
  }));
  const maxEnded = Math.max(...records.map(({ ended }) => ended), 1);
  const marks = records.map((record) => ({
    lane: record.lane,
    from: record.bin / timeline.bin_count,
    share: 1 / timeline.bin_count,
    weight: record.ended / maxEnded,
    failed: record.failed > 0,
    text: `${record.interval}: ${plural(record.ended, noun)} ended, ${count(record.failed)} failed, worker ${record.worker}`,
  }));
  const columns = [
    { title: "Worker", render: ({ worker }) => worker },
    { title: "Time", render: ({ interval }) => interval },
    { title: "Ended", numeric: true, render: ({ ended }) => count(ended) },
    hasRows ? { title: "Rows", numeric: true, render: ({ rows }) => count(rows) } : null,
    { title: "Failed", numeric: true, render: ({ failed }) => count(failed) },
  ];
  const legend = `Each cell is a time interval. A stronger color means that more ${noun}s ended in it. In hatched cells at least one failed.`;
  return { marks, records, columns, legend };
}

function showLanes(timeline, workers, marks, noun, hasRows) {
  const lanes = workers.map((worker) =>
    element(
      "div",
      { class: "lane" },
      element("span", { class: "name", title: worker.name }, worker.name),
      element("div", { class: "track" }),
      element("span", { class: "sum" }, count(hasRows ? worker.rows : worker.ranges)),
    ),
  );
  for (const mark of marks) lanes[mark.lane].querySelector(".track").append(bar(mark));
  const container = find("#timeline .lanes");
  container.classList.toggle("dense", workers.length > MAX_WIDE_LANES);
  container.replaceChildren(...lanes, axis(timeline.seconds, hasRows ? "rows" : `${noun}s`));
  container.onpointerover = (event) => setText("#timeline .readout", event.target.dataset.text ?? "");
}

function bar({ from, share, weight, failed, text }) {
  const style = { left: `${100 * from}%`, "--share": `${100 * share}%`, "--weight": weight.toFixed(3) };
  return element("div", { class: failed ? "bar failed" : "bar", style, "data-text": text });
}

function axis(seconds, sumTitle) {
  const step = STEPS.find((candidate) => seconds / candidate <= MAX_TICKS) ?? seconds / MAX_TICKS;
  const times = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => index * step);
  const ticks = times.map((time) => element("span", { style: { left: `${(100 * time) / seconds}%` } }, tickLabel(time)));
  return element(
    "div",
    { class: "lane axis" },
    element("span", { class: "name" }),
    element("div", { class: "track" }, ...ticks),
    element("span", { class: "sum" }, sumTitle),
  );
}

/** A round time: "20 s", "5 min". */
function tickLabel(seconds) {
  return seconds < 60 ? `${Number(seconds.toFixed(2))} s` : duration(seconds);
}

function fillWorkers(timeline, workers, noun, hasRows) {
  const columns = [
    { title: "Worker", render: ({ name }) => name },
    { title: `${noun}s`, numeric: true, render: ({ ranges }) => count(ranges) },
    hasRows ? { title: "Rows", numeric: true, render: ({ rows }) => count(rows) } : null,
    { title: "Busy time", numeric: true, render: ({ seconds }) => duration(seconds) },
    { title: "Utilization", numeric: true, render: ({ seconds }) => percent(Math.min(seconds / timeline.seconds, 1)) },
  ];
  fillTable(find("#workers"), columns, workers);
}
