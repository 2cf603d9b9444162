"""Run the example DAGs on this machine with a real table and a real Airflow: ``python -m burla_provider.demo``."""
