"""Pickle the user's code, with the local modules that it uses, for workers without Airflow and the DAG folder."""
