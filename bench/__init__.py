"""What the product does in a second, beside its peers and the raw limits, on this machine and in the same run.

`python -m bench quick` and `python -m bench full`, through `make bench-quick` and `make bench`. A run's way:

1. services     `bench.services`      private RabbitMQ, Postgres with fsync on, Redis; `bench.addresses` says where
2. rounds       `bench.rounds`        each chosen entry once a round, there and back again
3. one system   `bench.measuring`     publish one by one, fill, drain, latency: a record
4. a system     `bench.system`        what each module of `bench.systems` says of itself
5. a limit      `bench.raw`           what broker and database do without any task system
6. ratios       `bench.ratios`        medians of ratios that were taken within a round
7. the report   `bench.report`        one JSON object, or tables; `bench.page` writes docs/performance.md of it

Peers live in an environment of their own, var/bench/venv; nothing here is shipped.
"""
