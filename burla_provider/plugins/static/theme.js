// Light or dark as Airflow is, which keeps what a person chose under "theme": before the first paint, and on a change.
"use strict";

function followAirflow() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // No storage for frames in this browser: the system's own preference stands.
  }
  document.documentElement.style.colorScheme = ["light", "dark"].includes(chosen) ? chosen : "light dark";
}

followAirflow();
addEventListener("storage", followAirflow);
