// How much ranges differ.

import { ratio } from "./format.js";

/** Up to this ratio of maximum to median, ranges count as equal. */
export const EVEN = 2;

/** Return the ratio of the maximum to the median; null if it is unknown. */
export function skewOf([, median, , maximum]) {
  return median ? maximum / median : null;
}

/** Whether the finished ranges have about the same size and took about the same time. */
export function isEven({ timeline }) {
  return [timeline.spread.rows, timeline.spread.seconds].every((quantiles) => (skewOf(quantiles) ?? 1) < EVEN);
}

/** "1.3 × median"; null if the median is unknown. */
export function timesMedian(value, median) {
  return median ? `${ratio(value / median)} × median` : null;
}
