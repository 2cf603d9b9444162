"""Sinks: how the rows of a chunk are written to the target. To add a write mode, add a file and list it here."""

from burla_provider.worker.sinks.insert import Insert
from burla_provider.worker.sinks.sink import Sink, Written
from burla_provider.worker.sinks.target import Target
from burla_provider.worker.sinks.update import Update
from burla_provider.worker.sinks.update_in_place import UpdateInPlace
from burla_provider.worker.sinks.upsert import Upsert

__all__ = ["Insert", "Sink", "Target", "Update", "UpdateInPlace", "Upsert", "Written"]
