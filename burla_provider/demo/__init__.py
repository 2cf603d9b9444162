"""The example DAGs on a real table, a real Airflow and one's own machine: ``python -m burla_provider.demo``."""
