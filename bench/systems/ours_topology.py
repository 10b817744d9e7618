"""The declared shape of our application under measurement."""

from reliable_tasks.model.shape import DeadLetter, Exchange, Queue, Topology

TOPOLOGY = Topology(
    exchanges=(Exchange("commands", "direct"), Exchange("dead-letters", "direct")),
    queues=(
        Queue("bench", exchange="commands", dead_letter=DeadLetter("dead-letters", "bench.dead")),
        Queue("pure", exchange="commands", dead_letter=DeadLetter("dead-letters", "pure.dead")),
        Queue("notices", exchange="commands", dead_letter=DeadLetter("dead-letters", "notices.dead")),
    ),
    default_queue="bench",
)
