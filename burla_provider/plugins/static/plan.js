// The plan: how the table was split, and why.

import { element, fillPairs, find } from "./dom.js";
import { count, duration, plural } from "./format.js";

export function showPlan(plan) {
  find("#plan").hidden = plan === null;
  if (plan === null) return;
  const { smallest, median, largest } = plan.rows_per_range;
  fillPairs(find("#plan dl"), [
    ["Strategy", plan.strategy],
    ["Reason", plan.reason],
    ["Key", plan.key.join(", ") || "none"],
    ["Ranges", `${count(plan.ranges)}${plan.partitions ? ` in ${plural(plan.partitions, "partition")}` : ""}`],
    ["Expected rows", `${count(plan.expected_rows)}; per range ${count(smallest)} to ${count(largest)}, median ${count(median)}`],
    ["Lower bound (inclusive)", plan.lower],
    ["Upper bound (exclusive)", plan.upper],
    ["First ranges", list(plan.first)],
    ["Last ranges", list(plan.last)],
    ["Planned in", `${duration(plan.seconds)}, ${plan.queries === 1 ? "1 query" : `${count(plan.queries)} queries`}`],
    ["Hints", list(plan.hints)],
  ]);
}

function list(texts) {
  if (texts.length === 0) return null;
  return element("ul", {}, ...texts.map((text) => element("li", {}, text)));
}
