// Format numbers, durations and times for people.

const integerFormat = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(number) {
  return integerFormat.format(number);
}

/** "1 range", "2 ranges". */
export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "1.3 times"; without the fraction from 10 on. */
export function factor(ratio) {
  return `${ratio < 9.95 ? ratio.toFixed(1) : count(ratio)} times`;
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

/** An estimated duration, rounded: "20 s", "3 min", "2 h 5 min". */
export function roundedDuration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The time of day in the time zone that the viewer chose in Airflow. */
export function clock(epoch) {
  const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const date = new Date(epoch * 1000);
  try {
    const timeZone = JSON.parse(localStorage.getItem("timezone")) ?? undefined;
    return date.toLocaleTimeString("en-GB", { ...options, timeZone });
  } catch {
    return date.toLocaleTimeString("en-GB", options);
  }
}
