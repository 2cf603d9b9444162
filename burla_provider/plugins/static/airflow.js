// Airflow's own REST API, asked with the viewer's own session: the page shows nobody more than Airflow would.

const KEY = "burla_report";
const API = "../api/v2";
const UNFINISHED = [null, "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred"];

/** Airflow did not answer with what was asked for: `status` is HTTP's, 0 without any answer. */
export class Refused extends Error {
  constructor(status) {
    super(`HTTP ${status}`);
    this.status = status;
  }
}

/** Which task instance the address of this page is about. */
export function readPlace(search) {
  // By hand: 3.1 leaves the "+" of a run id as it is, and URLSearchParams would make a space of it.
  const given = Object.fromEntries(
    search.slice(1).split("&").map((pair) => pair.split("=").map(decodeURIComponent)),
  );
  const mapIndex = Number.parseInt(given.map_index, 10);
  return {
    dag: given.dag_id,
    run: given.run_id,
    task: given.task_id,
    mapIndex: Number.isNaN(mapIndex) ? -1 : mapIndex,
  };
}

export function isFinished(instance) {
  return !UNFINISHED.includes(instance.state);
}

/** The task instance as Airflow tells it; null where there is none. */
export function readInstance(place) {
  return get(instancePath(place) + (place.mapIndex < 0 ? "" : `/${place.mapIndex}`));
}

/** The report: what the running task keeps in its state store, what the ended one has pushed; null where there is none. */
export async function readReport(place, instance) {
  // Until the next try starts, what the last one has pushed is there.
  const sources = isFinished(instance) ? ["xcomEntries", "state-store"] : ["state-store", "xcomEntries"];
  for (const source of sources) {
    const entry = await get(`${instancePath(place)}/${source}/${KEY}?map_index=${place.mapIndex}`);
    if (entry !== null) return entry.value;
  }
  return null;
}

/** Airflow's version, as [3, 3, 2]. */
export async function readVersion() {
  return (await get("/version")).version.split(".").map(Number);
}

function instancePath({ dag, run, task }) {
  const [dagId, runId, taskId] = [dag, run, task].map(encodeURIComponent);
  return `/dags/${dagId}/dagRuns/${runId}/taskInstances/${taskId}`;
}

async function get(path) {
  const answer = await fetch(API + path).catch(() => {
    throw new Refused(0);
  });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Refused(answer.status);
  return answer.json();
}
