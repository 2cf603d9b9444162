// Stub: see helper CHART.

export function showActivity() {}
