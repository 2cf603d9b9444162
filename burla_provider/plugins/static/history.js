// Stub: see helper CHART.

export function showHistory() {}
