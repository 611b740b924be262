-- The state of one controller, its audit trail and its feed.
--
-- What is constrained or asked for has a column; the rest of a record is JSON in `body`. No fact stands in both.
-- The words in CHECK constraints are those of the state machines: a test compares them, and a new word needs a new
-- migration.

CREATE TABLE head (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    controller TEXT    NOT NULL CHECK (length(controller) = 12),
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    batch      INTEGER NOT NULL CHECK (batch >= 0),
    audit      INTEGER NOT NULL CHECK (audit >= 0),
    event      INTEGER NOT NULL CHECK (event >= 0)
) STRICT;

CREATE TABLE labs (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    name       TEXT    NOT NULL UNIQUE AS (body ->> '$.topology.name') STORED,
    deleting   INTEGER NOT NULL CHECK (deleting = 0 OR deleting = 1),
    generation INTEGER NOT NULL CHECK (generation > 0),
    body       TEXT    NOT NULL
) STRICT;

CREATE TABLE nodes (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    lab        TEXT    NOT NULL REFERENCES labs (id),
    name       TEXT    NOT NULL,
    desired    TEXT    NOT NULL CHECK (desired = 'running' OR desired = 'stopped'),
    actual     TEXT    NOT NULL CHECK (actual = 'undeployed' OR actual = 'pending' OR actual = 'starting' OR actual = 'running' OR actual = 'stopping' OR actual = 'stopped' OR actual = 'exited' OR actual = 'error'),
    host       TEXT,
    job        TEXT,
    deleting   INTEGER NOT NULL CHECK (deleting = 0 OR deleting = 1),
    generation INTEGER NOT NULL CHECK (generation > 0),
    body       TEXT    NOT NULL,
    UNIQUE (lab, name)
) STRICT;

CREATE TABLE links (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    lab        TEXT    NOT NULL REFERENCES labs (id),
    key        TEXT    NOT NULL UNIQUE,
    desired    TEXT    NOT NULL CHECK (desired = 'up' OR desired = 'down'),
    actual     TEXT    NOT NULL CHECK (actual = 'unknown' OR actual = 'pending' OR actual = 'creating' OR actual = 'up' OR actual = 'down' OR actual = 'error'),
    host       TEXT,
    deleting   INTEGER NOT NULL CHECK (deleting = 0 OR deleting = 1),
    generation INTEGER NOT NULL CHECK (generation > 0),
    body       TEXT    NOT NULL
) STRICT;

CREATE INDEX links_by_lab ON links (lab);

-- The ends of links that no other link may use: an interface of a node, or one of a host. `host` is that of the link
-- and not known before the link is placed. A link that is being removed has given its ends up.
CREATE TABLE link_ends (
    link      TEXT    NOT NULL REFERENCES links (id) ON DELETE CASCADE,
    place     INTEGER NOT NULL CHECK (place = 0 OR place = 1),
    node      TEXT    REFERENCES nodes (id) DEFERRABLE INITIALLY DEFERRED,
    host      TEXT    CHECK (host IS NULL OR node IS NULL),
    interface TEXT    NOT NULL,
    given_up  INTEGER NOT NULL CHECK (given_up = 0 OR given_up = 1),
    PRIMARY KEY (link, place)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX link_ends_at_nodes ON link_ends (node, interface) WHERE given_up = 0;
CREATE UNIQUE INDEX link_ends_at_hosts ON link_ends (host, interface) WHERE given_up = 0;
CREATE INDEX link_ends_by_node ON link_ends (node);

-- A job outlives its lab and nodes, so it refers to neither.
CREATE TABLE jobs (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    lab        TEXT    NOT NULL,
    intent     TEXT    NOT NULL CHECK (intent = 'running' OR intent = 'stopped'),
    state      TEXT    NOT NULL CHECK (state = 'pending' OR state = 'running' OR state = 'completed' OR state = 'failed' OR state = 'cancelled'),
    generation INTEGER NOT NULL CHECK (generation > 0),
    body       TEXT    NOT NULL
) STRICT;

CREATE TABLE hosts (
    name       TEXT    NOT NULL PRIMARY KEY,
    state      TEXT    NOT NULL CHECK (state = 'unknown' OR state = 'online' OR state = 'degraded' OR state = 'offline'),
    generation INTEGER NOT NULL CHECK (generation > 0),
    body       TEXT    NOT NULL
) STRICT;

-- Rows of the audit trail outlive what they are about, so they refer to nothing.
CREATE TABLE audit (
    seq       INTEGER NOT NULL PRIMARY KEY,
    at        TEXT    NOT NULL,
    subject   TEXT    NOT NULL CHECK (subject = 'lab' OR subject = 'node' OR subject = 'link' OR subject = 'job' OR subject = 'host' OR subject = 'object'),
    id        TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    lab       TEXT,
    action    TEXT    NOT NULL CHECK (action = 'created' OR action = 'state_changed' OR action = 'desired_changed' OR action = 'placed' OR action = 'collected' OR action = 'deleted' OR action = 'refused'),
    "from"    TEXT,
    "to"      TEXT,
    "trigger" TEXT    NOT NULL CHECK ("trigger" = 'user_action' OR "trigger" = 'enforcement' OR "trigger" = 'sync' OR "trigger" = 'agent_response' OR "trigger" = 'node_report' OR "trigger" = 'placement' OR "trigger" = 'policy' OR "trigger" = 'drift'),
    result    TEXT    NOT NULL CHECK (result = 'success' OR result = 'rejected' OR result = 'failed'),
    body      TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_by_id ON audit (id);
CREATE INDEX audit_by_lab ON audit (lab) WHERE lab IS NOT NULL;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never changed');
END;

CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never removed');
END;

CREATE TABLE events (
    seq  INTEGER NOT NULL PRIMARY KEY,
    at   TEXT    NOT NULL,
    lab  TEXT,
    body TEXT    NOT NULL
) STRICT;
