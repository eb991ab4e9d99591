package oplog_test

import (
	"context"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// Whoever does not own an owned repository appends nothing but a take-over, and is told by whom it is owned. The owner's
// sessions bear its name and epoch without being asked to.
func TestAppend_OwnedByAnother(t *testing.T) {
	f := newFixture(t)
	owner := f.openWith(t, f.store, oplog.Access{Ring: f.ring, Installation: "one"})
	mustAdd(t, owner, begin(1), publish(1), oplog.Entry{Kind: oplog.Owner, Owner: "one", Epoch: 1}, begin(2))
	state := owner.State()
	if s := state.Session(*session(2)); s == nil || s.Epoch != 1 || state.Owner != "one" || state.OwnedSince.IsZero() {
		t.Fatalf("state %+v", state)
	}
	for _, stranger := range []string{"", "two"} {
		l := f.openWith(t, f.store, oplog.Access{Ring: f.ring, Installation: stranger})
		for _, e := range []oplog.Entry{
			begin(3), publish(2), abandon(2), settle(1),
			{Kind: oplog.Remove, Points: []holdfast.PointID{point(1)}},
			{Kind: oplog.Annotate, Point: point(1)},
			{Kind: oplog.Keys, Slots: []string{"keys/b"}, KeyRing: "keys/r"},
			{Kind: oplog.Index, Added: []string{"index/a"}},
			{Kind: oplog.Condemn, List: "lists/c"},
			{Kind: oplog.Checkpoint, State: "state/x"},
		} {
			if err := add(l, e); !holdfast.IsKind(err, holdfast.KindRefused) || !strings.Contains(err.Error(), "owned by installation one") {
				t.Errorf("%s by %q: %v", e.Kind, stranger, err)
			}
		}
	}
	two := f.openWith(t, f.store, oplog.Access{Ring: f.ring, Installation: "two"})
	if _, err := two.TakeOver(t.Context(), func(oplog.State) (oplog.Entry, error) {
		return oplog.Entry{Kind: oplog.Owner, Owner: "two", Epoch: 2}, nil
	}); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, two, abandon(2), begin(4))
	if err := add(owner, settle(1)); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("the old owner still appends: %v", err)
	}
	mustAudit(t, f)
}

// rotation is a log with a key change to a ring of one more generation; reopen is how those follow who know its key.
type rotation struct {
	fixture
	next   *keys.Ring
	opened int
}

func (r *rotation) reopen(_ context.Context, name string) (*keys.Ring, error) {
	r.opened++
	if name != "keys/next" {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s is not expected", name)
	}
	return r.next, nil
}

func (r *rotation) access(t *testing.T) oplog.Access {
	t.Helper()
	return oplog.Access{Ring: r.copyOfRing(t), Reopen: r.reopen}
}

// copyOfRing is the ring as another process holds it.
func (r *rotation) copyOfRing(t *testing.T) *keys.Ring {
	t.Helper()
	key := keys.Random(keys.Size)
	data, err := r.ring.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.DecodeRing(data, r.id, key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// A log that is open when the key is rotated goes on: it reads the new ring when it meets the change, writes with the new
// generation from then on, and seals private parts with the generation that the entry bears.
func TestKeyChange_OpenLogsFollow(t *testing.T) {
	r := &rotation{fixture: newFixture(t)}
	r.next = r.ring.Rotated()
	open, rotator := r.openWith(t, r.store, r.access(t)), r.openWith(t, r.store, r.access(t))
	mustAdd(t, open, begin(1))
	mustAdd(t, rotator, oplog.Entry{Kind: oplog.Keys, Slots: []string{"keys/slot"}, KeyRing: "keys/next"}, begin(2))
	e := publish(1)
	e.Sealed, e.Private = nil, []byte("a secret")
	e, err := open.Append(t.Context(), func(oplog.State) (oplog.Entry, error) { return e, nil })
	if err != nil || e.Generation != 2 || r.opened != 2 {
		t.Fatalf("generation %d, the ring was opened %d times: %v", e.Generation, r.opened, err)
	}
	plain, err := r.next.OpenEntryPart(2, e.Sealed, oplog.SealContext(oplog.Publish, string(point(1))))
	if err != nil || string(plain) != "a secret" {
		t.Errorf("the private part is %q, %v", plain, err)
	}
	if state := open.State(); len(state.Points) != 1 || len(open.Damage()) > 0 {
		t.Errorf("state %+v, damage %v", state, open.Damage())
	}
	r.ring = r.next
	mustAudit(t, r.fixture)
}

// A log whose key was revoked neither reads on nor writes, and the rules refuse an entry of a revoked generation to whoever
// would write it all the same.
func TestKeyChange_RevokedGenerationsAreEnded(t *testing.T) {
	r := &rotation{fixture: newFixture(t)}
	r.next = r.ring.Rotated()
	owner := r.openWith(t, r.store, r.access(t))
	refused := oplog.Access{Ring: r.copyOfRing(t), Reopen: func(context.Context, string) (*keys.Ring, error) {
		return nil, holdfast.Errorf(holdfast.KindWrongKey, "another key")
	}}
	outside := r.openWith(t, r.store, refused)
	mustAdd(t, owner, begin(1), oplog.Entry{Kind: oplog.Keys, Slots: []string{"keys/new"}, KeyRing: "keys/next", LeastGeneration: 2})
	if err := add(outside, begin(2)); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("who does not know the new key appends: %v", err)
	}
	if _, err := outside.Sync(t.Context()); !holdfast.IsKind(err, holdfast.KindWrongKey) {
		t.Errorf("who does not know the new key reads on: %v", err)
	}
	thief := r.openWith(t, r.store, oplog.Access{Ring: r.copyOfRing(t)}) // follows nothing, as a forger would not
	if err := add(thief, begin(3)); !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Errorf("an entry of a revoked generation: %v", err)
	}
	mustAdd(t, owner, begin(4))
	if state := owner.State(); len(state.Sessions) != 2 || state.LeastGeneration != 2 {
		t.Errorf("state %+v", state)
	}
	r.ring = r.next
	mustAudit(t, r.fixture)
}

// Before a key is known, every key set on the way is kept: which of them is ours only the key can say.
func TestOpen_KeySets(t *testing.T) {
	f := newFixture(t)
	mustAdd(t, f.open(t, f.store), oplog.Entry{Kind: oplog.Keys, Slots: []string{"keys/b", "keys/c"}, KeyRing: "keys/ring"})
	l, err := oplog.Open(t.Context(), f.store, f.clock)
	if err != nil {
		t.Fatal(err)
	}
	sets := l.KeySets()
	if len(sets) != 2 || strings.Join(sets[0].Slots, " ") != "keys/b keys/c" || sets[1].Slots[0] != "keys/slot" || sets[1].KeyRing != "keys/ring" {
		t.Errorf("key sets %+v", sets)
	}
	if err := l.Unlock(t.Context(), oplog.Access{Ring: f.ring}); err != nil || len(l.KeySets()) != 0 {
		t.Errorf("after unlocking: %+v, %v", l.KeySets(), err)
	}
}
