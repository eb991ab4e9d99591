-- +goose Up

-- Who takes jobs. A process counts its beats up; one whose count stands still is taken for dead.
CREATE TABLE job_processes (
	id {{text}} PRIMARY KEY,
	host {{text}} NOT NULL,
	started {{time}} NOT NULL,
	beats BIGINT NOT NULL
);

-- Jobs that are to end before they are done.
CREATE TABLE job_cancellations (
	kind {{text}} NOT NULL,
	job_key {{text}} NOT NULL,
	asked {{time}} NOT NULL,
	PRIMARY KEY (kind, job_key)
);
