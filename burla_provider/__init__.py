"""Process every row of a large PostgreSQL table with Python, in parallel on Burla, from an Airflow DAG."""

__version__ = "0.2.0"
