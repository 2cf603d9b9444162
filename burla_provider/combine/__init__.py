"""Combine the results of ranges exactly."""
