"""``python -m burla_provider.doctor``: check every link from Airflow to the workers before the first job."""
