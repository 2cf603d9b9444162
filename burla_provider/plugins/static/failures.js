// The failed ranges, grouped by what went wrong.

import { copyButton } from "./copy.js";
import { element, find, setChildren, setText } from "./dom.js";
import { clock, count, plural } from "./format.js";

/** With more kinds of error, those from the sixth on are one line each until they are opened. */
const MAX_OPEN = 6;

export function showFailures(report) {
  const { failures, failed, unit } = report;
  const { groups } = failures;
  find("#failures").hidden = groups.length === 0;
  if (groups.length === 0) return;
  setText("#failures-title", `${plural(failures.count || failed, unit)} failed`);
  setText("#failures-note", describeKinds(failures));
  setChildren(find("#failures ol"), ...groups.map((group, position) => groupCard(group, report, groups.length > MAX_OPEN && position >= MAX_OPEN - 1)));
}

function describeKinds({ kinds, groups }) {
  if (kinds > groups.length) return `The ${groups.length} most frequent kinds of error, and ${plural(kinds - groups.length, "other kind")}: see the log.`;
  return kinds > 1 ? `${count(kinds)} kinds of error, most frequent first.` : "";
}

function groupCard(group, report, isFolded) {
  const { type, sqlstate, pattern, message, count: size, rows, advice, traceback, ranges } = group;
  const name = [type, sqlstate && `SQLSTATE ${sqlstate}`].filter(Boolean).join(", ") || "Error";
  const heading = [element("h3", {}, name), element("span", { class: "group-count" }, plural(size, report.unit))];
  const copy = copyButton("Copy error", [`${type}: ${message}`, traceback].filter(Boolean).join("\n\n"), name);
  const body = [
    element("pre", { class: "message" }, message),
    rows ? element("p", { class: "rows" }, "Failing rows: ", element("code", {}, rows)) : null,
    advice ? element("p", { class: "advice" }, advice) : null,
    element("p", { class: "quiet" }, describeOccurrence(group)),
    traceback ? details("traceback", ["Traceback"], element("pre", {}, traceback)) : null,
    rangesOf(ranges ?? [], size, report),
  ];
  const key = { "data-key": [type, sqlstate, pattern ?? message].join("\n") };
  if (!isFolded) return element("li", key, element("div", { class: "group-heading" }, ...heading, copy), ...body);
  const excerpt = element("span", { class: "excerpt" }, message.split("\n", 1)[0]);
  return element("li", { ...key, class: "folded" }, details("group", [...heading, excerpt], ...body, copy));
}

/** When, where, and how often each range was tried. */
function describeOccurrence({ first, last, workers = [], worker_count: workerCount, attempts, count: size }) {
  const more = (workerCount ?? 0) - workers.length;
  const time = !first ? "" : last - first < 1 ? `at ${clock(first)}` : `first at ${clock(first)}, last at ${clock(last)}`;
  const place = workers.length === 0 ? "" : `on ${workers.join(", ")}${more > 0 ? ` and ${plural(more, "more worker")}` : ""}`;
  const tries = !attempts ? "" : `${attempts > 1 && size > 1 ? "up to " : ""}${plural(attempts, "attempt")}`;
  const text = [time, place, tries].filter(Boolean).join(", ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function rangesOf(ranges, size, report) {
  if (ranges.length === 0) return null;
  const lines = element("ul", { class: "ranges" }, ...ranges.map((range) => rangeLine(range, report)));
  if (size === 1) return lines;
  const title = ranges.length < size ? `The first ${count(ranges.length)} of ${plural(size, report.unit)}` : `The ${plural(size, report.unit)}`;
  return details("ranges", [title], lines);
}

function rangeLine(range, { reproduce, unit }) {
  const subject = `${unit} ${range.index}`;
  const copies = [
    ["Copy SELECT", fill(reproduce?.select, range)],
    [/\b(lower|upper)=/.test(range.arguments ?? "") ? "Copy lower=/upper=" : "Copy arguments", range.arguments],
    ["Copy call", fill(reproduce?.call, range)],
  ];
  return element(
    "li",
    { "data-key": String(range.index) },
    element("span", { class: "range-name" }, range.item),
    range.attempts > 1 ? element("span", { class: "quiet" }, plural(range.attempts, "attempt")) : null,
    ...copies.map(([label, text]) => (text ? copyButton(label, text, subject) : null)),
  );
}

/** Replace the placeholders of a template by a range's values; null if it lacks one of them. */
function fill(template, { where, key_range: keyRange, input }) {
  const values = { "{range}": where, "{key_range}": keyRange, "{input}": input };
  const isComplete = template && Object.entries(values).every(([name, value]) => value || !template.includes(name));
  return isComplete ? template.replace(/\{(range|key_range|input)\}/g, (name) => values[name]) : null;
}

function details(key, summary, ...content) {
  return element("details", { "data-key": key }, element("summary", {}, ...summary), ...content);
}
