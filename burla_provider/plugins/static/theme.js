// Use Airflow's theme, which is in local storage under "theme". Runs before the first paint and after each change.
"use strict";

function applyAirflowTheme() {
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // This browser denies storage to frames: use the theme of the system.
  }
  document.documentElement.style.colorScheme = ["light", "dark"].includes(theme) ? theme : "light dark";
}

applyAirflowTheme();
addEventListener("storage", applyAirflowTheme);
