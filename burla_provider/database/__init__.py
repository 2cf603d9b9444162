"""What this provider asks of the PostgreSQL server itself, in the task and on the workers alike."""
