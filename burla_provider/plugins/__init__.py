"""Airflow plugin: pages that this provider adds to Airflow's UI."""
