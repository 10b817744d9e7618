"""Dead letters in an operator's hands, with a real worker, real services and the real program."""

from tests.integration.operating.operator import Operator


def test_an_unfunded_payment_is_funded_and_replayed_and_paid_once(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o1", priority=2)

    (listed,) = operator.rows("dead-letters", "list", "--after", str(number - 1), "--limit", "1")
    assert (listed["id"], listed["reason"], listed["task_id"]) == (number, "permanent", task_id)
    shown = operator.record("dead-letters", "show", str(number))
    assert "no funds" in shown["exception_message"]
    assert [attempt["state"] for attempt in shown["task_attempts"]] == ["failed"]
    grouped = operator.rows("dead-letters", "groups")
    assert ("open", "permanent") in {(row["state"], row["reason"]) for row in grouped}

    operator.fund("o1")
    (preview,) = operator.rows("dead-letters", "replay", str(number), "--dry-run")
    assert preview["outcome"] == "would be replayed"
    assert operator.dead_letters(task_id)[0]["state"] == "open"

    (done,) = operator.rows("dlq", "replay", str(number), "--because", "account funded", "--yes")
    assert (done["outcome"], done["replay"], done["task_id"]) == ("replayed", 1, task_id)
    (again,) = operator.rows("dlq", "replay", str(number), "--yes")
    assert again["outcome"] == "nothing"

    result = operator.database.until(task_id, "succeeded")
    assert (result["replay"], result["attempt"], result["priority"]) == (1, 1, 2)
    assert operator.database.effects("o1") == 1
    assert [row["state"] for row in operator.dead_letters(task_id)] == ["resolved"]
    (again,) = operator.rows("dlq", "replay", str(number), "--yes")
    assert again["outcome"] == "nothing"

    events = operator.rows("results", "timeline", task_id)
    assert [event["event"] for event in events if event["event"] != "suppressed"] == [
        "enqueued", "started", "failed", "dead", "dead_letter.replay", "started", "succeeded", "resolved",
    ]  # fmt: skip
    (act,) = operator.record("dead-letters", "show", str(number))["operator_actions"]
    assert act["reason"] == "account funded"
    assert act["actor"].endswith("(unverified)")


def test_a_replay_that_dies_again_is_a_new_dead_letter(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o2")
    operator.run("dead-letters", "replay", str(number), "--yes")
    second = operator.open_one(task_id)
    assert [(row["state"], row["replay"]) for row in operator.dead_letters(task_id)] == [
        ("dead_again", 0),
        ("open", 1),
    ]
    assert operator.database.state(task_id) == "dead"

    (refused,) = operator.rows("dead-letters", "replay", str(number), "--yes", code=1)
    assert "dead_again" in refused["detail"]
    operator.fund("o2")
    (done,) = operator.rows(
        "dead-letters", "replay", "--task", "tests.integration.operating.application.pay", "--yes"
    )
    assert (done["dead_letter"], done["replay"]) == (second, 2)
    operator.database.until(task_id, "succeeded")
    assert operator.database.effects("o2") == 1
    assert [row["state"] for row in operator.dead_letters(task_id)] == ["dead_again", "resolved"]


def test_a_discarded_payment_is_never_paid(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o3")
    operator.run("dead-letters", "discard", str(number), "--yes", code=2)
    (done,) = operator.rows("dead-letters", "discard", str(number), "--because", "order withdrawn", "--yes")
    assert done["outcome"] == "discarded"
    assert operator.database.result(task_id)["reason"] == "order withdrawn"
    assert operator.database.state(task_id) == "discarded"
    (claim,) = operator.database.rows("SELECT state FROM reliable_tasks.claims WHERE key = 'pay:o3'")
    assert claim["state"] == "discarded"

    operator.fund("o3")
    (refused,) = operator.rows("dead-letters", "replay", str(number), "--yes", code=1)
    assert refused["outcome"] == "refused"
    other = operator.send("pay", order_id="o3", account="o3", amount="10.10")
    number = operator.open_one(other)
    (refused,) = operator.rows("dead-letters", "replay", str(number), "--yes", code=1)
    assert "discarded" in refused["detail"]
    operator.run("dead-letters", "discard", str(number), "--because", "withdrawn, too", "--yes")
    assert operator.database.effects("o3") == 0


def test_what_a_replay_could_do_twice_is_refused_with_the_reason(operator: Operator) -> None:
    uncertain = operator.open_one(operator.send("call", order_id="o4"))
    task_id, _ = operator.died_of_no_funds("o5")
    conflict = operator.open_one(operator.send("pay", order_id="o5", account="o5", amount="99.00"))
    operator.fund("o5")

    told = {
        row["dead_letter"]: row for row in operator.rows("dead-letters", "replay", "--all", "--yes", code=3)
    }
    assert told[uncertain]["outcome"] == told[conflict]["outcome"] == "refused"
    assert "may have happened" in told[uncertain]["detail"]
    assert "another payload" in told[conflict]["detail"]
    operator.database.until(task_id, "succeeded")
    assert operator.database.effects("o5") == 1
    assert operator.rows("dead-letters", "replay", "999999", "--yes", code=1)[0]["outcome"] == "refused"


def test_another_task_of_a_dead_key_is_replayed_and_gives_its_result_to_duplicates(
    operator: Operator,
) -> None:
    first, first_number = operator.died_of_no_funds("o6")
    second = operator.send("pay", order_id="o6", account="o6", amount="10.10")
    operator.fund("o6")
    operator.run("dead-letters", "replay", str(operator.open_one(second)), "--yes")
    operator.database.until(second, "succeeded")
    operator.run("dead-letters", "replay", str(first_number), "--yes")
    result = operator.database.until(first, "duplicate")
    assert (result["duplicate_of"], bytes(result["result"])) == (second, b'"o6"')
    assert operator.database.effects("o6") == 1
    assert [row["state"] for row in operator.dead_letters(first)] == ["resolved"]


def test_a_plain_task_keeps_its_brackets_in_tables(operator: Operator) -> None:
    task_id = operator.send("plain", account="A1")
    number = operator.open_one(task_id)
    assert "[red]A1[/red] is not valid" in operator.run("dead-letters", "list").stdout
    operator.run("dead-letters", "replay", str(number), "--yes")
    operator.open_one(task_id)
    assert [row["state"] for row in operator.dead_letters(task_id)] == ["dead_again", "open"]


def test_nothing_is_done_unasked(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o7")
    for command in (
        ("dead-letters", "replay", str(number)),
        ("dead-letters", "discard", str(number), "--because", "x"),
        ("tasks", "cancel", task_id),
    ):
        done = operator.run(*command, code=1)
        assert "hint: give --yes" in done.stderr
    assert operator.dead_letters(task_id)[0]["state"] == "open"
    operator.run("dead-letters", "replay", "--yes", code=2)


def test_statistics_and_results(operator: Operator) -> None:
    task_id, _ = operator.died_of_no_funds("o8")
    assert "dead" in {row["state"] for row in operator.rows("results", "stats") if row["count"] > 0}
    (listed,) = operator.rows("results", "list", "--state", "dead", "--key", "pay:o8")
    assert listed["task_id"] == task_id
    assert operator.record("results", "show", task_id)["exception_type"] == "PermanentError"
    assert "RT501" in operator.run("results", "show", "nobody", code=1).stderr
    assert "RT501" in operator.run("results", "timeline", "nobody", code=1).stderr
