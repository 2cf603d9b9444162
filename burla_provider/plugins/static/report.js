// Show a report in the elements of index.html.

import { showActivity } from "./activity.js";
import { showBudget } from "./budget.js";
import { showDistribution } from "./distribution.js";
import { fillPairs, find, setText } from "./dom.js";
import { showHistory } from "./history.js";
import { showPlan } from "./plan.js";
import { showResult } from "./result.js";
import { showSlowest } from "./slowest.js";
import { showTimeline } from "./timeline.js";

/** Show the report. If `ended`, the task no longer runs, whatever state the report has. */
export function showReport(report, instance, ids) {
  const noun = report.unit;
  setText("#title", report.title);
  showResult(report, noun);
  showTimeline(report, noun);
  showActivity(report, noun);
  showDistribution(report, noun);
  showSlowest(report, noun);
  showBudget(report, instance);
  showHistory(report, instance, ids);
  fillPairs(find("#places dl"), report.places ?? []);
  showPlan(report.plan, noun);
}
