"""This provider side by side with what its users would pick instead: `make bench`."""
