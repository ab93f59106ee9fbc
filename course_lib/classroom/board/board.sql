-- What stands on a class's board: one row for each learner and exercise, and nothing of their code or output.
--
-- Learners reach it by functions only. Whose row it is says session_user, which no learner can change: not an argument,
-- and not current_user, which within these functions is the teacher. Every name is written with its schema, and
-- search_path is fixed, so that nothing of a caller's is found in the place of what is meant.

REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE SCHEMA IF NOT EXISTS board;

CREATE TABLE IF NOT EXISTS board.learners (
    learner name PRIMARY KEY,
    shown text NOT NULL DEFAULT '',            -- what the teacher calls them, from the roster
    on_board boolean NOT NULL DEFAULT true,    -- the learner's own switch
    window_began timestamptz NOT NULL DEFAULT '-infinity',
    window_taken integer NOT NULL DEFAULT 0    -- verdicts since then
);

CREATE TABLE IF NOT EXISTS board.standings (
    learner name NOT NULL REFERENCES board.learners ON DELETE CASCADE,
    exercise text NOT NULL,
    state text NOT NULL,                       -- of the latest verdict; right stays
    mistake text NOT NULL,                     -- its name, empty when right
    tries integer NOT NULL,                    -- verdicts on an answer, up to the first that was right
    first_try timestamptz,                     -- null while nothing was attempted
    passed_at timestamptz,
    seen_at timestamptz NOT NULL,              -- of the latest verdict
    PRIMARY KEY (learner, exercise)
);

-- the latest verdicts' ids, so that one that is sent again is not counted again
CREATE TABLE IF NOT EXISTS board.received (
    number bigint GENERATED ALWAYS AS IDENTITY,
    learner name NOT NULL REFERENCES board.learners ON DELETE CASCADE,
    id uuid NOT NULL,
    PRIMARY KEY (learner, id)
);

-- The caller's row, locked: calls of one learner come one after the other, and hold up nobody else.
CREATE OR REPLACE FUNCTION board.own_row() RETURNS board.learners
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine board.learners;
BEGIN
    SELECT * INTO mine FROM board.learners l WHERE l.learner = session_user FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO board.learners (learner) VALUES (session_user) ON CONFLICT DO NOTHING;
        SELECT * INTO mine FROM board.learners l WHERE l.learner = session_user FOR NO KEY UPDATE;
    END IF;
    RETURN mine;
END $$;

-- One verdict into its row. Whichever order they come in, right stays, and the latest one tells the mistake. Of two that
-- are close to each other it is the one that came last: what a verdict took on its way is in its time.
CREATE OR REPLACE FUNCTION board.stand(at timestamptz, the_exercise text, the_state text, the_mistake text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO board.standings AS s (learner, exercise, state, mistake, tries, first_try, passed_at, seen_at)
    SELECT session_user, the_exercise, the_state, the_mistake, tried::int, CASE WHEN tried THEN at END,
           CASE WHEN the_state = 'right' THEN at END, at
    FROM (SELECT the_state <> 'not attempted' AS tried) t
    ON CONFLICT (learner, exercise) DO UPDATE SET
        state = CASE WHEN 'right' IN (s.state, excluded.state) THEN 'right'
                     WHEN excluded.seen_at >= s.seen_at - interval '5 seconds' THEN excluded.state ELSE s.state END,
        mistake = CASE WHEN 'right' IN (s.state, excluded.state) THEN ''
                       WHEN excluded.seen_at >= s.seen_at - interval '5 seconds' THEN excluded.mistake ELSE s.mistake END,
        tries = least(s.tries + CASE WHEN excluded.first_try > s.passed_at THEN 0 ELSE excluded.tries END, 9999),
        first_try = least(s.first_try, excluded.first_try),
        passed_at = least(s.passed_at, excluded.passed_at),
        seen_at = greatest(s.seen_at, excluded.seen_at)
$$;

-- Verdicts of the caller: [{"id", "exercise", "state", "mistake", "age"}, …], with their age in seconds, since clocks
-- of laptops differ. Returns the ids that need not be sent again: taken, known, or nothing that can stand here.
-- What comes faster than anybody can check answers is left to be sent later.
CREATE OR REPLACE FUNCTION board.report(verdicts jsonb) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    in_a_window CONSTANT integer := 120;
    at_once CONSTANT integer := 100;
    exercises CONSTANT integer := 200;
    remembered CONSTANT integer := 200;
    mine board.learners;
    one record;
    done uuid[] := '{}';
    taken integer := 0;
BEGIN
    IF jsonb_typeof(verdicts) <> 'array' OR jsonb_array_length(verdicts) > at_once THEN
        RAISE EXCEPTION 'a list of at most % verdicts is wanted', at_once USING ERRCODE = 'invalid_parameter_value';
    END IF;
    mine := board.own_row();
    IF mine.window_began < now() - interval '1 minute' THEN
        mine.window_began := now();
        mine.window_taken := 0;
    END IF;
    FOR one IN
        SELECT v.*, now() - make_interval(secs => least(greatest(v.age, 0), 604800)) AS at,
               v.exercise ~ '^([0-9]{1,2}\.[0-9]{1,2}|[JMS][0-9]{1,2})$' AND v.state IN ('right', 'wrong', 'not attempted')
               AND length(v.mistake) <= 40 AND v.age IS NOT NULL AS fits
        FROM jsonb_to_recordset(verdicts) AS v(id uuid, exercise text, state text, mistake text, age double precision)
        WHERE v.id IS NOT NULL ORDER BY v.age DESC
    LOOP
        EXIT WHEN mine.window_taken + taken >= in_a_window;
        done := done || one.id;
        CONTINUE WHEN NOT mine.on_board OR one.fits IS NOT TRUE;
        CONTINUE WHEN EXISTS (SELECT FROM board.received r WHERE r.learner = session_user AND r.id = one.id);
        CONTINUE WHEN NOT EXISTS (SELECT FROM board.standings s WHERE s.learner = session_user AND s.exercise = one.exercise)
            AND (SELECT count(*) FROM board.standings s WHERE s.learner = session_user) >= exercises;
        INSERT INTO board.received (learner, id) VALUES (session_user, one.id);
        PERFORM board.stand(one.at, one.exercise, one.state, CASE WHEN one.state = 'right' THEN '' ELSE one.mistake END);
        taken := taken + 1;
    END LOOP;
    IF taken > 0 THEN
        UPDATE board.learners l SET window_began = mine.window_began, window_taken = mine.window_taken + taken
        WHERE l.learner = session_user;
        DELETE FROM board.received r WHERE r.learner = session_user AND r.number <= (
            SELECT k.number FROM board.received k WHERE k.learner = session_user
            ORDER BY k.number DESC OFFSET remembered LIMIT 1);
    END IF;
    RETURN done;
END $$;

-- Be on the board, or be on it no more: then what stood there of the caller is removed, and nothing is taken.
CREATE OR REPLACE FUNCTION board.show_me(wanted boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine board.learners := board.own_row();
BEGIN
    IF mine.on_board IS DISTINCT FROM wanted AND wanted IS NOT NULL THEN
        UPDATE board.learners l SET on_board = wanted WHERE l.learner = session_user;
    END IF;
    IF NOT wanted THEN
        DELETE FROM board.standings s WHERE s.learner = session_user;
    END IF;
END $$;

-- What the teacher sees of the caller; and whether the caller is on the board.
CREATE OR REPLACE FUNCTION board.mine() RETURNS SETOF board.standings
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT * FROM board.standings s WHERE s.learner = session_user
$$;

CREATE OR REPLACE FUNCTION board.am_i_shown() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT l.on_board FROM board.learners l WHERE l.learner = session_user), true)
$$;

REVOKE ALL ON SCHEMA board FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA board FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA board FROM PUBLIC;
