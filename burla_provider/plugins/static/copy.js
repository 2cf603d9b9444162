// Buttons that copy a text to the clipboard.

import { element } from "./dom.js";

const SHOWN_MS = 2000;

/** Create a button that copies `text`. `label` says what, `subject` of which item. */
export function copyButton(label, text, subject = "") {
  return element(
    "button",
    { type: "button", class: "copy", "data-key": `copy ${label}`, "data-copy": text, "aria-label": `${label}${subject ? ` of ${subject}` : ""}` },
    label,
  );
}

/** Make all copy buttons of the page work, those that are created later as well. */
export function enableCopyButtons() {
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest?.("[data-copy]");
    if (button === null || button.dataset.keep !== undefined) return;
    const text = button.dataset.copy;
    report(button, (await copyByApi(text)) || copyBySelection(button, text) ? "Copied" : "Copying is not allowed here");
  });
}

/** Use the clipboard API, which browsers deny to pages without TLS and to some frames. */
async function copyByApi(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copyBySelection(button, text) {
  const area = element("textarea", { class: "offscreen", readonly: "", tabindex: "-1", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  button.focus({ preventScroll: true });
  return copied;
}

/** Show the outcome instead of the label for a moment. `data-keep` protects it from a refresh. */
function report(button, outcome) {
  const [label, name] = [button.textContent, button.getAttribute("aria-label")];
  button.dataset.keep = "";
  button.textContent = outcome;
  button.setAttribute("aria-label", outcome);
  setTimeout(() => {
    button.textContent = label;
    button.setAttribute("aria-label", name);
    delete button.dataset.keep;
  }, SHOWN_MS);
}
