"""What one Burla call does. Travels to the workers by value, so it may use psycopg and the standard library only."""
