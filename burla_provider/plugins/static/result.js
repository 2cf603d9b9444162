// Stub: see helper CHART.

export function showResult() {}
