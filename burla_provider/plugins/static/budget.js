// Stub: see helper CHART.

export function showBudget() {}
