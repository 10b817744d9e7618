"""Poison: a message of each class of bad input that must end as a dead letter, for the tasks of the workload."""

from typing import Any

from tests.integration.bad_input.bad_messages import POISON, Target

TARGET = Target("tests.chaos.workload_app.pay", "tests.chaos.workload_app.note")

CLASSES = {message.name: message for message in POISON}


def publish(channel: Any, name: str, mark: str) -> None:
    """Send one, as any program with a broker client could; its correlation id is the mark, whatever else it says."""
    message = CLASSES[name]
    properties = message.properties_for(mark, TARGET)
    channel.basic_publish("commands", "payments", message.body_for(mark), properties, mandatory=True)
