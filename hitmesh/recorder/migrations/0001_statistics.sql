-- What each instance counted up to the end of a minute: its figures grow from the start of its process on.
CREATE TABLE hitmesh_statistics (
    minute     timestamptz NOT NULL,
    datacenter text        NOT NULL,
    role       text        NOT NULL,
    instance   text        NOT NULL,
    process    text        NOT NULL,  -- another one: its figures began anew
    recorder   text        NOT NULL,  -- who brought it here
    figures    jsonb       NOT NULL,
    PRIMARY KEY (datacenter, instance, minute)
);
CREATE INDEX hitmesh_statistics_minute ON hitmesh_statistics (minute);

-- How far each recorder has brought here what its volumes have.
CREATE TABLE hitmesh_recorders (
    datacenter text        NOT NULL,
    recorder   text        NOT NULL,
    volume     bigint      NOT NULL,
    place      bigint      NOT NULL,  -- bytes of that volume
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (datacenter, recorder)
);

-- When a recorder couldn't bring anything here, or couldn't keep what came, and what became of it.
CREATE TABLE hitmesh_gaps (
    datacenter text        NOT NULL,
    recorder   text        NOT NULL,
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    filled     bigint      NOT NULL,  -- rows that were brought here afterwards
    missing    bigint,                -- entries, of which some are rows, that were lost; null: nobody knows
    why        text        NOT NULL,
    PRIMARY KEY (datacenter, recorder, since)
);
