// Looks, shows, and looks again.

import { isFinished, readInstance, readPlace, readReport, readVersion } from "./airflow.js";
import { find, say } from "./dom.js";
import { showReport } from "./report.js";
import { caveat, whyNot, whyNothing } from "./sentences.js";

const SOON = 3000;
/** A task that has ended may be cleared and run again. */
const LATER = 20000;

const place = readPlace(location.search);

async function look() {
  const instance = await readInstance(place);
  const report = instance && (await readReport(place, instance));
  if (report === null) {
    say("#message", whyNothing(instance, await readVersion()));
    find("#report").hidden = true;
  } else {
    say("#message", caveat(report, instance));
    showReport(report, isFinished(instance));
    find("#report").hidden = false;
  }
  return instance && !isFinished(instance) ? SOON : LATER;
}

async function keepLooking() {
  let pause = SOON;
  if (document.visibilityState === "visible") {
    try {
      pause = await look();
    } catch (error) {
      // What is shown stays, beside the reason why it is not renewed.
      say("#message", whyNot(error));
    }
  }
  setTimeout(keepLooking, pause);
}

keepLooking();
