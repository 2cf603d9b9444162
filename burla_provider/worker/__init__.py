"""The code that runs on workers. It is pickled by value, and needs only psycopg and tenacity there."""
