-- +goose Up

-- Instants are milliseconds since 1970 in UTC; 0 stands for none. JSON is kept as text that nothing here looks into.

CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

-- What is known once and for all, such as the id of the installation.
CREATE TABLE facts (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- What people wrote down, one row for each document, in its canonical YAML.
CREATE TABLE documents (
    kind    TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    version BIGINT NOT NULL, -- of this document, from 1 on; goes on when one of that name is made again
    yaml    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    author  TEXT   NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE document_versions (
    kind    TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    version BIGINT  NOT NULL,
    yaml    TEXT    NOT NULL, -- '' of a removal
    at      BIGINT  NOT NULL,
    author  TEXT    NOT NULL,
    PRIMARY KEY (kind, name, version)
);

CREATE TABLE machines (
    vm            TEXT   NOT NULL PRIMARY KEY, -- the id in lower case
    body          TEXT   NOT NULL,
    first_seen    BIGINT NOT NULL,
    last_seen     BIGINT NOT NULL,
    gone          BIGINT NOT NULL, -- when a direct read confirmed that it was deleted
    policy        TEXT   NOT NULL, -- that protects it, as of the last decision
    policy_kind   TEXT   NOT NULL,
    why           TEXT   NOT NULL
);

CREATE TABLE tracks (
    policy  TEXT   NOT NULL,
    region  TEXT   NOT NULL,
    kind    TEXT   NOT NULL,
    decided BIGINT NOT NULL,
    next    BIGINT NOT NULL,
    PRIMARY KEY (policy, region, kind)
);

CREATE TABLE requests (
    id      TEXT   NOT NULL PRIMARY KEY,
    policy  TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    author  TEXT   NOT NULL
);

CREATE TABLE retries (
    id     TEXT   NOT NULL PRIMARY KEY,
    policy TEXT   NOT NULL,
    due    BIGINT NOT NULL,
    body   TEXT   NOT NULL
);

CREATE TABLE sessions (
    id          TEXT    NOT NULL PRIMARY KEY,
    natural_key TEXT    NOT NULL UNIQUE, -- of the intent it carries out: one intent, one session
    type        TEXT    NOT NULL,
    policy      TEXT    NOT NULL,
    region      TEXT    NOT NULL,
    slot        BIGINT  NOT NULL,
    manual      BOOLEAN NOT NULL,
    author      TEXT    NOT NULL,
    intent      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    message     TEXT    NOT NULL,
    stopping    BOOLEAN NOT NULL,
    queued      BIGINT  NOT NULL,
    started     BIGINT  NOT NULL,
    ended       BIGINT  NOT NULL
);
CREATE INDEX sessions_by_time ON sessions (queued, id);
CREATE INDEX sessions_by_policy ON sessions (policy, queued);
CREATE INDEX sessions_by_end ON sessions (ended);
CREATE INDEX sessions_open ON sessions (state) WHERE state <> 'done';

CREATE TABLE items (
    session       TEXT    NOT NULL,
    vm            TEXT    NOT NULL,
    id            TEXT    NOT NULL, -- of the machine, as Azure writes it
    region        TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    message       TEXT    NOT NULL,
    hint          TEXT    NOT NULL,
    attempts      BIGINT  NOT NULL,
    epoch         BIGINT  NOT NULL,
    next_at       BIGINT  NOT NULL,
    started       BIGINT  NOT NULL,
    ended         BIGINT  NOT NULL,
    backs_up      BOOLEAN NOT NULL, -- it makes a backup or an archive
    makes         TEXT    NOT NULL, -- what this attempt makes
    progress      TEXT    NOT NULL, -- of one that runs; '' when nothing is known
    total_bytes   BIGINT  NOT NULL,
    read_bytes    BIGINT  NOT NULL,
    stored_bytes  BIGINT  NOT NULL,
    saved_bytes   BIGINT  NOT NULL,
    audited_bytes BIGINT  NOT NULL,
    PRIMARY KEY (session, vm)
);
CREATE INDEX items_by_machine ON items (vm, session);
CREATE INDEX items_open ON items (state, vm) WHERE state <> 'done';

CREATE TABLE log_lines (
    session TEXT   NOT NULL,
    number  BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    vm      TEXT   NOT NULL,
    level   TEXT   NOT NULL,
    text    TEXT   NOT NULL,
    PRIMARY KEY (session, number)
);

CREATE TABLE points (
    id           TEXT    NOT NULL,
    vm           TEXT    NOT NULL,
    vm_id        TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    state        TEXT    NOT NULL, -- making, kept, removing, removed
    session      TEXT    NOT NULL,
    policy       TEXT    NOT NULL,
    slot         BIGINT  NOT NULL,
    created      BIGINT  NOT NULL,
    flags        TEXT    NOT NULL,
    like_flag    TEXT    NOT NULL,
    repository   TEXT    NOT NULL,
    region       TEXT    NOT NULL,
    good         BOOLEAN NOT NULL,
    manual       BOOLEAN NOT NULL,
    temporary    BOOLEAN NOT NULL,
    base_for     TEXT    NOT NULL, -- JSON list of repositories whose next backup is compared with it
    outdated     BOOLEAN NOT NULL,
    locked_until BIGINT  NOT NULL,
    keep         TEXT    NOT NULL,
    consistency  TEXT    NOT NULL,
    snapshots    TEXT    NOT NULL, -- a set of snapshots with all names, from before they are made
    copied_from  TEXT    NOT NULL, -- of an archive: the backup it is a copy of
    total_bytes  BIGINT  NOT NULL,
    read_bytes   BIGINT  NOT NULL,
    stored_bytes BIGINT  NOT NULL,
    proof_level  BIGINT  NOT NULL,
    proved       BIGINT  NOT NULL,
    removed      BIGINT  NOT NULL,
    removed_why  TEXT    NOT NULL,
    let_go_in    TEXT    NOT NULL, -- the session in which retention let it go
    PRIMARY KEY (id, repository) -- ids are made by each repository for itself
);
CREATE INDEX points_by_machine ON points (vm, created);
CREATE INDEX points_by_time ON points (created, id);
CREATE INDEX points_by_session ON points (session);
CREATE INDEX points_by_end ON points (let_go_in) WHERE let_go_in <> '';
CREATE INDEX points_unfinished ON points (state) WHERE state IN ('making', 'removing');

-- The ledger: what was applied to it since its last snapshot, and that.
CREATE TABLE ledger_events (
    number BIGINT NOT NULL PRIMARY KEY,
    type   TEXT   NOT NULL,
    body   TEXT   NOT NULL
);

CREATE TABLE ledger_snapshots (
    number BIGINT NOT NULL PRIMARY KEY, -- of the last event in it
    body   TEXT   NOT NULL
);

-- Expectations that ended. Rows are never changed. There are many of them: no JSON, and no index that nothing asks for.
CREATE TABLE expectations (
    policy           TEXT   NOT NULL,
    vm               TEXT   NOT NULL,
    kind             TEXT   NOT NULL,
    flag             TEXT   NOT NULL,
    slot             BIGINT NOT NULL,
    id               TEXT   NOT NULL, -- of the machine, as Azure writes it
    policy_version   BIGINT NOT NULL,
    template         TEXT   NOT NULL,
    template_version BIGINT NOT NULL,
    region           TEXT   NOT NULL,
    opens            BIGINT NOT NULL,
    closes           BIGINT NOT NULL,
    deadline         BIGINT NOT NULL,
    entry            TEXT   NOT NULL,
    state            TEXT   NOT NULL,
    reason           TEXT   NOT NULL,
    ended            BIGINT NOT NULL,
    point            TEXT   NOT NULL,
    PRIMARY KEY (policy, kind, flag, slot, vm)
);
CREATE INDEX expectations_by_machine ON expectations (vm, slot);
CREATE INDEX expectations_by_entry ON expectations (policy, kind, flag, entry);

-- Entries of charts that closed. A row is changed once, when its share of proven points freezes.
CREATE TABLE periods (
    policy   TEXT   NOT NULL,
    kind     TEXT   NOT NULL,
    flag     TEXT   NOT NULL,
    entry    TEXT   NOT NULL,
    closed   BIGINT NOT NULL,
    body     TEXT   NOT NULL,
    machines TEXT   NOT NULL, -- what became of the slots of each: a line of counts and its id
    PRIMARY KEY (policy, kind, flag, entry)
);

-- The record: what happened, in the words of a preview. Rows are never changed.
CREATE TABLE events (
    number BIGINT NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    vm     TEXT   NOT NULL,
    policy TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    slot   BIGINT NOT NULL,
    point  TEXT   NOT NULL,
    flags  TEXT   NOT NULL,
    reason TEXT   NOT NULL
);
CREATE INDEX events_by_time ON events (at, number);
CREATE INDEX events_by_machine ON events (vm, number);

CREATE TABLE users (
    name    TEXT   NOT NULL PRIMARY KEY,
    body    TEXT   NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE tokens (
    hash    TEXT   NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL,
    expires BIGINT NOT NULL,
    body    TEXT   NOT NULL
);
CREATE INDEX tokens_by_user ON tokens (user_name);

CREATE TABLE secrets (
    name   TEXT      NOT NULL PRIMARY KEY,
    sealed {{bytes}} NOT NULL
);

-- What people and other programs are told: a row for each copy. It is delivered or given up once, and then keeps its head alone.
CREATE TABLE messages (
    id        TEXT   NOT NULL PRIMARY KEY, -- of the delivery: the same event for the same address always has the same
    kind      TEXT   NOT NULL, -- mail, or a post to a webhook
    topic     TEXT   NOT NULL, -- names the event
    session   TEXT   NOT NULL,
    address   TEXT   NOT NULL,
    title     TEXT   NOT NULL,
    created   BIGINT NOT NULL,
    due       BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    given_up  BIGINT NOT NULL,
    attempts  BIGINT NOT NULL,
    failure   TEXT   NOT NULL, -- of the last attempt
    body      TEXT   NOT NULL
);
CREATE INDEX messages_by_time ON messages (created, id);
CREATE INDEX messages_open ON messages (due) WHERE delivered = 0 AND given_up = 0;

-- Answers to writes that named an idempotency key.
CREATE TABLE idempotency (
    key      TEXT      NOT NULL PRIMARY KEY,
    at       BIGINT    NOT NULL,
    request  TEXT      NOT NULL, -- a hash of what was asked
    answered BOOLEAN   NOT NULL,
    status   BIGINT    NOT NULL,
    type     TEXT      NOT NULL,
    body     {{bytes}} NOT NULL  -- sealed
);

-- +goose Down
