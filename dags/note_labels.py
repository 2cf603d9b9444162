"""
### Label texts with a model

`train` trains a classifier on a few labelled notes and stores it in the database. `label_notes` gives every note a
label, in batches, on the workers. `Label` is a class, so each worker process loads the model once. The labels are
upserted into `note_labels`. `check` fails if a note has no label of this model.

Workers and tasks share no files, so the model is a row of `order_note_models`. `op_kwargs` has its id, and the login of
the database that the workers load it from. Store a large model in an object store instead.

Needs scikit-learn, pandas and pyarrow where the tasks run. The workers install the same versions.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, task

from burla_provider.operators.transform import BurlaPostgresTransformOperator

LABELLED_NOTES = {
    "gift": [
        "a gift",
        "please wrap it as a gift",
        "it is a present",
        "birthday gift for my mother",
        "gift card, please",
    ],
    "urgent": ["urgent", "urgent: by Monday", "needed by Friday", "as soon as possible", "very urgent, by tomorrow"],
    "size": ["size M", "Größe M, bitte", "Größe S", "please send size XL", "Größe L statt M"],
    "delivery": ["ring the bell", "ring once", "call me before delivery", "deliver to the back door", "call twice"],
}
"""Labels that people gave to notes. In production, read them from a table."""


class Label:
    """Labels batches of notes. Each worker process makes one instance."""

    def __init__(self, login, model_id):
        """Load the model."""
        import pickle

        import psycopg

        with psycopg.connect(**login) as connection:
            query = "SELECT model FROM order_note_models WHERE id = %s"
            [(model,)] = connection.execute(query, [model_id]).fetchall()
        self.model = pickle.loads(model)  # noqa: S301 - only the first task writes models
        self.model_id = model_id

    def __call__(self, orders):
        """Return the rows to write for a data frame of orders."""
        import pandas

        chances = self.model.predict_proba(orders["note"])
        return pandas.DataFrame(
            {
                "order_id": orders["id"],
                "label": self.model.classes_[chances.argmax(axis=1)],
                "confidence": chances.max(axis=1),
                "model_id": self.model_id,
            }
        )


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres", "writes", "machine learning"],
)
def note_labels():
    make_tables = SQLExecuteQueryOperator(
        task_id="make_tables",
        conn_id="orders_db",
        sql=[
            "CREATE TABLE IF NOT EXISTS order_note_models (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " trained_at timestamptz NOT NULL DEFAULT now(), model bytea NOT NULL)",
            "CREATE TABLE IF NOT EXISTS note_labels (order_id bigint PRIMARY KEY, label text NOT NULL,"
            " confidence double precision NOT NULL, model_id bigint NOT NULL REFERENCES order_note_models)",
        ],
    )

    @task
    def train() -> int:
        """Store a model, and return its id."""
        import pickle

        from airflow.providers.postgres.hooks.postgres import PostgresHook
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import SGDClassifier
        from sklearn.pipeline import make_pipeline

        labels, notes = zip(*((label, note) for label, notes in LABELLED_NOTES.items() for note in notes), strict=True)
        # Parts of words, so that other forms of a word have the same label. The model has 130 kB.
        features = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=2**12)
        model = make_pipeline(features, SGDClassifier(loss="log_loss", random_state=1)).fit(notes, labels)
        insert = "INSERT INTO order_note_models (model) VALUES (%s) RETURNING id"
        hook = PostgresHook("orders_db")
        [(model_id,)] = hook.run(insert, parameters=[pickle.dumps(model)], handler=lambda cursor: cursor.fetchall())
        return model_id

    trained = train()
    label_notes = BurlaPostgresTransformOperator(
        task_id="label_notes",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        columns=["id", "note"],
        where="note IS NOT NULL",
        map_batch=Label,
        batch_format="pandas",
        batch_size=10_000,
        op_kwargs={
            "login": {
                "host": "{{ conn.orders_db.host }}",
                "port": "{{ conn.orders_db.port or 5432 }}",
                "user": "{{ conn.orders_db.login }}",
                "password": "{{ conn.orders_db.password }}",
                "dbname": "{{ conn.orders_db.schema }}",
            },
            "model_id": trained,
        },
        target_table="note_labels",
        write_mode="upsert",
        requirements=["scikit-learn"],
    )

    @task
    def check(model_id: int) -> dict:
        """Return how many notes have which label."""
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        hook = PostgresHook("orders_db")
        [(missing,)] = hook.get_records(
            "SELECT count(*) FROM orders LEFT JOIN note_labels ON order_id = id AND model_id = %s"
            " WHERE note IS NOT NULL AND order_id IS NULL",
            parameters=[model_id],
        )
        if missing:
            raise ValueError(f"{missing:,} notes have no label of model {model_id}.")
        return dict(hook.get_records("SELECT label, count(*) FROM note_labels GROUP BY label"))

    make_tables >> trained
    label_notes >> check(trained)


note_labels()
