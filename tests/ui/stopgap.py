# mypy: ignore-errors
"""Parts of the report by the contract, until the real ones are merged. To be deleted."""

from collections import defaultdict
from statistics import median


def fill(report, run):
    outcomes = run.outcomes
    report.setdefault("try", None)
    report.setdefault("retry", None)
    report.setdefault("tries", [])
    if not report["reproduce"]:
        report["reproduce"] = {
            "select": "SELECT id, amount FROM public.orders WHERE status = 'paid' AND {range};",
            "call": "digest(connection, {range})",
        }
    groups = {}
    for o in sorted(outcomes, key=lambda o: o.started + o.seconds):
        if o.failure:
            g = groups.setdefault((o.failure.type, o.failure.sqlstate), [])
            g.append(o)
    ordered = sorted(groups.values(), key=lambda g: -len(g))
    number = {}
    listed = []
    for n, g in enumerate(ordered):
        f = g[0].failure
        for o in g:
            number[o.index] = n
        names = sorted({o.worker for o in g if o.worker})
        ends = [o.started + o.seconds for o in g if o.started] or [run.now]
        listed.append(
            {
                "type": f.type,
                "sqlstate": f.sqlstate,
                "pattern": f.message,
                "message": f.message,
                "count": len(g),
                "first": min(ends),
                "last": max(ends),
                "workers": names[:5],
                "worker_count": len(names),
                "attempts": max(o.attempts for o in g),
                "rows": f.rows or None,
                "traceback": f.traceback,
                "advice": "The worker was killed for memory: raise func_ram or make ranges smaller."
                if "137" in f.message
                else None,
                "ranges": [
                    {
                        "index": o.index,
                        "item": run.describe(o.index),
                        "where": f"id >= {o.index * 1000} AND id < {o.index * 1000 + 1000}",
                        "arguments": f"lower={o.index * 1000}, upper={o.index * 1000 + 1000}",
                        "attempts": o.attempts,
                    }
                    for o in g[: max(100 // len(ordered), 1)]
                ],
            }
        )
    failed = sum(len(g) for g in ordered)
    report["failures"] = {"count": failed, "kinds": len(ordered), "groups": listed}
    for s in report["slowest"]:
        s["item"] = s.pop("range", s.get("item"))
        s["worker"] = next(o.worker for o in outcomes if o.index == s["index"])
    seconds = sorted(o.seconds for o in outcomes if o.ok)
    middle = median(seconds) if seconds else None
    flying = {i: b for i, b in run._begun.items() if i not in run.ended}
    lines = []
    if report["status"]["state"] not in ("success", "planned", "incomplete") and run.now:
        for i, (worker, since, stage) in sorted(flying.items(), key=lambda x: x[1][1])[:12]:
            age = run.now - since
            lines.append(
                {
                    "index": i,
                    "item": run.describe(i),
                    "worker": worker,
                    "since": since,
                    "stage": stage,
                    "ratio": round(age / middle, 1) if middle else None,
                    "is_slow": bool(middle and age > 3 * middle and age > 5),
                }
            )
    report["in_flight"] = {"count": len(flying), "median": middle, "listed": lines}
    names = list(dict.fromkeys(o.worker for o in outcomes))
    report["node_count"] = len({n.split(":")[0] for n in names})
    timeline = report["timeline"]
    timeline["trial_until"] = None
    timeline["labels"] = {}
    if timeline["kind"] == "ranges":
        for span in timeline["spans"]:
            span.append(number.get(span[3], -1))
            timeline["labels"][str(span[3])] = run.describe(span[3])[:60]
    work = [o for o in outcomes if o.started]
    report["activity"] = report["utilization"] = None
    if work:
        start, end = min(o.started for o in work), max(o.started + o.seconds for o in work)
        count = min(120, max(1, int((end - start) / 0.5)))
        width = (end - start) / count
        rows, busy = [0] * count, [0.0] * count
        for o in work:
            rows[min(int((o.started + o.seconds - start) / width), count - 1)] += o.row_count or 0
            for b in range(
                int((o.started - start) / width), min(int((o.started + o.seconds - start) / width), count - 1) + 1
            ):
                lo, hi = start + b * width, start + (b + 1) * width
                busy[b] += max(0, min(hi, o.started + o.seconds) - max(lo, o.started)) / width
        report["activity"] = {"start": start, "width": width, "rows": rows, "busy": [round(b, 2) for b in busy]}
        report["utilization"] = min(1, sum(o.seconds for o in work) / (len(names) * (end - start)))
    return report
