"""Pickle the user's code: what travels to the workers, and how."""
