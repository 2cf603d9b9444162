// The part of a section that a module fills.

import { element, find } from "./dom.js";

/** Return the element below the section's title whose content is the module's. It is created if it does not exist. */
export function bodyOf(section) {
  const body = find(`${section} > .body`) ?? element("div", { class: "body" });
  if (body.parentNode === null) find(section).replaceChildren(find(`${section}-title`), body);
  return body;
}
