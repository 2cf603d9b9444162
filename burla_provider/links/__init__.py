"""Buttons on a task's page in Airflow."""
