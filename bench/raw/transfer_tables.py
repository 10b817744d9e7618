"""Tables and functions of the raw transfers, and how the server itself (pgbench) does them."""

from bench import bank

SCHEMA = (
    bank.TABLES
    + bank.BY_HAND
    + r"""
CREATE TABLE results (
    task_id text PRIMARY KEY, status text NOT NULL, result jsonb, started_at timestamptz, finished_at timestamptz);
CREATE TABLE plain (id bigserial PRIMARY KEY, value int);

CREATE FUNCTION transfer(n bigint, s int, t int, a bigint) RETURNS void AS $$
DECLARE k text := 'transfer:' || n;
BEGIN
    INSERT INTO idempotency (key) VALUES (k) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        UPDATE accounts SET balance = balance + CASE WHEN id = s THEN -a ELSE a END WHERE id = least(s, t);
        UPDATE accounts SET balance = balance + CASE WHEN id = s THEN -a ELSE a END WHERE id = greatest(s, t);
        INSERT INTO ledger (key, source, target, amount) VALUES (k, s, t, a);
        IF n % 10 = 0 THEN
            INSERT INTO hand_outbox (key, body) VALUES (k, '{"notify": true}');
        END IF;
        INSERT INTO results VALUES (k, 'SUCCESS', jsonb_build_object('source', s, 'target', t, 'amount', a),
            now(), clock_timestamp());
    END IF;
END $$ LANGUAGE plpgsql;

-- each of a batch in a subtransaction, so that a refused transfer does not take the others with it
CREATE FUNCTION transfer_each(n bigint[], s int[], t int[], a bigint[]) RETURNS void AS $$
BEGIN
    PERFORM 1 FROM accounts WHERE id = ANY (s || t) ORDER BY id FOR UPDATE;
    FOR i IN 1 .. cardinality(n) LOOP
        BEGIN
            PERFORM transfer(n[i], s[i], t[i], a[i]);
        EXCEPTION WHEN check_violation THEN
            NULL;
        END;
    END LOOP;
END $$ LANGUAGE plpgsql;

-- a batch in one statement, whatever its size
CREATE FUNCTION transfer_set(n bigint[], s int[], t int[], a bigint[]) RETURNS bigint AS $$
    WITH given AS (SELECT 'transfer:' || n AS key, n, source, target, amount
                   FROM unnest(n, s, t, a) AS g (n, source, target, amount)),
    fresh AS (INSERT INTO idempotency (key) SELECT key FROM given ON CONFLICT DO NOTHING RETURNING key),
    todo AS (SELECT given.* FROM given JOIN fresh USING (key)),
    change AS (SELECT id, sum(amount) AS amount FROM (
        SELECT source AS id, -amount AS amount FROM todo UNION ALL SELECT target, amount FROM todo) x GROUP BY id),
    locked AS (SELECT id FROM accounts WHERE id IN (SELECT id FROM change) ORDER BY id FOR UPDATE),
    moved AS (UPDATE accounts SET balance = balance + change.amount FROM change, locked
              WHERE accounts.id = change.id AND locked.id = accounts.id RETURNING 1),
    written AS (INSERT INTO ledger (key, source, target, amount) SELECT key, source, target, amount FROM todo),
    sent AS (INSERT INTO hand_outbox (key, body) SELECT key, '{"notify": true}' FROM todo WHERE n % 10 = 0),
    stored AS (INSERT INTO results SELECT key, 'SUCCESS', jsonb_build_object('source', source, 'target', target,
        'amount', amount), now(), clock_timestamp() FROM todo RETURNING 1)
    SELECT count(*) FROM stored
$$ LANGUAGE sql;
"""
)

ONE_ROW = "INSERT INTO plain (value) VALUES (1);\n"

BY_FUNCTION = r"""
\set s random(1, 1000)
\set t 1 + (:s + random(1, 998)) % 1000
\set n random(1, 9000000000000000000)
SELECT transfer(:n::bigint, :s, :t, 1);
"""
