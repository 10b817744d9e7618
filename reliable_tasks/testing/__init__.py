"""For your own tests: pytest fixtures with a private RabbitMQ and Postgres.

In your conftest.py::

    pytest_plugins = ["reliable_tasks.testing.services"]

    def test_order(fresh_vhost: str, fresh_database: str) -> None: ...

`reliable_stack` is the pair itself, one per session; `fresh_vhost` and `fresh_database` are URLs of a vhost
and a migrated database that belong to one test. RELIABLE_TASKS_TEST_STACK=folder uses the stack that
`dev up --folder` started there, which saves its start.

`with reliable_tasks.testing.eager.eager(app):` runs tasks where they are sent: no broker, no worker, but real
claims and results in your database.
"""
