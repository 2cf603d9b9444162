"""Connections, sessions, snapshots and errors of PostgreSQL, for the task and for the workers."""
