"""pandas: ``read_sql`` and ``to_sql`` in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.writing.rows import CHUNK, COLUMNS, make_row
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import pandas
    import sqlalchemy

    engine = sqlalchemy.create_engine(task.uri.replace("postgresql://", "postgresql+psycopg2://"))

    def run(task: Task) -> Result:
        count = 0
        query = f"SELECT {', '.join(task.columns)} FROM {task.table}"
        with engine.connect().execution_options(stream_results=True) as source, engine.begin() as target:
            for frame in pandas.read_sql(query, source, chunksize=CHUNK):
                rows = map(make_row, frame.itertuples(index=False, name=None))
                result = pandas.DataFrame(list(rows), columns=COLUMNS)
                result.to_sql(task.target, target, if_exists="append", index=False)
                count += len(result)
        return Result(count, None)

    yield run
    engine.dispose()
