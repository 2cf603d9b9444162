"""``python -m burla_provider.doctor``: check the connections from Airflow to the workers before the first job."""
