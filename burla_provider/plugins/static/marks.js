// What the timeline draws: a bar per range, or a cell per worker and time interval if there are many ranges.
// A mark has a key, a lane, a begin and an end (seconds since the begin of the axis), a state and what to say about it.

import { clock, count, duration, plural } from "./format.js";
import { timesMedian } from "./spread.js";

/** Return the names of the lanes: the workers, and those that work on their first range. */
export function laneNames({ workers, in_flight: inFlight }) {
  const names = workers.map(({ name }) => name);
  const others = inFlight.listed.map(({ worker }) => worker).filter((worker) => worker && !names.includes(worker));
  return [...names, ...new Set(others)];
}

/** Return the marks of a report. `window` is the time axis. */
export function marksOf(report, window) {
  const ended = report.timeline.kind === "bins" ? cells(report, window) : bars(report, window);
  return [...ended, ...openBars(report, window)];
}

function bars(report, window) {
  const { timeline, workers, unit, rows: allRows, failures } = report;
  const offset = timeline.start - window.from;
  const median = timeline.spread.seconds[1];
  // Ranges of equal size have a medium color.
  const most = Math.max(...timeline.spans.map((span) => span[4]), 3 * timeline.spread.rows[1], 1);
  const seen = new Map();
  return timeline.spans.map(([lane, start, seconds, item, rows, ok, group]) => {
    const times = (seen.get(item) ?? 0) + 1;
    seen.set(item, times);
    const failure = ok ? null : failures.groups[group];
    const name = timeline.labels?.[item] ?? `${unit} ${item}`;
    const outcome = ok && allRows !== null ? `${plural(rows, "row")} in ${duration(seconds)}` : `${ok ? "done" : "failed"} after ${duration(seconds)}`;
    return {
      key: times > 1 ? `${item}-${times}` : String(item),
      lane,
      worker: workers[lane].name,
      from: offset + start,
      to: offset + start + seconds,
      weight: allRows === null ? 1 / 3 : rows / most,
      state: ok ? "done" : "failed",
      item,
      name,
      rows: ok && allRows !== null ? rows : null,
      seconds,
      began: timeline.start + start,
      summary: [outcome, timesMedian(seconds, median)].filter(Boolean).join(", "),
      median: timesMedian(seconds, median),
      failure,
    };
  });
}

/** Ranges in flight: bars that are open at the right. */
function openBars({ in_flight: inFlight, updated, ...report }, window) {
  const lanes = new Map(laneNames({ in_flight: inFlight, ...report }).map((name, index) => [name, index]));
  return inFlight.listed.filter(({ worker }) => lanes.has(worker)).map(({ index, item, worker, since, stage, ratio, is_slow: isSlow }) => {
    const seconds = Math.max(updated - since, 0);
    const median = timesMedian(ratio ?? 0, ratio === null ? null : 1);
    const action = stage === "isolating" ? "isolating failing rows" : "in progress";
    return {
      key: String(index),
      lane: lanes.get(worker),
      worker,
      from: since - window.from,
      to: window.seconds,
      weight: 0,
      state: isSlow ? "open slow" : "open",
      item: index,
      name: item,
      rows: null,
      seconds,
      began: since,
      summary: [`${action} for ${duration(seconds)}`, median].filter(Boolean).join(", "),
      median,
      failure: null,
      action,
    };
  });
}

function cells({ timeline, workers, unit, rows: allRows }, window) {
  const offset = timeline.start - window.from;
  const width = timeline.seconds / timeline.bin_count;
  const most = Math.max(...timeline.bins.map((bin) => bin[2]), 1);
  return timeline.bins.map(([lane, bin, ended, rows, failed]) => {
    const from = offset + bin * width;
    return {
      key: `bin-${lane}-${bin}`,
      lane,
      worker: workers[lane].name,
      from,
      to: from + width,
      weight: ended / most,
      state: failed ? "some-failed" : "done",
      share: failed / ended,
      name: `${clock(window.from + from)} to ${clock(window.from + from + width)}`,
      interval: `${duration(bin * width)} to ${duration((bin + 1) * width)}`,
      ended,
      failed,
      rows: allRows === null ? null : rows,
      began: window.from + from,
      summary: `${plural(ended, unit)} ended, ${count(failed)} failed`,
      failure: null,
    };
  });
}
