"""Splitting a table into ranges of its key. Knows PostgreSQL, but neither Airflow nor Burla."""
