// Requests to Airflow's REST API with the viewer's session, so that the page shows only what the viewer is allowed to see.

/** The key of the report, in the state store and in XCom. */
export const KEY = "burla_report";
const API = "../api/v2";
const UNFINISHED = [null, "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred"];

/** How far the clock of Airflow's server is ahead of the viewer's, milliseconds. */
let serverAhead = 0;

/** Return the time on the clock of Airflow's server, seconds since the epoch. */
export function now() {
  return (Date.now() + serverAhead) / 1000;
}

/** Airflow did not return the resource. `status` is the HTTP status, or 0 if there was no response. */
export class RequestError extends Error {
  constructor(status) {
    super(`HTTP ${status}`);
    this.status = status;
  }
}

/** Return a time of Airflow's API in seconds since the epoch; null if Airflow has not set it. */
export function epoch(time) {
  return time ? Date.parse(time) / 1000 : null;
}

/** Return the ids of the task instance in the page's address. */
export function readIds(search) {
  // Airflow 3.1 does not encode the "+" of a run id, and URLSearchParams would replace it by a space.
  const parameters = Object.fromEntries(
    search.slice(1).split("&").map((pair) => pair.split("=").map(decodeURIComponent)),
  );
  const mapIndex = Number.parseInt(parameters.map_index, 10);
  return {
    dag: parameters.dag_id,
    run: parameters.run_id,
    task: parameters.task_id,
    mapIndex: Number.isNaN(mapIndex) ? -1 : mapIndex,
  };
}

export function isFinished(instance) {
  return !UNFINISHED.includes(instance.state);
}

/** Return the task instance; null if it does not exist. */
export function readInstance(ids) {
  return get(instancePath(ids) + (ids.mapIndex < 0 ? "" : `/${ids.mapIndex}`));
}

/** Return the report: from the state store while the task runs, from XCom afterwards; null if none was stored. */
export async function readReport(ids, instance) {
  // The store is written during the task, and the XCom when the task ends. The XCom of the previous try exists until the next try starts.
  const sources = isFinished(instance) ? ["xcomEntries", "state-store"] : ["state-store", "xcomEntries"];
  for (const source of sources) {
    const entry = await get(`${instancePath(ids)}/${source}/${KEY}?map_index=${ids.mapIndex}`);
    if (entry !== null) return entry.value;
  }
  return null;
}

/** Return Airflow's version, such as [3, 3, 2]. */
export async function readVersion() {
  return (await get("/version")).version.split(".").map(Number);
}

/** The path of a task instance in the API. */
export function instancePath({ dag, run, task }) {
  const [dagId, runId, taskId] = [dag, run, task].map(encodeURIComponent);
  return `/dags/${dagId}/dagRuns/${runId}/taskInstances/${taskId}`;
}

/** Return the JSON of a resource of Airflow's API; null if it does not exist. */
export async function get(path) {
  const response = await fetch(API + path).catch(() => {
    throw new RequestError(0);
  });
  const date = Date.parse(response.headers.get("Date"));
  if (!Number.isNaN(date)) serverAhead = date - Date.now();
  if (response.status === 404) return null;
  if (!response.ok) throw new RequestError(response.status);
  return response.json();
}
