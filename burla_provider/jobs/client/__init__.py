"""Run a job in the client's interpreter. Files are loaded by path and use only the standard library and burla."""
