-- Two gaps may begin at one moment, as of two volumes of an hour that can't be read: their reasons tell them apart.
ALTER TABLE hitmesh_gaps DROP CONSTRAINT hitmesh_gaps_pkey;
-- Of a reason only the digest: an entry of an index has 2,700 bytes at most.
CREATE UNIQUE INDEX hitmesh_gaps_key ON hitmesh_gaps (datacenter, recorder, since, md5(why));
