// Who did what, when: a lane for every worker, on it a bar for every range, or, where there are many, a cell for a
// stretch of time. For the eye only: the tables below say the same.

import { element, fillTable, find, say } from "./dom.js";
import { count, duration, percent, several } from "./format.js";

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
const TICKS = 8;
/** From so many workers on, lanes are thin. */
const DENSE = 16;

export function showTimeline(report, noun) {
  const { timeline, workers } = report;
  const hasRows = report.rows !== null;
  find("#timeline").hidden = workers.length === 0;
  if (workers.length === 0) return;
  const { marks, legend, columns, records } = (timeline.kind === "bins" ? cells : spans)(timeline, workers, noun, hasRows);
  say("#timeline-note", `${who(report)}, ${duration(timeline.seconds)}. ${legend}`);
  showLanes(timeline, workers, marks, noun, hasRows);
  fillWorkers(timeline, workers, noun, hasRows);
  fillTable(find("#spans"), columns, records);
}

function who({ workers, worker_count: all }) {
  return all > workers.length ? `${workers.length} of ${count(all)} workers` : several(all, "worker");
}

/** The ranges one by one. */
function spans(timeline, workers, noun, hasRows) {
  const records = timeline.spans.map(([worker, start, seconds, item, rows, ok]) => ({
    worker: workers[worker].name,
    lane: worker,
    start,
    seconds,
    item,
    rows,
    result: ok ? "done" : "failed",
  }));
  const most = Math.max(...records.map(({ rows }) => rows), 1);
  const rows = ({ result, rows }) => (result === "done" && hasRows ? `, ${several(rows, "row")}` : "");
  const marks = records.map((record) => ({
    lane: record.lane,
    from: record.start / timeline.seconds,
    share: record.seconds / timeline.seconds,
    weight: hasRows ? record.rows / most : 1,
    failed: record.result === "failed",
    text: `${noun} ${record.item} ${record.result}${rows(record)}, ${duration(record.seconds)} from ${duration(record.start)} on, ${record.worker}`,
  }));
  const columns = [
    { title: noun, numeric: true, tell: ({ item }) => String(item) },
    { title: "Worker", tell: ({ worker }) => worker },
    { title: "Begins after", numeric: true, tell: ({ start }) => duration(start) },
    { title: "Time", numeric: true, tell: ({ seconds }) => duration(seconds) },
    hasRows ? { title: "Rows", numeric: true, tell: ({ rows }) => count(rows) } : null,
    { title: "Result", tell: ({ result }) => result },
  ];
  const colour = hasRows ? ": the stronger its colour, the more rows" : "";
  return { marks, records, columns, legend: `A bar is a ${noun}${colour}; hatched, it failed.` };
}

/** Many ranges: what ended in each stretch of time. */
function cells(timeline, workers, noun, hasRows) {
  const width = timeline.seconds / timeline.bin_count;
  const records = timeline.bins.map(([worker, bin, ended, rows, failed]) => ({
    worker: workers[worker].name,
    lane: worker,
    bin,
    when: `${duration(bin * width)} to ${duration((bin + 1) * width)}`,
    ended,
    rows,
    failed,
  }));
  const most = Math.max(...records.map(({ ended }) => ended), 1);
  const marks = records.map((record) => ({
    lane: record.lane,
    from: record.bin / timeline.bin_count,
    share: 1 / timeline.bin_count,
    weight: record.ended / most,
    failed: record.failed > 0,
    text: `${record.when}: ${several(record.ended, noun)} ended, ${count(record.failed)} failed, ${record.worker}`,
  }));
  const columns = [
    { title: "Worker", tell: ({ worker }) => worker },
    { title: "Time", tell: ({ when }) => when },
    { title: "Ended", numeric: true, tell: ({ ended }) => count(ended) },
    hasRows ? { title: "Rows", numeric: true, tell: ({ rows }) => count(rows) } : null,
    { title: "Failed", numeric: true, tell: ({ failed }) => count(failed) },
  ];
  const legend = `A cell is a stretch of time: the stronger its colour, the more ${noun}s ended in it; hatched, one failed.`;
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
  const place = find("#timeline .lanes");
  place.classList.toggle("dense", workers.length > DENSE);
  place.replaceChildren(...lanes, axis(timeline.seconds, hasRows ? "rows" : `${noun}s`));
  place.onpointerover = (event) => say("#timeline .readout", event.target.dataset.text ?? "");
}

function bar({ from, share, weight, failed, text }) {
  const style = { left: `${100 * from}%`, "--share": `${100 * share}%`, "--weight": weight.toFixed(3) };
  return element("div", { class: failed ? "bar failed" : "bar", style, "data-text": text });
}

function axis(seconds, sum) {
  const step = STEPS.find((candidate) => seconds / candidate <= TICKS) ?? seconds / TICKS;
  const times = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, number) => number * step);
  const ticks = times.map((at) => element("span", { style: { left: `${(100 * at) / seconds}%` } }, tick(at)));
  return element(
    "div",
    { class: "lane axis" },
    element("span", { class: "name" }),
    element("div", { class: "track" }, ...ticks),
    element("span", { class: "sum" }, sum),
  );
}

/** A round time: "20 s", "5 min". */
function tick(seconds) {
  return seconds < 60 ? `${Number(seconds.toFixed(2))} s` : duration(seconds);
}

function fillWorkers(timeline, workers, noun, hasRows) {
  const columns = [
    { title: "Worker", tell: ({ name }) => name },
    { title: `${noun}s`, numeric: true, tell: ({ ranges }) => count(ranges) },
    hasRows ? { title: "Rows", numeric: true, tell: ({ rows }) => count(rows) } : null,
    { title: "At work", numeric: true, tell: ({ seconds }) => duration(seconds) },
    { title: "Of the time", numeric: true, tell: ({ seconds }) => percent(Math.min(seconds / timeline.seconds, 1)) },
  ];
  fillTable(find("#workers"), columns, workers);
}
