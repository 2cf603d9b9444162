// Read the report, show it, and repeat.

import { isFinished, readIds, readInstance, readReport, readVersion } from "./airflow.js";
import { enableCopyButtons } from "./copy.js";
import { find, setText } from "./dom.js";
import { currentShape } from "./earlier.js";
import { errorMessage, noReportMessage, reportWarning } from "./messages.js";
import { showReport } from "./report.js";

const RUNNING_INTERVAL = 3000;
/** A finished task may be cleared and run again. */
const FINISHED_INTERVAL = 20000;

const ids = readIds(location.search);

/** Show the current report and return the milliseconds until the next refresh. */
async function refresh() {
  const instance = await readInstance(ids);
  const stored = instance && (await readReport(ids, instance));
  if (stored === null) {
    setText("#message", noReportMessage(instance, await readVersion()));
    showArticle(false);
  } else {
    const report = currentShape(stored);
    setText("#message", reportWarning(report, instance));
    showArticle(true);
    showReport(report, instance, ids);
  }
  return instance && !isFinished(instance) ? RUNNING_INTERVAL : FINISHED_INTERVAL;
}

/** Without a report, the message is the content of the page. */
function showArticle(visible) {
  find("#report").hidden = !visible;
  find("#page-title").hidden = visible;
}

async function refreshForever() {
  let interval = RUNNING_INTERVAL;
  if (document.visibilityState === "visible") {
    try {
      interval = await refresh();
    } catch (error) {
      // The last report stays visible.
      setText("#message", errorMessage(error));
    }
  }
  setTimeout(refreshForever, interval);
}

enableCopyButtons();
refreshForever();
