"""What Celery is told about itself: acks after the commit, JSON and nothing else, and nothing declared by workers."""

from typing import Any

from reliable_tasks.worker.queues import kombu_queues
from reliable_tasks.worker.runtime import Runtime


def celery_configuration(runtime: Runtime, remote_control: bool) -> dict[str, Any]:
    """Celery's settings for a deployment.

    Args:
        remote_control: whether the application asks for it; in production only the deployment may.
    """
    shape, settings = runtime.topology, runtime.settings
    default = shape.work_queue(shape.default_queue)
    return {
        "task_queues": kombu_queues(shape),
        "task_default_queue": default.name,
        "task_default_exchange": default.exchange,
        "task_default_exchange_type": "direct",
        "task_default_routing_key": default.name,
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_acks_on_failure_or_timeout": False,
        "task_reject_on_worker_lost": True,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "result_extended": True,
        "result_expires": settings.results_expire_seconds or None,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        "broker_connection_max_retries": None,
        "worker_consumer": "reliable_tasks.worker.consumer:ReliableConsumer",
        "worker_enable_remote_control": settings.remote_control
        or (remote_control and settings.env != "production"),
        "worker_send_task_events": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "enable_utc": True,
        "timezone": "UTC",
    }
