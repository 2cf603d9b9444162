// Give reports of other versions of the provider the shape of the current version.

export const VERSION = 2;

const EMPTY = {
  status: { state: "running", since: 0, detail: "", until: null },
  try: null,
  retry: null,
  title: "",
  unit: "range",
  total: 0,
  done: 0,
  failed: 0,
  resumed: 0,
  retried: 0,
  rows: null,
  rows_per_second: null,
  seconds_left: null,
  places: [],
  phases: [],
  jobs: [],
  plan: null,
  workers: [],
  worker_count: 0,
  timeline: null,
  activity: null,
  utilization: null,
  slowest: [],
  advice: [],
  reproduce: null,
  result: null,
  tries: [],
  pause: null,
};

/** Return the report with all parts of the current version. Parts that it does not have are empty. */
export function currentShape(report) {
  const shaped = report.version === 1 ? fromVersion1(report) : report;
  return {
    ...EMPTY,
    ...shaped,
    in_flight: { count: 0, median: null, listed: [], ...shaped.in_flight },
    failures: { count: 0, kinds: 0, groups: [], ...shaped.failures },
  };
}

/** Version 1 had a state, one job, and a list of the first failures. */
function fromVersion1(report) {
  const { state, job, failures = [], slowest = [], pause, ...same } = report;
  const since = state === "paused" ? (pause?.since ?? report.updated) : report.began;
  return {
    ...same,
    status: { state, since, detail: state === "paused" ? (pause?.query ?? "") : "", until: null },
    jobs: job ? [{ ...job, items: null, part: "all" }] : [],
    slowest: slowest.map(({ range, ...rest }) => ({ item: range, worker: null, ...rest })),
    failures: groupFailures(failures, report.failed),
    pause,
  };
}

function groupFailures(failures, total) {
  const groups = new Map();
  for (const { index, range, error, sqlstate, attempts } of failures) {
    if (!groups.has(error)) groups.set(error, { type: "", sqlstate, message: error, count: 0, attempts, workers: [], ranges: [] });
    const group = groups.get(error);
    group.count += 1;
    group.ranges.push({ index, item: range, where: null, arguments: null, attempts });
  }
  return { count: total, kinds: groups.size, groups: [...groups.values()] };
}
