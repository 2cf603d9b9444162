// The plan: how the table was split, and why. It is open if it is the result of the task.

import { element, fillPairs, find, setText } from "./dom.js";
import { count, duration, plural } from "./format.js";

export function showPlan({ plan, status }) {
  find("#plan").hidden = !plan;
  if (!plan) return;
  build(status.state === "planned" || plan.hints.length > 0);
  const { smallest, median, largest } = plan.rows_per_range;
  setText("#plan-note", `${plural(plan.ranges, "range")} by ${plan.key.join(", ") || "physical pages"}, ${plan.strategy}`);
  fillPairs(find("#plan dl"), [
    ["Hints", list(plan.hints)],
    ["Strategy", plan.strategy],
    ["Reason", plan.reason],
    ["Key", plan.key.join(", ") || "none"],
    ["Ranges", `${count(plan.ranges)}${plan.partitions ? ` in ${plural(plan.partitions, "partition")}` : ""}`],
    ["Expected rows", count(plan.expected_rows)],
    ["Rows per range", `min ${count(smallest)}, median ${count(median)}, max ${count(largest)}`],
    ["From (inclusive)", plan.lower],
    ["Up to (exclusive)", plan.upper],
    ["First ranges", list(plan.first)],
    ["Last ranges", list(plan.last)],
    ["Planned in", `${duration(plan.seconds)}, ${plan.queries === 1 ? "1 query" : `${count(plan.queries)} queries`}`],
  ]);
}

function build(isOpen) {
  const section = find("#plan");
  if (section.querySelector("details")) return;
  const summary = element("summary", {}, find("#plan-title"), element("span", { id: "plan-note", class: "quiet" }));
  const details = element("details", {}, summary, element("dl", { class: "pairs" }));
  details.open = isOpen;
  section.replaceChildren(details);
}

function list(texts) {
  if (texts.length === 0) return null;
  return element("ul", {}, ...texts.map((text) => element("li", {}, text)));
}
