package store_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

const (
	web = holdfast.ResourceID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/Web-1")
	db1 = holdfast.ResourceID("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/db-1")
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// both runs a test on SQLite, and on PostgreSQL where it is installed.
func both(t *testing.T, run func(t *testing.T, w world)) {
	t.Helper()
	databasetest.Each(t, database.Options{Migrations: store.Migrations()}, func(t *testing.T, db *database.DB) { run(t, world{t, db}) })
}

type world struct {
	t  *testing.T
	db *database.DB
}

func (w world) write(do func(ctx context.Context, tx store.Query) error) {
	w.t.Helper()
	w.change(func(ctx context.Context, tx database.Tx) error { return do(ctx, tx) })
}

func (w world) change(do func(ctx context.Context, tx database.Tx) error) {
	w.t.Helper()
	if err := w.db.Write(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

func (w world) read(do func(ctx context.Context, q store.Query) error) {
	w.t.Helper()
	if err := w.db.Read(w.t.Context(), do); err != nil {
		w.t.Fatal(err)
	}
}

// Each version of a document stays, removals too; a document that is made again goes on counting.
func TestDocuments_VersionsStay(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		put := func(yaml string, at time.Time) {
			w.write(func(ctx context.Context, tx store.Query) error {
				return store.PutDocument(ctx, tx, store.Document{Kind: "SLAPolicy", Name: "gold", YAML: yaml, Updated: at, Author: "ada"})
			})
		}
		put("one", noon)
		put("two", noon.Add(time.Hour))
		w.write(func(ctx context.Context, tx store.Query) error {
			return store.RemoveDocument(ctx, tx, "SLAPolicy", "gold", "bob", noon.Add(2*time.Hour))
		})
		put("three", noon.Add(3*time.Hour))
		w.read(func(ctx context.Context, q store.Query) error {
			all, err := store.Documents(ctx, q)
			if err != nil || len(all) != 1 || all[0].Version != 4 || all[0].YAML != "three" || !all[0].Updated.Equal(noon.Add(3*time.Hour)) {
				t.Errorf("%+v, %v", all, err)
			}
			versions, err := store.Versions(ctx, q, "SLAPolicy", "gold")
			var texts []string
			for _, v := range versions {
				texts = append(texts, fmt.Sprint(v.Version, v.YAML, v.Author))
			}
			if want := []string{"4threeada", "3bob", "2twoada", "1oneada"}; err != nil || !slices.Equal(texts, want) {
				t.Errorf("%v, %v", texts, err)
			}
			changes, err := store.Counted(ctx, q, store.CounterDocuments)
			if err != nil || changes != 4 {
				t.Errorf("%d changes were counted, %v", changes, err)
			}
			return nil
		})
		err := w.db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error {
			return store.RemoveDocument(ctx, tx, "SLAPolicy", "silver", "bob", noon)
		})
		if !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("what is not there was removed: %v", err)
		}
	})
}

// What was decided is read back as it was written, with what is in work; requests and retries that were taken are gone.
func TestPlanState_RoundTrip(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		key := plan.TrackKey{Policy: "gold", Region: "westeurope", Kind: holdfast.PointBackup}
		before := plan.State{Tracks: map[plan.TrackKey]plan.Track{key: {Decided: noon, Next: noon.Add(time.Hour)}}, Pass: noon.Add(12 * time.Hour)}
		again := plan.Again{Policy: "gold", Slot: noon, Attempt: 2, Due: noon.Add(time.Minute), Makes: []plan.Making{{Kind: holdfast.PointBackup, Flags: holdfast.Flags(holdfast.Daily), Repository: "hot"}}}
		w.write(func(ctx context.Context, tx store.Query) error {
			if err := store.SavePlanState(ctx, tx, plan.State{}, before, noon); err != nil {
				return err
			}
			for range 2 {
				if err := store.PutRetry(ctx, tx, "one", again); err != nil {
					return err
				}
				if err := store.PutRequest(ctx, tx, "two", "gold", "ada", noon.Add(2*time.Minute)); err != nil {
					return err
				}
			}
			return nil
		})
		var state plan.State
		w.read(func(ctx context.Context, q store.Query) (err error) {
			state, _, err = store.PlanState(ctx, q)
			return err
		})
		if state.Tracks[key] != before.Tracks[key] || !state.Pass.Equal(before.Pass) || len(state.Requests) != 1 || len(state.Retries) != 1 || !reflect.DeepEqual(state.Retries[0].Makes, again.Makes) {
			t.Errorf("%+v", state)
		}
		after := state
		after.Tracks, after.Retries = map[plan.TrackKey]plan.Track{}, nil
		w.write(func(ctx context.Context, tx store.Query) error {
			return store.SavePlanState(ctx, tx, state, after, noon.Add(time.Minute))
		})
		w.read(func(ctx context.Context, q store.Query) error {
			now, decided, err := store.PlanState(ctx, q)
			if len(now.Tracks) > 0 || len(now.Retries) > 0 || len(now.Requests) != 1 || !decided {
				t.Errorf("%+v, %v", now, decided)
			}
			return err
		})
	})
}

func begin(w world, id holdfast.RunID, key string, vms ...holdfast.ResourceID) (begun bool) {
	n := store.NewSession{Session: holdfast.Session{ID: id, Type: holdfast.SessionPolicy, Policy: "gold", Slot: noon, Queued: noon}, Key: key, Intent: plan.Intent{Policy: "gold"}}
	for _, vm := range vms {
		n.Items = append(n.Items, store.NewItem{VM: vm, Region: "westeurope", Makes: []plan.Making{{Kind: holdfast.PointBackup, Repository: "hot"}}})
	}
	w.write(func(ctx context.Context, tx store.Query) (err error) {
		begun, err = store.BeginSession(ctx, tx, n)
		return err
	})
	return begun
}

// An intent gets one session. A claim takes an item from whoever had it, whose writes are refused from then on; the last item that ends lets the
// session end, once.
func TestSessions_ClaimsAndEnds(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		if !begin(w, "a", "key", web, db1) || begin(w, "b", "key", web) {
			t.Fatal("one intent, one session")
		}
		claim := func(vm holdfast.ResourceID) (c store.Claimed, claimed bool) {
			w.write(func(ctx context.Context, tx store.Query) (err error) {
				c, claimed, err = store.ClaimItem(ctx, tx, "a", vm, noon)
				return err
			})
			return c, claimed
		}
		first, _ := claim(web)
		second, claimed := claim(web)
		if !claimed || second.Attempts != 1 || second.Epoch != first.Epoch+1 || second.VM != web || second.Session.State != holdfast.StateRunning {
			t.Errorf("%+v", second)
		}
		first.State, first.Outcome = holdfast.StateDone, holdfast.OutcomeSuccess
		err := w.db.Write(t.Context(), func(ctx context.Context, tx database.Tx) error { return store.PutItem(ctx, tx, first.SessionItem) })
		if !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Errorf("a worker that was given up wrote: %v", err)
		}
		var told []holdfast.Session
		end := func(c store.Claimed, outcome holdfast.Outcome) (closed bool) {
			w.change(func(ctx context.Context, tx database.Tx) (err error) {
				c.State, c.Outcome, c.Ended, c.Bytes.Read = holdfast.StateDone, outcome, noon.Add(time.Hour), 1<<40
				if err := store.PutItem(ctx, tx, c.SessionItem); err != nil {
					return err
				}
				closed, err = store.CloseSession(ctx, tx, "a", noon.Add(time.Hour), func(_ context.Context, _ database.Tx, s holdfast.Session) error {
					told = append(told, s)
					return nil
				})
				return err
			})
			return closed
		}
		other, _ := claim(db1)
		if end(second, holdfast.OutcomeSuccess) || !end(other, holdfast.OutcomeWarning) {
			t.Error("the session ends with its last item")
		}
		if len(told) != 1 || told[0].State != holdfast.StateDone || told[0].Outcome != holdfast.OutcomeWarning || told[0].Items.Total != 2 {
			t.Errorf("of the session's end was told %+v", told)
		}
		w.change(func(ctx context.Context, tx database.Tx) error {
			ended, err := store.EndSession(ctx, tx, store.Ending{Session: "a", Outcome: holdfast.OutcomeError, At: noon}, func(context.Context, database.Tx, holdfast.Session) error {
				t.Error("a second end was told")
				return nil
			})
			if ended {
				t.Error("a session ended twice")
			}
			return err
		})
		if _, claimed := claim(web); claimed {
			t.Error("an item that is done was claimed")
		}
		w.read(func(ctx context.Context, q store.Query) error {
			s, err := store.SessionOf(ctx, q, "a")
			if s.Outcome != holdfast.OutcomeWarning || s.Items.Success != 1 || s.Items.Warning != 1 || s.Bytes.Read != 2<<40 || !s.Ended.Equal(noon.Add(time.Hour)) {
				t.Errorf("%+v", s)
			}
			return err
		})
	})
}

// Lists go from the newest on, page by page, and every filter leaves out what it should.
func TestSessions_PagesAndFilters(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		for i := range 7 {
			begin(w, holdfast.RunID(fmt.Sprint("s", i)), fmt.Sprint(i), []holdfast.ResourceID{web, db1}[i%2])
		}
		var seen []string
		w.read(func(ctx context.Context, q store.Query) error {
			for page := (store.Page{Limit: 3}); ; page.After = seen[len(seen)-1] {
				some, err := store.Sessions(ctx, q, store.Filter{Policy: "gold", States: []holdfast.State{holdfast.StateQueued}}, page)
				if err != nil || len(some) == 0 {
					return err
				}
				for _, s := range some {
					seen = append(seen, string(s.ID))
				}
			}
		})
		if want := []string{"s6", "s5", "s4", "s3", "s2", "s1", "s0"}; !slices.Equal(seen, want) {
			t.Errorf("%v", seen)
		}
		w.read(func(ctx context.Context, q store.Query) error {
			for what, f := range map[string]store.Filter{
				"of a machine":  {VM: "/SUBSCRIPTIONS/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/DB-1"},
				"of a type":     {Types: []holdfast.SessionType{holdfast.SessionRetention}},
				"of an outcome": {Outcomes: []holdfast.Outcome{holdfast.OutcomeError}},
				"of a time":     {From: noon.Add(time.Minute)},
			} {
				some, err := store.Sessions(ctx, q, f, store.Page{})
				want := 0
				if what == "of a machine" {
					want = 3
				}
				if err != nil || len(some) != want {
					t.Errorf("%s: %d, %v", what, len(some), err)
				}
			}
			return nil
		})
	})
}

// A point is read back as it was written, with all that retention remembers; its base moves from snapshot to snapshot.
func TestPoints_RoundTrip(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		p := store.Point{
			Point: retention.Point{
				ID: "20260301-120000-00000001", VM: web, Kind: holdfast.PointSnapshot, Policy: "gold", Slot: noon, Created: noon, Flags: holdfast.Flags(holdfast.Daily).With(holdfast.Weekly), Region: "westeurope",
				Good: true, Like: holdfast.Monthly, Keep: retention.Keep{}.With(holdfast.Daily, retention.Newest(3)), LockedUntil: noon.Add(time.Hour),
			},
			Name: "Web-1", State: store.PointKept, Session: "a", Consistency: holdfast.ConsistencyCrash, ProofLevel: 2, Proved: noon,
		}
		p = p.WithSet(holdfast.SnapshotSet{Point: p.ID, VM: web, Disks: []holdfast.SetDisk{{LUN: "0", SizeBytes: 1 << 40}}})
		other := p
		other.ID, other.Flags = "20260301-130000-00000002", 0
		w.write(func(ctx context.Context, tx store.Query) error {
			for _, one := range []store.Point{p, other, p} {
				if err := store.PutPoint(ctx, tx, one); err != nil {
					return err
				}
			}
			if err := store.Rebase(ctx, tx, web, "hot", p.ID); err != nil {
				return err
			}
			return store.Rebase(ctx, tx, web, "hot", other.ID)
		})
		w.read(func(ctx context.Context, q store.Query) error {
			all, err := store.Points(ctx, q, store.PointFilter{VM: web}, store.Page{})
			if err != nil || len(all) != 2 || !store.Same(all[0], p) || all[0].Base || !all[1].Base {
				t.Errorf("%+v, %v", all, err)
			}
			borne, err := store.Borne(ctx, q, store.Flagged{VM: web, Policy: "gold", Kind: holdfast.PointSnapshot, Flag: holdfast.Weekly, Since: noon})
			if err != nil || !borne {
				t.Errorf("the weekly flag was given: %v, %v", borne, err)
			}
			borne, err = store.Borne(ctx, q, store.Flagged{VM: web, Policy: "gold", Kind: holdfast.PointSnapshot, Flag: holdfast.Yearly, Since: noon})
			if err != nil || borne {
				t.Errorf("the yearly flag was not given: %v, %v", borne, err)
			}
			return nil
		})
	})
}

// The ledger is what was written down: with a snapshot and without, and what a worker dated too early counts as of the ledger's time.
func TestLedger_IsWhatWasWritten(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		terms := sla.Terms{Version: 1, Enabled: true, Regions: []string{"westeurope"}, TemplateVersion: 1, Template: holdfast.SLATemplate{
			Name: "gold", TargetPercent: 97, Grace: time.Hour, Rows: []holdfast.SLARow{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: holdfast.Hours(1), KeepFor: holdfast.Days(1)}},
		}}
		workOf := sla.Work{Policy: "gold", Machine: web, Kind: holdfast.PointSnapshot, Slot: noon.Add(time.Hour)}
		events := []sla.Event{
			sla.PolicyInForce{At: noon.Add(time.Minute), Policy: "gold", Terms: terms},
			sla.MachineJoined{At: noon.Add(time.Minute), Policy: "gold", Machine: web, Region: "westeurope"},
			sla.TimePassed{At: noon.Add(time.Hour)},
			sla.SessionStarted{At: noon.Add(time.Hour), Work: workOf},
			sla.PointDurable{At: noon.Add(30 * time.Minute), Work: workOf, Point: "p"}, // by a clock that is slow
			sla.PolicyDisabled{At: noon.Add(2 * time.Hour), Policy: "gold"},
			sla.PolicyEnabled{At: noon.Add(3 * time.Hour), Policy: "gold"},
			sla.SessionFailed{At: noon.Add(3 * time.Hour), Work: workOf},
			sla.PointProven{At: noon.Add(3 * time.Hour), Point: "p", Level: 2, OK: true},
			sla.PointRemoved{At: noon.Add(4 * time.Hour), Point: "p"},
			sla.MachineLeft{At: noon.Add(5 * time.Hour), Policy: "gold", Machine: web},
			sla.ServerStopped{At: noon.Add(5 * time.Hour)},
			sla.ServerStarted{At: noon.Add(6 * time.Hour)},
			sla.PolicyRemoved{At: noon.Add(6 * time.Hour), Policy: "gold"},
		}
		w.write(func(ctx context.Context, tx store.Query) error { return store.AppendLedger(ctx, tx, events...) })
		load := func() (l store.LedgerState) {
			w.read(func(ctx context.Context, q store.Query) (err error) {
				if l, err = store.LoadLedger(ctx, q); err != nil {
					return err
				}
				rest, err := store.LedgerAfter(ctx, q, l.Through)
				for _, e := range rest {
					if err := l.Apply(e, nil); err != nil {
						return err
					}
				}
				return err
			})
			return l
		}
		first := load()
		if first.Through != int64(len(events)) || !first.Ledger.Now().Equal(noon.Add(6*time.Hour)) {
			t.Fatalf("through %d at %s", first.Through, first.Ledger.Now())
		}
		w.write(func(ctx context.Context, tx store.Query) error {
			if err := store.SaveLedger(ctx, tx, first); err != nil {
				return err
			}
			return store.Told(ctx, tx, first.Through)
		})
		if second := load(); second.Since != 0 || !reflect.DeepEqual(second.Ledger.Snapshot(), first.Ledger.Snapshot()) {
			t.Errorf("after a snapshot the ledger is another one; %d events were applied", second.Since)
		}
	})
}

// Expectations and closed periods are read as they were written; an expectation that stands there stays, a period's second figure takes the place of
// the first.
func TestPeriods_RoundTrip(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		row, day := sla.Row{Kind: holdfast.PointBackup, Flag: holdfast.Daily}, civil.Date{Year: 2026, Month: time.March, Day: 1}
		expectation := sla.Expectation{
			Policy: "gold", PolicyVersion: 3, Template: "hourly", TemplateVersion: 2, Machine: web, Region: "westeurope", Row: row, Slot: noon, Opens: noon.Add(-time.Hour),
			Closes: noon.Add(time.Hour), Deadline: noon.Add(2 * time.Hour), Entry: day, State: sla.Missed, Reason: sla.Overlap, Ended: noon.Add(time.Minute), Point: "p",
		}
		again := expectation
		again.State = sla.Met
		judge := sla.NewJudge(97)
		first := store.Period{
			Compliance: sla.Compliance{Policy: "gold", Row: row, Entry: day, Closed: noon, TargetPercent: 97, Machines: sla.Machines{Total: 2}},
			ByMachine:  []sla.MachineCompliance{judge.Machine(db1, sla.Count{Planned: 6, Met: 3, Missed: 1, Excused: 2, Proven: 1}, false), judge.Machine(web, sla.Count{}, true)},
		}
		second := first
		second.Frozen = noon.Add(time.Hour)
		second.ByMachine = []sla.MachineCompliance{judge.Machine(db1, sla.Count{Planned: 6, Met: 3, Missed: 1, Excused: 2, Proven: 2}, false), first.ByMachine[1]}
		next := store.Period{Compliance: sla.Compliance{Policy: "gold", Row: row, Entry: civil.Date{Year: 2026, Month: time.March, Day: 2}}, ByMachine: []sla.MachineCompliance{}}
		w.write(func(ctx context.Context, tx store.Query) error {
			for _, e := range []sla.Expectation{expectation, again} {
				if err := store.AppendExpectations(ctx, tx, []sla.Expectation{e}); err != nil {
					return err
				}
			}
			for _, p := range []store.Period{first, second, next} {
				if err := store.PutPeriod(ctx, tx, p); err != nil {
					return err
				}
			}
			return nil
		})
		w.read(func(ctx context.Context, q store.Query) error {
			for _, f := range []store.ExpectationFilter{{}, {Policy: "gold", VM: web, Row: row, States: []sla.State{sla.Missed}, From: day, To: day}} {
				if got, err := store.Expectations(ctx, q, f); err != nil || !reflect.DeepEqual(got, []sla.Expectation{expectation}) {
					t.Errorf("%+v: %+v, %v", f, got, err)
				}
			}
			for _, f := range []store.ExpectationFilter{{Policy: "silver"}, {VM: db1}, {States: []sla.State{sla.Met}}, {From: next.Entry}, {To: civil.Date{Year: 2026, Month: time.February, Day: 28}}} {
				if got, err := store.Expectations(ctx, q, f); err != nil || len(got) != 0 {
					t.Errorf("%+v: %+v, %v", f, got, err)
				}
			}
			for _, c := range []struct {
				filter store.PeriodFilter
				want   []store.Period
			}{
				{store.PeriodFilter{Policy: "gold", Machines: true}, []store.Period{second, next}},
				{store.PeriodFilter{Policy: "gold", Row: row, Newest: 1, Machines: true}, []store.Period{next}},
				{store.PeriodFilter{Policy: "gold", From: day, To: day, Machines: true}, []store.Period{second}},
				{store.PeriodFilter{Policy: "gold", To: day}, []store.Period{{Compliance: second.Compliance}}},
				{store.PeriodFilter{Policy: "silver"}, []store.Period{}},
			} {
				if got, err := store.Periods(ctx, q, c.filter); err != nil || !reflect.DeepEqual(got, c.want) {
					t.Errorf("%+v: %+v, %v", c.filter, got, err)
				}
			}
			return nil
		})
	})
}

// The record and the logs are read in the order in which they were written.
func TestRecord_InOrder(t *testing.T) {
	both(t, func(t *testing.T, w world) {
		for i := range 3 {
			w.write(func(ctx context.Context, tx store.Query) error {
				for j := range 2 {
					if err := store.AppendEvents(ctx, tx, store.Event{At: noon, VM: web, Name: "snapshot", Flags: holdfast.Flags(holdfast.Daily), Reason: fmt.Sprint(i, j)}); err != nil {
						return err
					}
				}
				return store.AppendLog(ctx, tx, holdfast.LogLine{Session: "a", At: noon, Level: holdfast.LogInfo, Text: fmt.Sprint(i)})
			})
		}
		w.read(func(ctx context.Context, q store.Query) error {
			events, err := store.EventsAfter(ctx, q, 2, 3)
			if err != nil || len(events) != 3 || events[0].Reason != "1 0" || events[2].Reason != "2 0" || events[0].Flags != holdfast.Flags(holdfast.Daily) {
				t.Errorf("%+v, %v", events, err)
			}
			lines, err := store.Log(ctx, q, "a", 1)
			if err != nil || len(lines) != 2 || lines[1].Text != "2" {
				t.Errorf("%+v, %v", lines, err)
			}
			return nil
		})
	})
}
