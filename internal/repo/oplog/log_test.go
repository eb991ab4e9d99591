package oplog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	id    keys.RepositoryID
	ring  *keys.Ring
	store *mem.Store
	clock clock.Clock
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	manual := clock.NewManual(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	f := fixture{id: keys.NewRepositoryID(), store: mem.New(manual), clock: manual}
	f.ring = keys.NewRing(f.id)
	if err := oplog.Create(t.Context(), f.store, f.clock, f.ring, f.genesis()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) genesis() oplog.Entry {
	p := layout.DefaultParameters()
	return oplog.Entry{Repository: f.id, Format: 1, Shape: &p, Slots: []string{"keys/slot"}, KeyRing: "keys/ring"}
}

func (f fixture) open(t testing.TB, store blob.Store) *oplog.Log {
	t.Helper()
	return f.openWith(t, store, oplog.Access{Ring: f.ring})
}

func (f fixture) openWith(t testing.TB, store blob.Store, a oplog.Access) *oplog.Log {
	t.Helper()
	l, err := oplog.Open(t.Context(), store, f.clock)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return l
}

func session(n int) *holdfast.SessionID {
	return &holdfast.SessionID{byte(n >> 8), byte(n), 1}
}

func point(n int) holdfast.PointID { return holdfast.PointID(fmt.Sprintf("20260301-000000-%08x", n)) }

func add(l *oplog.Log, e oplog.Entry) error {
	_, err := l.Append(context.Background(), func(oplog.State) (oplog.Entry, error) { return e, nil })
	return err
}

func mustAdd(t testing.TB, l *oplog.Log, entries ...oplog.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := add(l, e); err != nil {
			t.Fatalf("%s: %v", e.Kind, err)
		}
	}
}

func begin(n int) oplog.Entry {
	return oplog.Entry{Kind: oplog.Begin, Session: session(n), Subject: "s", Sealed: []byte("resources")}
}

func publish(n int) oplog.Entry {
	return oplog.Entry{Kind: oplog.Publish, Session: session(n), Point: point(n), Manifest: "points/x", List: "lists/x", Sealed: []byte("summary")}
}

func settle(n int) oplog.Entry { return oplog.Entry{Kind: oplog.Settle, Session: session(n)} }

func abandon(n int) oplog.Entry { return oplog.Entry{Kind: oplog.Abandon, Session: session(n)} }

func encoded(t testing.TB, l *oplog.Log) string {
	t.Helper()
	state := l.State()
	data, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The head is found at every length of the log, with few reads, and a log of that length gives the same state however it is
// reached: by following it from the start or by opening it anew.
func TestOpen_FindsTheHead(t *testing.T) {
	f := newFixture(t)
	follower, writer := f.open(t, f.store), f.open(t, f.store)
	for n := 1; n <= 70; n++ {
		mustAdd(t, writer, begin(n))
		counter := &wrap.Counter{}
		opened := f.open(t, wrap.Count(f.store, counter))
		if _, err := follower.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := opened.State(); got.Next != uint64(n)+1 || encoded(t, opened) != encoded(t, writer) || encoded(t, follower) != encoded(t, writer) {
			t.Fatalf("%d entries: opened at %d", n+1, got.Next)
		}
		if stats := counter.Calls()[wrap.OpStat]; stats > 30 {
			t.Errorf("%d entries: %d probes", n+1, stats)
		}
	}
}

// Writers in handles of their own append at once: every entry that was acknowledged is in the log once, in one order that all
// handles agree on, with nothing between.
func TestAppend_ManyHandles(t *testing.T) {
	f := newFixture(t)
	const writers, each = 8, 25
	var wg sync.WaitGroup
	logs := make([]*oplog.Log, writers)
	for w := range writers {
		logs[w] = f.open(t, f.store)
		wg.Go(func() {
			for i := range each {
				if err := add(logs[w], begin(w*each+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want := encoded(t, f.open(t, f.store))
	for _, l := range logs {
		state, err := l.Sync(t.Context())
		if err != nil || len(state.Sessions) != writers*each || encoded(t, l) != want {
			t.Fatalf("%d sessions, %v", len(state.Sessions), err)
		}
	}
	mustAudit(t, f)
}

func mustAudit(t testing.TB, f fixture) oplog.Audited {
	t.Helper()
	a, err := oplog.Audit(t.Context(), f.store, f.ring, 0)
	if err != nil || len(a.Problems) > 0 {
		t.Fatalf("audit: %v, %v", a.Problems, err)
	}
	return a
}

// An append whose answer is lost is found to have happened, and happens once; one that did not happen says so.
func TestAppend_LostAnswers(t *testing.T) {
	f := newFixture(t)
	l := f.open(t, f.store)
	good := wrap.NewFaults(wrap.Healthy, 0)
	if err := add(f.open(t, wrap.Fault(f.store, good)), begin(1000)); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= good.Calls()+20; at++ {
		for _, mode := range []wrap.Mode{wrap.Fail, wrap.FailAfterEffect} {
			faults := wrap.NewFaults(mode, at)
			opened, err := oplog.Open(t.Context(), wrap.Fault(f.store, faults), f.clock)
			if err != nil {
				continue
			}
			if err := opened.Unlock(t.Context(), oplog.Access{Ring: f.ring}); err != nil {
				t.Fatal(err)
			}
			id := at
			if mode == wrap.FailAfterEffect {
				id += 500
			}
			err = add(opened, begin(id))
			state, syncErr := l.Sync(t.Context())
			if syncErr != nil {
				t.Fatal(syncErr)
			}
			if is := state.Session(*session(id)) != nil; is != (err == nil) {
				t.Errorf("call %d, %s: the entry exists: %v, and the append said %v", at, mode, is, err)
			}
		}
	}
	mustAudit(t, f)
}

// lostPut is a store whose puts of log entries take effect and time out, as long as the reads after them do too.
type lostPut struct {
	blob.Store
	broken bool
}

var errTimeout = errors.New("timed out")

func (s *lostPut) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	if err := s.Store.Put(ctx, name, data, o); err != nil {
		return err
	}
	s.broken = true
	return errTimeout
}

func (s *lostPut) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	if s.broken {
		s.broken = false
		return 0, errTimeout
	}
	return s.Store.Read(ctx, name, offset, p)
}

// When it cannot be known whether the entry is there, Append says so, and Sync tells.
func TestAppend_UnknownOutcome(t *testing.T) {
	f := newFixture(t)
	l := f.open(t, &lostPut{Store: f.store})
	if err := add(l, begin(1)); !errors.Is(err, errTimeout) {
		t.Fatal(err)
	}
	state, err := l.Sync(t.Context())
	if err != nil || state.Session(*session(1)) == nil {
		t.Errorf("the entry is there, and the state does not show it: %v", err)
	}
	if err := add(l, begin(1)); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("appending it again: %v", err)
	}
}

// flipped changes one byte of an entry in the store.
func (f fixture) flip(n uint64) {
	f.store.Adversary().Damage(layout.EntryName(n), func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
}

// A damaged or lost entry in the middle: readers go on and see what later entries say; writers refuse and change nothing, in a
// handle that is opened then and in one that was open before.
func TestLog_DamagedEntry(t *testing.T) {
	for _, how := range []string{"flipped", "lost"} {
		for n := uint64(1); n <= 6; n++ {
			f := newFixture(t)
			before := f.open(t, f.store)
			mustAdd(t, f.open(t, f.store), begin(1), publish(1), settle(1), begin(2), publish(2), settle(2), begin(3))
			if how == "lost" {
				f.store.Adversary().Erase(layout.EntryName(n))
			} else {
				f.flip(n)
			}
			for what, l := range map[string]*oplog.Log{"opened before": before, "opened after": f.open(t, f.store)} {
				state, err := l.Sync(t.Context())
				if err != nil || state.Next != 8 {
					t.Fatalf("%s entry %d, %s: at %d, %v", how, n, what, state.Next, err)
				}
				for i, number := range []uint64{2, 5} {
					if visible := state.Point(point(i+1)) != nil; visible != (n != number) {
						t.Errorf("%s entry %d, %s: point %d visible: %v", how, n, what, i+1, visible)
					}
				}
				if state.Session(*session(3)) == nil {
					t.Errorf("%s entry %d, %s: the last entry is not seen", how, n, what)
				}
				if d := l.Damage(); len(d) != 1 || d[0].Object != layout.EntryName(n) {
					t.Errorf("%s entry %d, %s: damage %v", how, n, what, d)
				}
				if err := add(l, begin(9)); !holdfast.IsKind(err, holdfast.KindCorrupt) || !strings.Contains(err.Error(), layout.EntryName(n)) {
					t.Errorf("%s entry %d, %s: append: %v", how, n, what, err)
				}
			}
			if _, err := f.store.Stat(t.Context(), layout.EntryName(8)); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("%s entry %d: a refused writer wrote", how, n)
			}
			a, err := oplog.Audit(t.Context(), f.store, nil, 0)
			if err != nil || len(a.Problems) != 1 || a.Problems[0].Object != layout.EntryName(n) {
				t.Errorf("%s entry %d: audit %v, %v", how, n, a.Problems, err)
			}
		}
	}
}

// Several entries lost in a row do not pass for the end of the log, up to the number that is looked for, anywhere.
func TestOpen_LostRange(t *testing.T) {
	for first := uint64(1); first < 30; first++ {
		for count := uint64(1); count <= 8; count++ {
			f := newFixture(t)
			l := f.open(t, f.store)
			for n := range 40 {
				mustAdd(t, l, begin(n))
			}
			for n := first; n < first+count; n++ {
				f.store.Adversary().Erase(layout.EntryName(n))
			}
			if opened := f.open(t, f.store); opened.State().Next != 41 || len(opened.Damage()) != int(count) {
				t.Fatalf("%d entries lost from %d on: at %d, %d damaged", count, first, opened.State().Next, len(opened.Damage()))
			}
		}
	}
}

// The newest entry damaged: the one before is the newest that can be read, and nobody writes after it.
func TestOpen_DamagedHead(t *testing.T) {
	f := newFixture(t)
	mustAdd(t, f.open(t, f.store), begin(1), begin(2))
	f.flip(2)
	l := f.open(t, f.store)
	if state := l.State(); state.Session(*session(1)) == nil || len(l.Damage()) != 1 {
		t.Errorf("damage %v", l.Damage())
	}
	if err := add(l, begin(3)); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("append: %v", err)
	}
}

// state of a log with checkpoints.
func withCheckpoints(t *testing.T) (fixture, *oplog.Log, []string) {
	t.Helper()
	f := newFixture(t)
	l := f.open(t, f.store)
	for n := range 70 {
		mustAdd(t, l, begin(n), publish(n), settle(n))
		if err := l.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var states []string
	for _, name := range f.store.Adversary().Names() {
		if strings.HasPrefix(name, "state/") {
			states = append(states, name)
		}
	}
	if len(states) < 2 {
		t.Fatalf("%d checkpoints in 210 entries", len(states))
	}
	return f, l, states
}

// Opening from a checkpoint, from an earlier one when the newest is damaged or gone, and from the beginning when all are, gives
// the same state.
func TestOpen_Checkpoints(t *testing.T) {
	f, l, states := withCheckpoints(t)
	want := encoded(t, l)
	mustAudit(t, f)
	counter := &wrap.Counter{}
	if got := encoded(t, f.open(t, wrap.Count(f.store, counter))); got != want {
		t.Error("from the newest checkpoint the state is another")
	}
	if reads := counter.Calls()[wrap.OpRead]; reads > 80 {
		t.Errorf("%d reads from the newest checkpoint", reads)
	}
	for i, name := range states {
		if i%2 == 0 {
			f.store.Adversary().Erase(name)
		} else {
			f.store.Adversary().Damage(name, func(data []byte) []byte { return data[:len(data)-1] })
		}
		if got := encoded(t, f.open(t, f.store)); got != want {
			t.Errorf("with %d checkpoints lost the state is another", i+1)
		}
	}
}

// A checkpoint that is not the fold of the log is found by an audit, even when it proves itself and its entry is authentic; one
// after a damaged entry tells what that entry said.
func TestAudit_Checkpoints(t *testing.T) {
	f := newFixture(t)
	l := f.open(t, f.store)
	mustAdd(t, l, begin(1), publish(1))
	state := l.State()
	state.Points = nil
	lie, err := state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	name := layout.Name(layout.State, layout.Sum(lie))
	if err := f.store.Put(t.Context(), name, lie, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, l, oplog.Entry{Kind: oplog.Checkpoint, State: name})
	a, err := oplog.Audit(t.Context(), f.store, nil, 0)
	if err != nil || len(a.Problems) != 1 || a.Problems[0].Object != name || a.State.Point(point(1)) == nil {
		t.Errorf("audit: %v, %v", a.Problems, err)
	}

	f, _, _ = withCheckpoints(t)
	f.flip(5) // a publication
	a, err = oplog.Audit(t.Context(), f.store, f.ring, 0)
	if err != nil || len(a.Problems) != 1 || len(a.State.Points) != 70 {
		t.Errorf("audit of a damaged log with checkpoints: %v, %d points, %v", a.Problems, len(a.State.Points), err)
	}
}

// Somebody who can write to the store but has no key cannot make readers believe an entry, nor keep them from reading; writers
// stop. It does not matter whether the reader is there already.
func TestUnlock_ForgedEntry(t *testing.T) {
	f := newFixture(t)
	before := f.open(t, f.store)
	mustAdd(t, f.open(t, f.store), begin(1), publish(1))
	forger := fixture{id: f.id, ring: keys.NewRing(f.id), store: f.store, clock: f.clock}
	forged, err := oplog.Open(t.Context(), f.store, f.clock)
	if err != nil {
		t.Fatal(err)
	}
	if err := forged.Unlock(t.Context(), oplog.Access{Ring: forger.ring}); err == nil { // the whole log is a stranger's to this ring
		t.Fatal("a ring that wrote nothing unlocks the log")
	}
	stored := forgeRemove(t, f, forger)
	if err := f.store.Put(t.Context(), layout.EntryName(3), stored, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for what, l := range map[string]*oplog.Log{"opened before": before, "opened after": f.open(t, f.store)} {
		state, err := l.Sync(t.Context())
		if err != nil || state.Point(point(1)) == nil || len(l.Damage()) != 1 {
			t.Errorf("%s: damage %v, %v", what, l.Damage(), err)
		}
		if err := add(l, begin(9)); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%s: append: %v", what, err)
		}
	}
	a, err := oplog.Audit(t.Context(), f.store, f.ring, 0)
	if err != nil || len(a.Problems) != 1 || a.State.Point(point(1)) == nil {
		t.Errorf("audit with the key: %v, %v", a.Problems, err)
	}
}

// forgeRemove makes entry 3, which removes point 1, in good form and with another key's MAC.
func forgeRemove(t *testing.T, f, forger fixture) []byte {
	t.Helper()
	entry2, err := blob.ReadAll(t.Context(), f.store, layout.EntryName(2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf(`{"holdfast":1,"n":3,"repository":"%s","previous":"%s","time":"2026-03-01T00:00:00Z","writer":"x","generation":1,"checkpoint":0,"kind":"remove","points":["%s"]}`,
		f.id, layout.Sum(entry2), point(1))
	mac, err := forger.ring.LogMAC(1, []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	stored := fmt.Sprintf("%s\nmac %x\n", line, mac)
	return fmt.Appendf(nil, "%ssum %x\n", stored, sha256.Sum256([]byte(stored)))
}

// What a newer version wrote stops everybody with KindInvalid: an unknown kind, a greater version of entries, a greater format.
// Who has the key stops for nothing that was not written with it.
func TestOpen_NewerFormat(t *testing.T) {
	for _, change := range [][2]string{{`"kind":"begin"`, `"kind":"gift"`}, {`"holdfast":1`, `"holdfast":2`}, {`"kind":"begin"`, `"format":2,"kind":"begin"`}, {`"subject":"s"`, `"subject":5,"format":2`}} {
		f := newFixture(t)
		before := f.open(t, f.store)
		mustAdd(t, f.open(t, f.store), begin(1))
		f.store.Adversary().Damage(layout.EntryName(1), func(data []byte) []byte {
			line, _, _ := bytes.Cut(data, []byte("\n"))
			line = bytes.Replace(line, []byte(change[0]), []byte(change[1]), 1)
			mac, _ := f.ring.LogMAC(1, line)
			stored := fmt.Sprintf("%s\nmac %x\n", line, mac)
			return fmt.Appendf(nil, "%ssum %x\n", stored, sha256.Sum256([]byte(stored)))
		})
		l, err := oplog.Open(t.Context(), f.store, f.clock)
		if err != nil || !holdfast.IsKind(l.Unproven(), holdfast.KindInvalid) {
			t.Fatalf("%s: open: %v", change[1], err)
		}
		if err := l.Unlock(t.Context(), oplog.Access{Ring: f.ring}); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: unlock: %v", change[1], err)
		}
		if _, err := before.Sync(t.Context()); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: sync: %v", change[1], err)
		}
		if _, err := oplog.Audit(t.Context(), f.store, nil, 0); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: audit: %v", change[1], err)
		}
		f.store.Adversary().Damage(layout.EntryName(1), func(data []byte) []byte { // the same, with a MAC that nobody with the key wrote
			line, _, _ := bytes.Cut(data, []byte("\n"))
			stored := fmt.Sprintf("%s\nmac %x\n", line, make([]byte, 32))
			return fmt.Appendf(nil, "%ssum %x\n", stored, sha256.Sum256([]byte(stored)))
		})
		if l := f.open(t, f.store); len(l.Damage()) != 1 || l.Unproven() != nil {
			t.Errorf("%s, forged: damage %v, %v", change[1], l.Damage(), l.Unproven())
		}
		if a, err := oplog.Audit(t.Context(), f.store, f.ring, 0); err != nil || len(a.Problems) != 1 {
			t.Errorf("%s, forged: audit: %v, %v", change[1], a.Problems, err)
		}
	}
}

// An entry that no reader would take is not written.
func TestAppend_TooLarge(t *testing.T) {
	f := newFixture(t)
	l := f.open(t, f.store)
	huge := begin(1)
	huge.Sealed = make([]byte, layout.EntryBytesMax)
	if err := add(l, huge); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("append: %v", err)
	}
	mustAdd(t, l, begin(2))
	mustAudit(t, f)
}

// Create makes one repository, and tells a second caller that it is there.
func TestCreate_Once(t *testing.T) {
	f := newFixture(t)
	if err := oplog.Create(t.Context(), f.store, f.clock, f.ring, f.genesis()); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("create again: %v", err)
	}
	empty := mem.New(f.clock)
	if _, err := oplog.Open(t.Context(), empty, f.clock); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("open nothing: %v", err)
	}
	faults := wrap.NewFaults(wrap.FailAfterEffect, 1)
	if err := oplog.Create(t.Context(), wrap.Fault(empty, faults), f.clock, f.ring, f.genesis()); err != nil {
		t.Errorf("create with a lost answer: %v", err)
	}
}
