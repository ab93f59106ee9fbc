"""Triggers that write down in how many transactions passages were stored, and with how many a document got ready."""

WITNESS = """
    DO $do$ BEGIN
        CREATE SCHEMA judge;
        CREATE TABLE judge.writers (document_id uuid, xid xid8, PRIMARY KEY (document_id, xid));
        CREATE TABLE judge.made_ready (chunks bigint);
        CREATE FUNCTION judge.write_down() RETURNS trigger LANGUAGE plpgsql AS $writer$
        BEGIN
            INSERT INTO judge.writers SELECT id, pg_current_xact_id()
            FROM unnest(ARRAY[OLD.document_id, NEW.document_id]) AS id WHERE id IS NOT NULL ON CONFLICT DO NOTHING;
            RETURN NULL;
        END $writer$;
        CREATE TRIGGER write_down AFTER INSERT OR UPDATE OR DELETE ON document_chunks
        FOR EACH ROW EXECUTE FUNCTION judge.write_down();
        CREATE FUNCTION judge.count_chunks() RETURNS trigger LANGUAGE plpgsql AS $ready$
        BEGIN
            INSERT INTO judge.made_ready SELECT count(*) FROM document_chunks WHERE document_id = NEW.id;
            RETURN NULL;
        END $ready$;
        CREATE CONSTRAINT TRIGGER count_chunks AFTER UPDATE ON documents DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.status = 'ready') EXECUTE FUNCTION judge.count_chunks();
    END $do$
"""
WRITERS = "SELECT count(*) FROM judge.writers WHERE document_id = :id"
