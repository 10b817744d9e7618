"""The one list of bad input: every class, and what must become of it."""

from tests.integration.bad_input.bad_bodies import BAD_BODIES
from tests.integration.bad_input.bad_headers import BAD_HEADERS
from tests.integration.bad_input.bad_meanings import BAD_MEANINGS
from tests.integration.bad_input.bad_message import BadMessage, End, Target

__all__ = ["BAD_MESSAGES", "POISON", "BadMessage", "End", "Target"]

BAD_MESSAGES: tuple[BadMessage, ...] = (*BAD_HEADERS, *BAD_BODIES, *BAD_MEANINGS)

POISON = tuple(message for message in BAD_MESSAGES if message.end is End.DEAD)
"""Those of which each must end as one dead letter, whatever the target's tasks do."""
