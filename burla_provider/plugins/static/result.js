// What a finished job returns.

import { element, find, setChildren } from "./dom.js";
import { count } from "./format.js";
import { bodyOf } from "./section.js";

export function showResult({ result, unit, failed, total }) {
  find("#result").hidden = !result;
  if (!result) return;
  const { values, complete, verified, more } = result;
  const facts = [
    complete === true ? ["good", `Complete: every ${unit} is in the result.`] : null,
    complete === false ? ["bad", `Incomplete: ${count(failed)} of ${count(total)} ${unit}s ${failed === 1 ? "is" : "are"} not in the result.`] : null,
    verified ? ["good", `Verified: ${verified}`] : null,
  ].filter(Boolean);
  setChildren(
    bodyOf("#result"),
    values.length === 0
      ? null
      : element(
          "dl",
          { class: "values", "data-key": "values" },
          ...values.map(([name, text]) => element("div", { "data-key": name }, element("dt", {}, name), element("dd", {}, String(text)))),
        ),
    more ? element("p", { class: "quiet", "data-key": "more" }, `${count(more)} more values are in XCom.`) : null,
    facts.length === 0
      ? null
      : element("ul", { class: "checks", "data-key": "checks" }, ...facts.map(([kind, text]) => element("li", { class: kind }, text))),
  );
}
