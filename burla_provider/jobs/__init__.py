"""Running a job: the client process and its engines. Knows neither Airflow nor tables."""
