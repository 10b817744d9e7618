"""Private RabbitMQ and Postgres from the installed binaries: for development, the tests and the demo."""

from reliable_tasks.dev.binaries import missing_services
from reliable_tasks.dev.places import default_folder
from reliable_tasks.dev.stack import Stack, Status
from reliable_tasks.dev.throwaway import clean_abandoned, throwaway_stack

__all__ = ["Stack", "Status", "clean_abandoned", "default_folder", "missing_services", "throwaway_stack"]
