// The time axis that the timeline and the activity charts share, so that equal times are below each other.

import { element } from "./dom.js";
import { clock, duration } from "./format.js";

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200];
/** On a narrow screen, every other label is hidden, and so is the last one if it does not fit at the right of its line. */
const MAX_TICKS = 8;
/** The parts of a narrow axis that a character and the space around a label need. */
const [CHARACTER, SPACE] = [0.036, 0.03];

/**
 * Return the begin, in seconds since the epoch, and the length of the axis. It includes all ranges; those in flight
 * last until the report was updated. The length is never 0.
 */
export function timeWindow({ timeline, activity, in_flight: { listed }, updated }) {
  const starts = [timeline.start, activity?.start, ...listed.map(({ since }) => since)].filter(Boolean);
  const from = Math.min(...(starts.length ? starts : [updated]));
  const end = Math.max(timeline.start + timeline.seconds, listed.length > 0 ? updated : 0);
  const seconds = end - from;
  return { from, seconds: seconds > 0 ? seconds : 0.001 };
}

/** Return a lane with the ticks of the axis. `sumTitle` is the heading of the column at the right. */
export function axisLane({ from, seconds }, sumTitle) {
  const ticks = tickTimes(seconds).map((time) => {
    const label = tickLabel(time);
    const isLate = time / seconds > 1 - SPACE - CHARACTER * label.length;
    return element("span", { class: isLate ? "late" : "early", style: { left: share(time, seconds) } }, label);
  });
  return element(
    "div",
    { class: "lane axis", "data-key": "axis", "aria-hidden": "true" },
    element("span", { class: "name" }, `from ${clock(from)}`),
    element("div", { class: "track" }, ...ticks),
    element("span", { class: "sum" }, sumTitle),
  );
}

/** Return what is drawn over all lanes: the ticks' lines, and the end of the trial. */
export function overlay({ timeline }, { from, seconds }) {
  const lines = tickTimes(seconds).map((time) => element("i", { style: { left: share(time, seconds) } }));
  const trial = timeline.trial_until ? timeline.trial_until - from : null;
  const line = trial === null ? null : element("b", { style: { left: share(trial, seconds) } });
  return element("div", { class: "overlay", "data-key": "overlay", "aria-hidden": "true" }, ...lines, line);
}

/** Return a lane that names the trial and the main part; null without a trial. */
export function partsLane({ timeline }, { from, seconds }) {
  if (!timeline.trial_until) return null;
  const position = share(timeline.trial_until - from, seconds);
  const track = element(
    "div",
    { class: "track" },
    element("span", { class: "before", style: { right: `calc(100% - ${position})` } }, "Trial"),
    element("span", { class: "after", style: { left: position } }, "Main part"),
  );
  return element("div", { class: "lane parts", "data-key": "parts", "aria-hidden": "true" }, element("span"), track, element("span"));
}

/** A CSS length. Times outside of the window are at its edges. */
export function share(time, seconds) {
  return `${Math.min(Math.max((100 * time) / seconds, 0), 100).toFixed(3)}%`;
}

function tickTimes(seconds) {
  const step = STEPS.find((candidate) => seconds / candidate <= MAX_TICKS) ?? seconds / MAX_TICKS;
  return Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => index * step);
}

/** A round time: "20 s", "5 min". */
function tickLabel(seconds) {
  return seconds < 60 ? `${Number(seconds.toFixed(2))} s` : duration(seconds);
}
