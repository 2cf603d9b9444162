// How the table was split, and why that way: what the planner says of its plan.

import { element, fillPairs, find } from "./dom.js";
import { count, duration, several } from "./format.js";

export function showPlan(plan) {
  find("#plan").hidden = plan === null;
  if (plan === null) return;
  const { smallest, median, largest } = plan.rows_per_range;
  fillPairs(find("#plan dl"), [
    ["Strategy", plan.strategy],
    ["Why", plan.reason],
    ["Key", plan.key.join(", ") || "none"],
    ["Ranges", `${count(plan.ranges)}${plan.partitions ? ` in ${several(plan.partitions, "partition")}` : ""}`],
    ["Expected rows", `${count(plan.expected_rows)}; a range ${count(smallest)} to ${count(largest)}, median ${count(median)}`],
    ["From", plan.lower],
    ["To before", plan.upper],
    ["First", lines(plan.first)],
    ["Last", lines(plan.last)],
    ["Made in", `${duration(plan.seconds)}, ${plan.queries === 1 ? "1 query" : `${count(plan.queries)} queries`}`],
    ["To be faster", lines(plan.hints)],
  ]);
}

function lines(texts) {
  if (texts.length === 0) return null;
  return element("ul", {}, ...texts.map((text) => element("li", {}, text)));
}
