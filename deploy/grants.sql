-- What each role may do in the schema reliable_tasks; docs/security.md says who needs which. Run it as the owner of the
-- schema after each `reliable-tasks db upgrade`, as often as you like:  psql -v ON_ERROR_STOP=1 -f deploy/grants.sql
-- It makes five roles without login, for the whole server, and gives nobody any of them. Make users in them:
--   CREATE ROLE bank_worker LOGIN PASSWORD '...' IN ROLE reliable_worker;
-- Tables of your own are not in it: what tasks write to, grant to reliable_worker.

DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['reliable_producer', 'reliable_worker', 'reliable_services', 'reliable_operator',
                                'reliable_auditor'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA reliable_tasks FROM %I', role);
        EXECUTE format('GRANT USAGE ON SCHEMA reliable_tasks TO %I', role);
    END LOOP;
END $$;

-- whoever looks, and the exporter: everything, changing nothing
GRANT SELECT ON ALL TABLES IN SCHEMA reliable_tasks TO reliable_auditor, reliable_operator;

-- whoever sends tasks: with app.enqueue, countdown or eta, and whoever waits for results
GRANT INSERT, SELECT (id) ON reliable_tasks.outbox TO reliable_producer;
GRANT SELECT, INSERT ON reliable_tasks.results, reliable_tasks.task_ids TO reliable_producer;
GRANT SELECT, INSERT, UPDATE, DELETE ON reliable_tasks.group_results TO reliable_producer;
GRANT INSERT ON reliable_tasks.chords, reliable_tasks.chord_parts TO reliable_producer;

-- what runs tasks; of history it adds rows, and changes none
GRANT SELECT ON reliable_tasks.alembic_version TO reliable_worker, reliable_services;
GRANT SELECT, INSERT ON reliable_tasks.attempts, reliable_tasks.suppressed_deliveries, reliable_tasks.task_ids
   TO reliable_worker, reliable_services;
GRANT SELECT, INSERT, UPDATE ON reliable_tasks.claims, reliable_tasks.results, reliable_tasks.dead_letters
   TO reliable_worker, reliable_services;
GRANT SELECT ON reliable_tasks.key_watermark TO reliable_worker;
GRANT SELECT, INSERT ON reliable_tasks.outbox TO reliable_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON reliable_tasks.group_results, reliable_tasks.leased_messages,
      reliable_tasks.chord_parts TO reliable_worker;
GRANT SELECT, INSERT, UPDATE ON reliable_tasks.chords TO reliable_worker;

-- relay, collector, sweeper: beside that they send what waits in the outbox, take back leases and forget old keys
GRANT SELECT, INSERT, UPDATE, DELETE ON reliable_tasks.outbox TO reliable_services;
GRANT SELECT, INSERT, UPDATE ON reliable_tasks.key_watermark TO reliable_services;
GRANT SELECT, DELETE ON reliable_tasks.leased_messages TO reliable_services;
GRANT SELECT, UPDATE ON reliable_tasks.chords, reliable_tasks.chord_parts TO reliable_services;
GRANT DELETE ON reliable_tasks.claims TO reliable_services;
GRANT INSERT, SELECT (id) ON reliable_tasks.operator_actions TO reliable_services;

-- whoever replays, discards, cancels; each act leaves a row that nobody changes
GRANT INSERT ON reliable_tasks.operator_actions, reliable_tasks.task_ids TO reliable_operator;
GRANT INSERT, UPDATE ON reliable_tasks.results, reliable_tasks.claims TO reliable_operator;
GRANT UPDATE ON reliable_tasks.chords, reliable_tasks.chord_parts TO reliable_operator;
GRANT UPDATE ON reliable_tasks.dead_letters TO reliable_operator;
GRANT INSERT, DELETE ON reliable_tasks.outbox TO reliable_operator;

-- results are deleted through the view alone, which obeys legal holds and leaves a receipt: so the view's function
-- acts with its owner's rights, and nobody needs the right to delete from the table
ALTER FUNCTION reliable_tasks.delete_result() SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
GRANT DELETE ON reliable_tasks.celery_taskmeta TO reliable_producer, reliable_operator;
GRANT SELECT ON reliable_tasks.celery_taskmeta, reliable_tasks.celery_groupmeta TO reliable_producer;
DO $$
DECLARE name text;
BEGIN
    -- the same views under the names that old queries use, where they are ours and no tables of stock Celery
    FOR name IN SELECT viewname FROM pg_views
                 WHERE schemaname = 'public' AND viewname IN ('celery_taskmeta', 'celery_groupmeta') LOOP
        EXECUTE format('GRANT SELECT ON public.%I TO reliable_auditor, reliable_operator', name);
    END LOOP;
END $$;
