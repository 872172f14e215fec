CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  model TEXT NOT NULL,
  idempotency_key TEXT,
  digest TEXT NOT NULL,
  state TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  rows BIGINT,
  chunks BIGINT,
  done_rows BIGINT NOT NULL,
  done_chunks BIGINT NOT NULL,
  plan TEXT,
  created_at DOUBLE PRECISION NOT NULL,
  executed_at DOUBLE PRECISION,
  finished_at DOUBLE PRECISION,
  turn BIGINT NOT NULL,
  error TEXT,
  trace TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_idempotency ON jobs (owner, idempotency_key);
CREATE TABLE IF NOT EXISTS chunks (
  job TEXT NOT NULL,
  number BIGINT NOT NULL,
  first_row BIGINT NOT NULL,
  rows BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  crashes BIGINT NOT NULL,
  lease TEXT,
  due_at DOUBLE PRECISION NOT NULL,
  result TEXT,
  PRIMARY KEY (job, number)
);
CREATE INDEX IF NOT EXISTS chunks_open ON chunks (job, number) WHERE result IS NULL;
CREATE INDEX IF NOT EXISTS jobs_active ON jobs (model) WHERE state IN ('pending', 'in_progress');
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (owner, state);
CREATE INDEX IF NOT EXISTS jobs_turn ON jobs (turn);
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (finished_at);
CREATE INDEX IF NOT EXISTS jobs_created ON jobs (owner, created_at);
CREATE INDEX IF NOT EXISTS jobs_bytes ON jobs (bytes)
