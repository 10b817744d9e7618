"""The table that the tasks here write to."""

from tests.database import Database
from tests.deployment import Deployment

APPLICATION = "tests.integration.celery_behaviour.application"


def with_effects(around: Deployment) -> Deployment:
    """The deployment, its database with the table."""
    Database(around.database_url).rows("CREATE TABLE effects (key text NOT NULL, attempt int NOT NULL)")
    return around
