"""Settings: what is configured outside the code, read once, frozen, with the origin of every value.

settings = load_settings()                 # options > environment > .env > defaults
publish_celery_environment(settings)       # before Celery looks at its own, colliding variables
settings.broker.url_text()                 # repr() and str() never show a secret
"""

from reliable_tasks.settings.celery_environment import publish_celery_environment
from reliable_tasks.settings.load import load_settings
from reliable_tasks.settings.tree import BrokerSettings, DatabaseSettings, Settings, SigningSettings
from reliable_tasks.settings.variables import VARIABLES, Variable

__all__ = [
    "VARIABLES",
    "BrokerSettings",
    "DatabaseSettings",
    "Settings",
    "SigningSettings",
    "Variable",
    "load_settings",
    "publish_celery_environment",
]
