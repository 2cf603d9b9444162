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
  find("#timeline").hidden = workers.length === 0;
  if (workers.length === 0) return;
  const told = timeline.kind === "bins" ? bins(timeline, workers, noun) : spans(timeline, workers, noun);
  say("#timeline-note", note(report, told.legend));
  showLanes(timeline, workers, told.marks);
  fillWorkers(timeline, workers, noun);
  fillTable(find("#spans"), told.columns, told.rows);
}

function note({ workers, worker_count: all, timeline }, legend) {
  const who = all > workers.length ? `${workers.length} of ${count(all)} workers` : several(all, "worker");
  return `${who}, ${duration(timeline.seconds)}. ${legend}`;
}

function spans(timeline, workers, noun) {
  const most = Math.max(...timeline.spans.map((span) => span[4]), 1);
  const marks = timeline.spans.map(([worker, start, seconds, item, rows, ok]) => ({
    worker,
    from: start / timeline.seconds,
    share: seconds / timeline.seconds,
    weight: rows / most,
    failed: !ok,
    text: `${noun} ${item}: ${ok ? several(rows, "row") : "failed"}, ${duration(seconds)} from ${duration(start)} on, ${workers[worker].name}`,
  }));
  const rows = timeline.spans.map(([worker, start, seconds, item, rows, ok]) => [
    String(item),
    workers[worker].name,
    duration(start),
    duration(seconds),
    ok ? count(rows) : "–",
    ok ? "done" : "failed",
  ]);
  const columns = [
    { title: noun, numeric: true },
    { title: "Worker" },
    { title: "Begins after", numeric: true },
    { title: "Time", numeric: true },
    { title: "Rows", numeric: true },
    { title: "Result" },
  ];
  return { marks, rows, columns, legend: `A bar is a ${noun}: the stronger its colour, the more rows; hatched, it failed.` };
}

function bins(timeline, workers, noun) {
  const width = timeline.seconds / timeline.bin_count;
  const most = Math.max(...timeline.bins.map((cell) => cell[2]), 1);
  const span = (bin) => `${duration(bin * width)} to ${duration((bin + 1) * width)}`;
  const marks = timeline.bins.map(([worker, bin, ended, rows, failed]) => ({
    worker,
    from: bin / timeline.bin_count,
    share: 1 / timeline.bin_count,
    weight: ended / most,
    failed: failed > 0,
    text: `${span(bin)}: ${several(ended, noun)} ended, ${several(rows, "row")}, ${count(failed)} failed, ${workers[worker].name}`,
  }));
  const rows = timeline.bins.map(([worker, bin, ended, rows, failed]) => [
    workers[worker].name,
    span(bin),
    count(ended),
    count(rows),
    count(failed),
  ]);
  const columns = [
    { title: "Worker" },
    { title: "Time" },
    { title: "Ended", numeric: true },
    { title: "Rows", numeric: true },
    { title: "Failed", numeric: true },
  ];
  return { marks, rows, columns, legend: `A cell is a stretch of time: the stronger its colour, the more ${noun}s ended in it; hatched, one failed.` };
}

function showLanes(timeline, workers, marks) {
  const lanes = workers.map((worker) =>
    element(
      "div",
      { class: "lane" },
      element("span", { class: "name", title: worker.name }, worker.name),
      element("div", { class: "track" }),
      element("span", { class: "sum" }, count(worker.rows)),
    ),
  );
  for (const mark of marks) lanes[mark.worker].querySelector(".track").append(bar(mark));
  const place = find("#timeline .lanes");
  place.classList.toggle("dense", workers.length > DENSE);
  place.replaceChildren(...lanes, axis(timeline.seconds));
  place.onpointerover = (event) => say("#timeline .readout", event.target.dataset.text ?? "");
}

function bar({ from, share, weight, failed, text }) {
  const style = { left: `${100 * from}%`, "--share": `${100 * share}%`, "--weight": weight.toFixed(3) };
  return element("div", { class: failed ? "bar failed" : "bar", style, "data-text": text });
}

function axis(seconds) {
  const step = STEPS.find((candidate) => seconds / candidate <= TICKS) ?? seconds / TICKS;
  const times = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, number) => number * step);
  const ticks = times.map((at) => element("span", { style: { left: `${(100 * at) / seconds}%` } }, tick(at)));
  return element(
    "div",
    { class: "lane axis" },
    element("span", { class: "name" }),
    element("div", { class: "track" }, ...ticks),
    element("span", { class: "sum" }, "rows"),
  );
}

/** A round time: "20 s", "5 min". */
function tick(seconds) {
  return seconds < 60 ? `${Number(seconds.toFixed(2))} s` : duration(seconds);
}

function fillWorkers(timeline, workers, noun) {
  const columns = [
    { title: "Worker" },
    { title: `${noun}s`, numeric: true },
    { title: "Rows", numeric: true },
    { title: "At work", numeric: true },
    { title: "Of the time", numeric: true },
  ];
  const rows = workers.map(({ name, ranges, rows, seconds }) => [
    name,
    count(ranges),
    count(rows),
    duration(seconds),
    timeline.seconds ? percent(Math.min(seconds / timeline.seconds, 1)) : "",
  ]);
  fillTable(find("#workers"), columns, rows);
}
