// Where the time of a try went: from the time it was queued to its end, as Airflow knows them.

import { epoch } from "./airflow.js";
import { element, find, setChildren } from "./dom.js";
import { duration, percent } from "./format.js";
import { bodyOf } from "./section.js";
import { ENDINGS, isOfEarlierTry, isUnderWay } from "./status.js";

/** The sentence names parts from this share of the total on. */
const LARGE = 0.1;
const LABELS = { starting: "starting the task" };
/** Parts with fewer seconds are rounding errors. */
const SHORT = 0.005;

export function showBudget(report, instance) {
  const parts = isOfEarlierTry(report, instance) ? [] : budget(report, instance);
  find("#budget").hidden = parts.length === 0;
  if (parts.length === 0) return;
  const total = parts.reduce((sum, { seconds }) => sum + seconds, 0);
  const queued = parts.find(({ name }) => name === "in the queue")?.seconds ?? 0;
  const segments = parts.map(({ name, seconds }) =>
    element("div", { "data-key": name, "data-part": name, style: { "flex-grow": String(seconds / total) }, title: `${name}: ${duration(seconds)}` }),
  );
  const rows = parts.map(({ name, seconds }) => row(name, seconds, total, { class: "swatch", "data-part": name }));
  const open = isUnderWay(report, instance) ? " so far" : "";
  const sums = [row(queued ? `Duration in Airflow${open}` : `Total${open}`, total - queued, queued ? total : 0)];
  if (queued) sums.push(row(`Total${open}`, total, total));
  setChildren(
    bodyOf("#budget"),
    element("p", { "data-key": "sentence" }, sentence(parts, total)),
    element("div", { class: "stack", "aria-hidden": "true", "data-key": "stack" }, ...segments),
    element("div", { class: "legend", "data-key": "legend" }, table(rows), table(sums, "sums")),
  );
}

/** Return `[{name, seconds}]`, in order, which adds up to the time from the queue to the end. */
export function budget(report, instance) {
  const { phases, updated, status } = report;
  const [queued, started, finished] = ["queued_when", "start_date", "end_date"].map((name) => epoch(instance[name]));
  if (phases.length === 0) return [];
  const parts = new Map();
  const add = (name, time) => time > 0 && parts.set(name, (parts.get(name) ?? 0) + time);
  const begin = phases[0].began;
  if (queued !== null && started !== null) add("in the queue", started - queued);
  if (started !== null) add(labelOf(phases[0].name), begin - started);
  let end = begin;
  for (const { name, began, seconds: time } of phases) {
    add(labelOf(name), began + time - end);
    end = Math.max(end, began + time);
  }
  if (isUnderWay(report, instance)) add(labelOf(phases.at(-1).name), updated - end);
  else add(ENDINGS.includes(status.state) ? "ending the task" : "after the last report", (finished ?? updated) - end);
  return [...parts].map(([name, time]) => ({ name, seconds: time })).filter((part) => part.seconds >= SHORT);
}

function labelOf(phase) {
  return LABELS[phase] ?? phase;
}

/** "78 % working, 12 % waiting for a node, 10 % other." */
function sentence(parts, total) {
  const large = parts.filter((part) => part.seconds >= LARGE * total).sort((one, other) => other.seconds - one.seconds);
  const rest = total - large.reduce((sum, part) => sum + part.seconds, 0);
  const texts = large.map(({ name, seconds: time }) => `${percent(time / total)} ${name}`);
  if (rest >= 0.005 * total) texts.push(`${percent(rest / total)} other`);
  return `${texts.join(", ")}.`;
}

function row(name, time, total, swatch) {
  return element(
    "tr",
    { "data-key": name },
    element("th", { scope: "row" }, swatch ? element("i", swatch) : null, name),
    element("td", { class: "numeric" }, duration(time)),
    element("td", { class: "numeric" }, total ? share(time / total) : ""),
  );
}

function share(fraction) {
  return fraction < 0.01 ? "< 1 %" : percent(fraction);
}

function table(rows, name) {
  return element("table", { class: name ?? "parts" }, element("tbody", {}, ...rows));
}
