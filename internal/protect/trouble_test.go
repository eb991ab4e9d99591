package protect_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// sessions returns all sessions, the oldest first.
func (w *world) sessions() []holdfast.Session {
	w.t.Helper()
	var all []holdfast.Session
	w.read(func(ctx context.Context, q store.Query) (err error) {
		all, err = store.Sessions(ctx, q, store.Filter{}, store.Page{})
		return err
	})
	slices.Reverse(all)
	return all
}

func (w *world) items(id holdfast.RunID) []holdfast.SessionItem {
	w.t.Helper()
	var items []holdfast.SessionItem
	w.read(func(ctx context.Context, q store.Query) (err error) {
		items, err = store.Items(ctx, q, id)
		return err
	})
	return items
}

func (w *world) points(states ...store.PointState) []store.Point {
	w.t.Helper()
	var points []store.Point
	w.read(func(ctx context.Context, q store.Query) (err error) {
		points, err = store.Points(ctx, q, store.PointFilter{States: states, Temporary: true}, store.Page{})
		return err
	})
	return points
}

// policySessions leaves out the daily passes.
func (w *world) policySessions() []holdfast.Session {
	return slices.DeleteFunc(w.sessions(), func(s holdfast.Session) bool { return s.Type != holdfast.SessionPolicy })
}

// A backup that fails is tried again after ten minutes, alone, from the snapshot that there is; the session is one, and ends well.
func TestItem_TriedAgain(t *testing.T) {
	from := day("2026-03-20")
	w := newWorld(t, from, estate, vm("web-1", "westeurope"), vm("web-2", "westeurope"))
	failures := 2
	w.flows.fails = func(what string, vm holdfast.ResourceID) error {
		if what == "backup" && vm.Name() == "web-1" && failures > 0 {
			failures--
			return holdfast.Errorf(holdfast.KindUnavailable, "the storage does not answer").WithHint("look at it")
		}
		return nil
	}
	w.tick()
	w.clock.Advance(6 * time.Hour) // 07:00 in Brussels
	w.tick()
	sessions := w.policySessions()
	if len(sessions) != 1 || sessions[0].State != holdfast.StateRunning || sessions[0].Items.Waiting != 1 || sessions[0].Items.Success != 1 {
		t.Fatalf("after the first attempt: %+v", sessions)
	}
	if item := w.items(sessions[0].ID)[0]; item.Message != "the storage does not answer" || item.Hint != "look at it" || !item.NextAt.Equal(w.clock.Now().Add(holdfast.RetryAfter)) {
		t.Errorf("the item that waits: %+v", item)
	}
	snapshots := len(w.flows.there)
	for range 2 {
		w.clock.Advance(holdfast.RetryAfter)
		w.tick()
	}
	sessions = w.policySessions()
	item := w.items(sessions[0].ID)[0]
	if len(sessions) != 1 || sessions[0].Outcome != holdfast.OutcomeSuccess || item.Attempts != 3 || len(item.Points) != 2 {
		t.Errorf("after the third attempt: %+v, %+v", sessions, item)
	}
	if len(w.flows.there) != snapshots {
		t.Errorf("the attempts made %d more snapshots", len(w.flows.there)-snapshots)
	}
}

// When the next attempt is not made after all, the session ends with what the last one came to, and that is told like every other end.
func TestItem_NotTriedAgain(t *testing.T) {
	w := newWorld(t, day("2026-03-20"), estate, vm("web-1", "westeurope"))
	w.flows.fails = func(what string, _ holdfast.ResourceID) error {
		if what == "backup" {
			return holdfast.Errorf(holdfast.KindUnavailable, "the storage does not answer")
		}
		return nil
	}
	w.tick()
	w.clock.Advance(6 * time.Hour) // 07:00 in Brussels
	w.tick()
	w.apply(strings.Replace(estate, "retries: 2", "retries: 2\nenabled: false", 1))
	w.clock.Advance(holdfast.RetryAfter)
	w.tick()
	if sessions := w.policySessions(); len(sessions) != 1 || sessions[0].State != holdfast.StateDone || sessions[0].Outcome != holdfast.OutcomeError {
		t.Errorf("%+v", sessions)
	}
	w.checkEnds()
}

// When no attempt is left, the item and the session end with an error that a person can read, and nothing half made is left.
func TestItem_FailsInTheEnd(t *testing.T) {
	w := newWorld(t, day("2026-03-20"), estate, vm("web-1", "westeurope"), vm("web-2", "westeurope"))
	w.flows.fails = func(what string, vm holdfast.ResourceID) error {
		if what == "snapshot" && vm.Name() == "web-1" {
			return holdfast.Errorf(holdfast.KindRefused, "no permission").WithHint("grant it")
		}
		return nil
	}
	w.through(day("2026-03-20").Add(8 * time.Hour))
	sessions := w.policySessions()
	if len(sessions) != 1 || sessions[0].Outcome != holdfast.OutcomeError || sessions[0].Items.Error != 1 || sessions[0].Items.Success != 1 {
		t.Fatalf("%+v", sessions)
	}
	if item := w.items(sessions[0].ID)[0]; item.Attempts != 3 || item.Message != "no permission" || item.Hint != "grant it" {
		t.Errorf("%+v", item)
	}
	if left := w.points(store.PointMaking, store.PointRemoving); len(left) > 0 || len(w.flows.there) != 1 {
		t.Errorf("left: %+v, snapshots %v", left, w.flows.there)
	}
	refused := 0
	for _, line := range w.record() {
		if strings.Contains(line, "refused office web-1") {
			refused++
		}
	}
	if refused != 6 { // snapshot and backup, three times
		t.Errorf("%d refusals are on record", refused)
	}
}

// What could not be removed after a failure stays written down, and goes at the next look at the machine.
func TestItem_LeavesNothingForEver(t *testing.T) {
	w := newWorld(t, day("2026-03-20"), estate, vm("web-1", "westeurope"))
	broken := true
	w.flows.fails = func(what string, _ holdfast.ResourceID) error {
		if broken && (what == "snapshot" || what == "unmake" || what == "remove") {
			return holdfast.Errorf(holdfast.KindUnavailable, "azure does not answer")
		}
		return nil
	}
	w.through(day("2026-03-20").Add(7 * time.Hour))
	if left := w.points(store.PointRemoving); len(left) != 3 || len(w.flows.there) != 3 { // one for each attempt
		t.Fatalf("%d rows and %d sets are left", len(left), len(w.flows.there))
	}
	broken = false
	w.through(day("2026-03-21").Add(time.Hour)) // the pass of 00:15 looks at machines with points
	if left := w.points(store.PointRemoving); len(left) > 0 {
		t.Errorf("still left: %+v", left)
	}
}

// Stopping a session ends what has not begun without points; what is durable stays, and nothing is tried again.
func TestItem_Stopped(t *testing.T) {
	w := newWorld(t, day("2026-03-20"), estate, vm("web-1", "westeurope"), vm("web-2", "westeurope"))
	w.clock.Advance(6 * time.Hour)
	if _, err := w.scheduler.Tick(t.Context()); err != nil { // 07:00 was made due by the first tick
		t.Fatal(err)
	}
	w.clock.Advance(24 * time.Hour)
	if _, err := w.scheduler.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	var items []jobs.Job
	for _, job := range w.queue {
		if job.Kind == work.KindItem {
			items = append(items, job)
		}
	}
	if len(items) < 2 {
		t.Fatalf("%d items are queued", len(items))
	}
	w.queue = nil
	w.run(items[0])
	session := w.policySessions()[0]
	w.write(func(ctx context.Context, tx database.Tx) error {
		_, err := store.StopSession(ctx, tx, session.ID)
		return err
	})
	for _, job := range items[1:] {
		w.run(job)
	}
	session = w.policySessions()[0]
	if session.Outcome != holdfast.OutcomeStopped || session.Items.Success != 1 || session.Items.Stopped != 1 {
		t.Errorf("%+v", session)
	}
}

// errDead is what everything answers once the process is dead.
var errDead = errors.New("the process is dead")

// A process that dies at any call of a flow, before or after its effect, leaves an item that another process finishes: everything is made
// once, and nothing is left over.
func TestItem_DiesAtEveryCall(t *testing.T) {
	for _, after := range []bool{false, true} {
		for call := 1; ; call++ {
			w := newWorld(t, day("2026-03-20"), estate, vm("db-1", "westeurope", "tier=gold"), vm("web-1", "westeurope"))
			w.through(day("2026-03-23")) // so that there is something to let go
			calls, ctx := 0, context.Context(nil)
			var die context.CancelFunc
			w.flows.fails = func(string, holdfast.ResourceID) error {
				if ctx == nil {
					return nil
				}
				if calls++; calls == call {
					die()
				}
				if ctx.Err() != nil && (!after || calls > call) {
					return errDead
				}
				return nil
			}
			w.clock.Advance(6*time.Hour + time.Millisecond)
			if _, err := w.scheduler.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
			queue := slices.Clone(w.queue)
			ctx, die = context.WithCancel(t.Context())
			for _, job := range queue {
				w.runDying(ctx, job)
			}
			died := ctx.Err() != nil
			ctx = nil
			w.queue = queue // as the queue hands out again what was not finished
			w.restart()
			w.drain()
			w.mustBeInOrder(call, after)
			die()
			if !died {
				break
			}
		}
	}
}

// runDying runs a job until the process dies.
func (w *world) runDying(ctx context.Context, job jobs.Job) {
	if job.Kind != work.KindItem || ctx.Err() != nil {
		return
	}
	item := itemOf(w.t, job)
	_ = w.protect.Item(ctx, item.Session, item.VM) // whatever it says, nobody hears it
}

// mustBeInOrder checks that all sessions have ended well, and that what exists is what is written down.
func (w *world) mustBeInOrder(call int, after bool) {
	w.t.Helper()
	for _, s := range w.policySessions() {
		if s.State != holdfast.StateDone || s.Outcome != holdfast.OutcomeSuccess {
			w.t.Errorf("died at call %d (after its effect: %v): session %+v", call, after, s)
		}
		for _, i := range w.items(s.ID) {
			if want := len(s.Makes); len(i.Points) != want {
				w.t.Errorf("died at call %d (after its effect: %v): %d points of %s for %v", call, after, len(i.Points), i.VM.Name(), s.Makes)
			}
		}
	}
	if left := w.points(store.PointMaking, store.PointRemoving); len(left) > 0 {
		w.t.Errorf("died at call %d (after its effect: %v): left %+v", call, after, left)
	}
	kept := 0
	for _, p := range w.points(store.PointKept) {
		if p.Kind == holdfast.PointSnapshot {
			kept++
			if !w.flows.there[p.ID] {
				w.t.Errorf("died at call %d: the snapshots of %s are gone", call, p.ID)
			}
		}
	}
	if kept != len(w.flows.there) {
		w.t.Errorf("died at call %d (after its effect: %v): %d sets exist, %d are written down", call, after, len(w.flows.there), kept)
	}
}

// What a session reads stays while it reads it, whoever looks at the machine meanwhile; when the session is over it goes.
func TestItem_SnapshotsStayWhileTheyAreRead(t *testing.T) {
	w := newWorld(t, day("2026-03-20"), estate, vm("db-2", "eastus", "tier=gold"))
	reads := 0
	w.flows.fails = func(what string, vm holdfast.ResourceID) error {
		if what != "backup" {
			return nil
		}
		reads++
		before := len(w.flows.there)
		if _, err := w.aging.Machine(t.Context(), vm, retention.BothOccasions); err != nil {
			t.Error(err)
		}
		if _, err := w.aging.Close(t.Context(), vm, "another session"); err != nil {
			t.Error(err)
		}
		if gone := before - len(w.flows.there); gone > 0 {
			t.Errorf("read %d: %d sets went while one is read", reads, gone)
		}
		return holdfast.Errorf(holdfast.KindUnavailable, "and it fails in the end")
	}
	w.through(day("2026-03-20").Add(3 * time.Hour))
	if reads == 0 {
		t.Fatal("nothing was read")
	}
	for _, p := range w.points(store.PointKept) {
		if p.Temporary {
			t.Errorf("the sessions are over, and the temporary %s is still there", p.ID)
		}
	}
}
