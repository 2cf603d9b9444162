// A tip beside a part of a chart. Screen readers get the same text in other ways.

import { element, setChildren } from "./dom.js";

const DISTANCE = 8;
let tip = null;

/** Show the content above the target (an element or a rectangle of the window), or below it if there is no room. */
export function showTip(target, ...content) {
  if (tip === null) {
    tip = element("div", { class: "tip", "aria-hidden": "true" });
    document.body.append(tip);
  }
  setChildren(tip, ...content);
  tip.hidden = false;
  const place = target instanceof Element ? target.getBoundingClientRect() : target;
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - width - DISTANCE;
  const left = Math.max(Math.min(place.left + place.width / 2 - width / 2, room), DISTANCE);
  const top = place.top - height - DISTANCE < 0 ? place.bottom + DISTANCE : place.top - height - DISTANCE;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${top + scrollY}px`;
}

export function hideTip() {
  if (tip !== null) tip.hidden = true;
}
