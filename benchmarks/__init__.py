"""Compare this provider with other tools: `make bench`."""
