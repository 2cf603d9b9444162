// The details of the bar that the viewer has selected on the timeline.

import { element, fillPairs, find, setChildren } from "./dom.js";
import { clock, count, duration, plural } from "./format.js";

/** Show a mark of the timeline; null hides the panel. `close` is called if the viewer closes it. */
export function showPin(mark, report, close) {
  const panel = find("#timeline .pin");
  panel.hidden = mark === null;
  if (mark === null) return;
  if (!panel.querySelector("button")) build(panel, close);
  setChildren(panel.querySelector("h3"), mark.name);
  fillPairs(panel.querySelector("dl"), mark.item === undefined ? cellFacts(mark, report) : rangeFacts(mark));
  const { failure } = mark;
  setChildren(
    panel.querySelector(".failure"),
    ...(failure
      ? [
          element("pre", {}, `${failure.type}: ${failure.message}`),
          failure.advice ? element("p", {}, failure.advice) : null,
          element("p", {}, element("a", { href: "#failures" }, "All failures")),
        ]
      : []),
  );
}

function build(panel, close) {
  const button = element("button", { type: "button", "aria-label": "Unpin", title: "Unpin (Escape)" }, "✕");
  button.addEventListener("click", () => {
    close();
    find("#timeline .lanes").focus();
  });
  panel.setAttribute("role", "region");
  panel.setAttribute("aria-label", "Selected on the timeline");
  panel.append(
    element("div", { class: "pin-head" }, element("h3"), button),
    element("dl", { class: "facts" }),
    element("div", { class: "failure" }),
  );
}

function rangeFacts({ state, action, worker, began, seconds, median, rows, failure }) {
  return [
    ["State", action ?? state],
    ["Worker", worker],
    ["Started", clock(began)],
    [action ? "Time so far" : "Time", [duration(seconds), median].filter(Boolean).join(", ")],
    ["Rows", rows === null ? null : count(rows)],
    ["Rows/s", rows === null || seconds === 0 ? null : count(rows / seconds)],
    ["SQLSTATE", failure?.sqlstate ?? null],
    ["Failed like this", failure && failure.count > 1 ? plural(failure.count, "time") : null],
  ];
}

function cellFacts({ worker, ended, failed, rows }, { unit }) {
  return [
    ["Worker", worker],
    [`Ended`, plural(ended, unit)],
    ["Rows", rows === null ? null : count(rows)],
    ["Failed", failed ? plural(failed, unit) : "none"],
  ];
}
