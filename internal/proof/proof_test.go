package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/proof"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
)

var start = time.Date(2026, time.March, 1, 22, 0, 0, 0, time.UTC)

const documents = "kind: Repository\nname: hot\nurl: /srv/hot\n---\nkind: Repository\nname: shelf\nurl: azblob://account/container/shelf\nregion: westeurope\ntier: archive\n"

// world is a database with two machines, of which each has a backup, and one an archive too.
type world struct {
	t      *testing.T
	db     *database.DB
	clock  *clock.Manual
	reads  []string
	finds  map[string]proof.Found
	fails  error
	closed []holdfast.Session
	proof  *proof.Proof
}

// Prove implements proof.Prover.
func (w *world) Prove(_ context.Context, repository string) (proof.Found, error) {
	w.reads = append(w.reads, repository)
	return w.finds[repository], w.fails
}

func vm(name string) holdfast.ResourceID {
	return holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "shop", "Microsoft.Compute/virtualMachines", name)
}

func newWorld(t *testing.T, db *database.DB) *world {
	w := &world{t: t, db: db, clock: clock.NewManual(start.Add(time.Hour)), finds: map[string]proof.Found{}}
	w.proof = proof.New(proof.Config{Database: db, Prover: w, Clock: w.clock, Log: slog.New(slog.DiscardHandler), Closed: func(_ context.Context, _ database.Tx, s holdfast.Session) error {
		w.closed = append(w.closed, s)
		return nil
	}})
	w.write(func(ctx context.Context, tx database.Tx) error {
		for i, text := range strings.Split(documents, "---\n") {
			if err := store.PutDocument(ctx, tx, store.Document{Kind: "Repository", Name: []string{"hot", "shelf"}[i], YAML: text, Updated: start, Author: "test"}); err != nil {
				return err
			}
		}
		for _, p := range []retention.Point{
			{ID: "20260301-220000-00000001", VM: vm("one"), Kind: holdfast.PointBackup, Repository: "hot"},
			{ID: "20260301-220000-00000002", VM: vm("two"), Kind: holdfast.PointBackup, Repository: "hot"},
			{ID: "20260301-220000-00000003", VM: vm("two"), Kind: holdfast.PointArchive, Repository: "shelf"},
			{ID: "20260301-220000-00000004", VM: vm("one"), Kind: holdfast.PointSnapshot},
		} {
			p.Policy, p.Created, p.Good, p.Region = "nightly", start, true, "westeurope"
			if err := store.PutPoint(ctx, tx, store.Point{Point: p, State: store.PointKept}); err != nil {
				return err
			}
		}
		return nil
	})
	w.begin("s-1")
	return w
}

func (w *world) write(do func(ctx context.Context, tx database.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) begin(id holdfast.RunID) {
	w.write(func(ctx context.Context, tx database.Tx) error {
		_, err := store.BeginSession(ctx, tx, store.NewSession{Session: holdfast.Session{ID: id, Type: holdfast.SessionHealthCheck, Policy: "nightly", Queued: w.clock.Now()}, Key: string(id)})
		return err
	})
}

// check runs a check, and returns what it came to: of the session, of each machine, and of each point.
func (w *world) check(id holdfast.RunID) (holdfast.Session, map[string]holdfast.SessionItem, map[string]store.Point) {
	w.t.Helper()
	if err := w.proof.Check(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	var s holdfast.Session
	items, points := map[string]holdfast.SessionItem{}, map[string]store.Point{}
	err := w.db.Read(w.t.Context(), func(ctx context.Context, q store.Query) (err error) {
		if s, err = store.SessionOf(ctx, q, id); err != nil {
			return err
		}
		all, err := store.Items(ctx, q, id)
		if err != nil {
			return err
		}
		for _, i := range all {
			items[i.VM.Name()] = i
		}
		rows, err := store.Points(ctx, q, store.PointFilter{}, store.Page{})
		for _, p := range rows {
			points[string(p.ID[len(p.ID)-1:])] = p
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return s, items, points
}

// TestCheck goes through what a check finds: everything whole, one point damaged, healed again, nothing to be read.
func TestCheck(t *testing.T) {
	databasetest.Each(t, database.Options{Migrations: store.Migrations()}, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db)
		s, items, points := w.check("s-1")
		if s.State != holdfast.StateDone || s.Outcome != holdfast.OutcomeWarning || len(w.closed) != 1 {
			t.Errorf("%+v, told %d times", s, len(w.closed))
		}
		if items["one"].Outcome != holdfast.OutcomeSuccess || items["two"].Outcome != holdfast.OutcomeWarning || !strings.Contains(items["two"].Message, "archive tier") {
			t.Errorf("%+v", items)
		}
		for id, level := range map[string]int{"1": 2, "2": 2, "3": 0, "4": 0} {
			if p := points[id]; p.ProofLevel != level || p.Good != true || level > 0 && !p.Proved.Equal(w.clock.Now()) {
				t.Errorf("point %s: level %d, proved %v", id, p.ProofLevel, p.Proved)
			}
		}
		if len(w.reads) != 1 {
			t.Errorf("read %v: each repository once, and none in the archive tier", w.reads)
		}

		w.clock.Advance(24 * time.Hour)
		w.begin("s-2")
		w.finds["hot"] = proof.Found{Damaged: []holdfast.PointID{"20260301-220000-00000001"}}
		s, items, points = w.check("s-2")
		if s.Outcome != holdfast.OutcomeError || items["one"].Outcome != holdfast.OutcomeError || !strings.Contains(items["one"].Message, "damaged") || items["one"].Hint == "" {
			t.Errorf("%+v %+v", s, items["one"])
		}
		if p := points["1"]; p.Good || p.ProofLevel != 0 {
			t.Errorf("a damaged point: %+v", p)
		}

		w.clock.Advance(24 * time.Hour)
		w.begin("s-3")
		w.finds["hot"] = proof.Found{}
		_, items, points = w.check("s-3")
		if p := points["1"]; !p.Good || p.ProofLevel != 2 || items["one"].Outcome != holdfast.OutcomeSuccess {
			t.Errorf("a point that was healed: %+v, %+v", p, items["one"])
		}

		w.clock.Advance(time.Minute)
		w.begin("s-4")
		w.fails = errors.New("the storage is gone")
		_, items, points = w.check("s-4")
		if p := points["1"]; !p.Good || p.ProofLevel != 2 || items["one"].Outcome != holdfast.OutcomeError || !strings.Contains(items["one"].Message, "gone") {
			t.Errorf("what cannot be read says nothing of points: %+v, %+v", p, items["one"])
		}
	})
}

// TestCheck_Again proves that a check which died is run again from its beginning, and that one which is over is left alone.
func TestCheck_Again(t *testing.T) {
	w := newWorld(t, databasetest.Open(t, databasetest.SQLite(t), database.Options{Migrations: store.Migrations()}))
	ctx, die := context.WithCancel(t.Context())
	die()
	if err := w.proof.Check(ctx, "s-1"); err == nil {
		t.Error("a check without a context ended")
	}
	w.check("s-1")
	w.check("s-1")
	if len(w.reads) != 1 || len(w.closed) != 1 {
		t.Errorf("read %v, ended %d times", w.reads, len(w.closed))
	}
}

// queue keeps what is enqueued.
type queue struct{ jobs []jobs.Job }

// Enqueue implements jobs.Enqueuer.
func (q *queue) Enqueue(_ context.Context, _ database.Tx, job jobs.Job) (bool, error) {
	q.jobs = append(q.jobs, job)
	return false, nil
}

// TestFollower proves that a check follows the session whose intent asks for one, once, and no other session.
func TestFollower(t *testing.T) {
	w := newWorld(t, databasetest.Open(t, databasetest.SQLite(t), database.Options{Migrations: store.Migrations()}))
	q := &queue{}
	f := proof.Follower{Jobs: q, NewID: func() holdfast.RunID { return holdfast.RunID("check-" + string(rune('0'+len(q.jobs)))) }}
	for id, intent := range map[holdfast.RunID]plan.Intent{"p-1": {Policy: "nightly", CheckAfter: true}, "p-2": {Policy: "nightly"}} {
		s := holdfast.Session{ID: id, Type: holdfast.SessionPolicy, Policy: "nightly", Queued: start, Ended: start.Add(time.Minute), Outcome: holdfast.OutcomeSuccess}
		for range 2 {
			w.write(func(ctx context.Context, tx database.Tx) error {
				if _, err := store.BeginSession(ctx, tx, store.NewSession{Session: s, Key: string(id), Intent: intent}); err != nil {
					return err
				}
				return f.Closed(ctx, tx, s)
			})
		}
	}
	if len(q.jobs) != 1 {
		t.Fatalf("%d checks", len(q.jobs))
	}
	var arguments struct{ Session holdfast.RunID }
	if err := json.Unmarshal(q.jobs[0].Arguments, &arguments); err != nil || string(arguments.Session) != q.jobs[0].Key {
		t.Errorf("%+v, %v", q.jobs[0], err)
	}
}
