"""Airflow connections: the Burla hook, and the Postgres connection of a task."""
