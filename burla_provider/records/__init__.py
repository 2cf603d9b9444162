"""What a job leaves in the database, and what it is checked against there: the task's side."""
