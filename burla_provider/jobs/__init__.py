"""Run jobs on Burla or on the local engine, in a client process."""
