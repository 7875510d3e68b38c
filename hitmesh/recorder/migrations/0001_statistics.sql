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
CREATE INDEX hitmesh_statistics_recorder ON hitmesh_statistics (datacenter, recorder, minute);

-- When a recorder couldn't bring anything here, and what became of it.
CREATE TABLE hitmesh_gaps (
    datacenter text        NOT NULL,
    recorder   text        NOT NULL,
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    filled     bigint      NOT NULL,  -- rows that were brought here afterwards
    missing    bigint      NOT NULL,  -- entries, of which some are rows, that were lost meanwhile
    why        text        NOT NULL,
    PRIMARY KEY (datacenter, recorder, since)
);
