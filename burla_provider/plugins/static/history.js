// The last runs of the task, to see whether this one is slower than usual.

import { KEY, epoch, get, instancePath, isFinished, now } from "./airflow.js";
import { element, fillTable, find, setChildren } from "./dom.js";
import { clock, count, duration, factor, plural } from "./format.js";
import { openOutside } from "./outside.js";
import { isOfEarlierTry, isUnderWay } from "./status.js";

/** Earlier runs that are shown. Each needs one request, and the list needs one. */
const MAX_RUNS = 6;
/** A run that differs less from the median took about as long. */
const USUAL = 0.1;

/** The earlier runs, latest first; null until they are read. */
let runs = null;
let isRead = false;

/** Show the runs before this one. They are read once, after the first report, and not again. */
export function showHistory(report, instance, ids) {
  if (!isRead && instance.start_date) {
    isRead = true;
    readRuns(ids, instance).then(
      (found) => {
        runs = found;
        show(report, instance, ids);
      },
      // Without permission to read other runs, there is no comparison.
      () => {},
    );
  }
  show(report, instance, ids);
}

async function readRuns(ids, instance) {
  const { dag, run, task, mapIndex } = ids;
  const query = new URLSearchParams({
    task_id: task,
    map_index: mapIndex,
    start_date_lte: instance.start_date,
    order_by: "-start_date",
    limit: MAX_RUNS + 1,
  });
  const { task_instances: instances } = await get(`/dags/${encodeURIComponent(dag)}/dagRuns/~/taskInstances?${query}`);
  const others = instances.filter((other) => other.dag_run_id !== run && other.map_index === mapIndex).slice(0, MAX_RUNS);
  return Promise.all(others.map(async (other) => runOf(other, await readFinalReport({ ...ids, run: other.dag_run_id }, other))));
}

async function readFinalReport(ids, instance) {
  if (!isFinished(instance)) return null;
  const entry = await get(`${instancePath(ids)}/xcomEntries/${KEY}?map_index=${ids.mapIndex}`).catch(() => null);
  return entry?.value ?? null;
}

function runOf(instance, report) {
  const { dag_run_id: id, start_date: start, state, duration: seconds } = instance;
  return { id, start: epoch(start), state, seconds, rows: report?.rows ?? null, rate: report?.rows_per_second ?? null };
}

function show(report, instance, ids) {
  const isShown = runs !== null && runs.length > 0 && report.status.state !== "planned" && !isOfEarlierTry(report, instance);
  find("#history").hidden = !isShown;
  if (!isShown) return;
  const current = { ...runOf(instance, report), isCurrent: true };
  if (isUnderWay(report, instance)) Object.assign(current, { seconds: Math.max(now() - current.start, 0), isOpen: true });
  if (!find("#history table")) {
    const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Earlier runs, table" }, element("table"));
    scroll.onclick = openOutside;
    find("#history").append(element("p", { id: "history-note" }), scroll);
  }
  setChildren(find("#history-note"), compare(current, runs));
  fill([current, ...runs], ids);
}

/** "1.4 times as long as the median of the last 5 successful runs (31.2 s), at 0.7 times the rows/s." */
function compare(current, earlier) {
  const successful = earlier.filter(({ state, seconds }) => state === "success" && seconds);
  if (successful.length === 0) return "No earlier run that is listed here was successful.";
  const usual = medianOf(successful.map(({ seconds }) => seconds));
  const others = successful.length === 1 ? `The last successful run took ${duration(usual)}` : `The last ${count(successful.length)} successful runs took ${duration(usual)} (median)`;
  if (current.isOpen) return `Running for ${duration(current.seconds)} so far. ${others}.`;
  if (current.state !== "success" || !current.seconds) return `${others}.`;
  const whose = successful.length === 1 ? "the last successful run" : `the median of the last ${plural(successful.length, "successful run")}`;
  const relation = current.seconds / usual;
  const length =
    Math.abs(relation - 1) < USUAL
      ? `About as long as ${whose} (${duration(usual)})`
      : `${factor(relation)} as long as ${whose} (${duration(usual)})`;
  const rates = successful.map(({ rate }) => rate).filter(Boolean);
  const speed = current.rate && rates.length > 0 ? current.rate / medianOf(rates) : null;
  if (speed === null) return `${length}.`;
  return `${length}, at ${Math.abs(speed - 1) < USUAL ? "about the same" : factor(speed) + " the"} rows/s.`;
}

function medianOf(values) {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
}

function fill(listed, ids) {
  const longest = Math.max(...listed.map(({ seconds }) => seconds ?? 0)) || 1;
  fillTable(
    find("#history table"),
    [
      { title: "Started", render: (run) => startOf(run, ids) },
      { title: "State", render: ({ state }) => stateOf(state) },
      { title: "Duration", numeric: true, render: (run) => timeBar(run, longest) },
      { title: "Rows", numeric: true, render: ({ rows }) => (rows === null ? "" : count(rows)) },
      { title: "Rows/s", numeric: true, render: ({ rate }) => (rate === null ? "" : count(rate)) },
    ],
    listed,
    ({ id }) => id,
  );
}

/** When a run started, as a link to its report. */
function startOf({ id, start, isCurrent }, { dag, task, mapIndex }) {
  if (isCurrent) return element("strong", { class: "whole" }, `${clock(start)} (this run)`);
  const [dagId, runId, taskId] = [dag, id, task].map(encodeURIComponent);
  const instance = `../dags/${dagId}/runs/${runId}/tasks/${taskId}${mapIndex < 0 ? "" : `/mapped/${mapIndex}`}`;
  return element("a", { class: "whole", href: `${instance}/plugin/ranges`, target: "_self" }, clock(start));
}

function stateOf(state) {
  return state?.replaceAll("_", " ") ?? "";
}

/** A duration, and a bar whose length is proportional to it. */
function timeBar({ seconds, isCurrent }, longest) {
  if (seconds === null) return "";
  const bar = element("span", { class: `bar${isCurrent ? "" : " other"}`, style: { width: `${(100 * seconds) / longest}%` }, "aria-hidden": "true" });
  return element("span", { class: "time-bar" }, bar, duration(seconds));
}
