"""Run in the client's interpreter, loaded by path: standard library and burla only."""
