// Format numbers, durations and times for people.

import { now } from "./airflow.js";

const integerFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
/** An expected time that is at least so far away is shown without seconds. */
const FAR = 300;

export function count(number) {
  return integerFormat.format(number);
}

/** "1 range", "2 ranges". */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "a range", "an input". */
export function withArticle(noun) {
  return `${/^[aeiou]/i.test(noun) ? "an" : "a"} ${noun}`;
}

/** "1.3"; without the fraction from 10 on. */
export function ratio(number) {
  return number < 9.95 ? number.toFixed(1) : count(number);
}

/** "1.3 times". */
export function factor(number) {
  return `${ratio(number)} times`;
}

export function percent(fraction) {
  return `${Math.round(fraction * 100)} %`;
}

/** A duration with about three digits: milliseconds, seconds, minutes or hours. */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  return hours ? `${hours} h ${minutes} min` : rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

/** How long something has been going on, in whole seconds: "7 s", "4 min 12 s". */
export function age(seconds) {
  return seconds < 59.95 ? `${Math.max(Math.floor(seconds), 0)} s` : duration(seconds);
}

/** An estimated duration, rounded: "20 s", "3 min", "2 h 5 min". */
export function roundedDuration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The time of day in the time zone that the viewer chose in Airflow; with the date if it is not today. */
export function clock(epoch) {
  return format(epoch, { second: "2-digit" });
}

/** The time of day without seconds, unless it is soon. */
export function roundedClock(epoch) {
  return epoch - now() < FAR ? clock(epoch) : format(epoch, {});
}

function format(epoch, precision) {
  const day = formatter({ day: "numeric", month: "short" });
  const time = formatter({ hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...precision }).format(epoch * 1000);
  const date = day.format(epoch * 1000);
  return date === day.format(now() * 1000) ? time : `${date} ${time}`;
}

/** Creating a formatter takes a millisecond, and a timeline has hundreds of times: each is created once. */
const formatters = new Map();

function formatter(options) {
  const zone = storedZone();
  const key = JSON.stringify([zone, options]);
  if (!formatters.has(key)) formatters.set(key, createFormatter(options, zone));
  return formatters.get(key);
}

function createFormatter(options, zone) {
  try {
    return new Intl.DateTimeFormat("en-GB", { ...options, timeZone: JSON.parse(zone) ?? undefined });
  } catch {
    return new Intl.DateTimeFormat("en-GB", options);
  }
}

/** Return the time zone in Airflow's settings, as JSON; null if none is set, or if this browser denies storage to frames. */
function storedZone() {
  try {
    return localStorage.getItem("timezone");
  } catch {
    return null;
  }
}
