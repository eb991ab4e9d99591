package oplog_test

import (
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/ledger"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// The rules of doc/format.md §6.3, one row each: what happened before, what is appended, and what kind of refusal it meets.
func TestAllowed(t *testing.T) {
	removed := oplog.Entry{Kind: oplog.Remove, Points: []holdfast.PointID{point(1)}}
	owner := func(name string, epoch uint64) oplog.Entry {
		return oplog.Entry{Kind: oplog.Owner, Owner: name, Epoch: epoch}
	}
	on := func(n int, parents ...holdfast.PointID) oplog.Entry {
		e := begin(n)
		e.Parents = parents
		return e
	}
	owned := func(n int, name string, epoch uint64) oplog.Entry {
		e := begin(n)
		e.Owner, e.Epoch = name, epoch
		return e
	}
	index := func(session *holdfast.SessionID) oplog.Entry {
		return oplog.Entry{Kind: oplog.Index, Session: session, Added: []string{"index/a"}}
	}
	condemn, swept := oplog.Entry{Kind: oplog.Condemn, List: "lists/c"}, oplog.Entry{Kind: oplog.Swept, List: "lists/c"}
	proof := func(seen uint64, ranges ...ledger.Range) oplog.Entry {
		return oplog.Entry{Kind: oplog.Proofs, Proof: &oplog.Proof{Level: 1, Seen: seen, Ranges: ranges}}
	}
	for _, row := range []struct {
		name   string
		before []oplog.Entry
		entry  oplog.Entry
		kind   holdfast.Kind // "" is allowed
	}{
		{"a second genesis", nil, oplog.Entry{Kind: oplog.Genesis, Format: 1}, holdfast.KindConflict},
		{"a session", nil, begin(1), ""},
		{"a session twice", []oplog.Entry{begin(1)}, begin(1), holdfast.KindConflict},
		{"a session on a point", []oplog.Entry{begin(1), publish(1)}, on(2, point(1)), ""},
		{"a session on nothing", nil, on(1, point(1)), holdfast.KindConflict},
		{"a session on a removed point", []oplog.Entry{begin(1), publish(1), removed}, on(2, point(1)), holdfast.KindConflict},
		{"a publication", []oplog.Entry{begin(1)}, publish(1), ""},
		{"a publication without session", nil, publish(1), holdfast.KindConflict},
		{"a publication twice", []oplog.Entry{begin(1), publish(1)}, publish(1), holdfast.KindConflict},
		{"a publication after abandonment", []oplog.Entry{begin(1), abandon(1)}, publish(1), holdfast.KindConflict},
		{"a publication after settlement", []oplog.Entry{begin(1), abandon(1), settle(1)}, publish(1), holdfast.KindConflict},
		{"a point's id twice", []oplog.Entry{begin(1), publish(1), begin(2)}, oplog.Entry{Kind: oplog.Publish, Session: session(2), Point: point(1), Manifest: "m", List: "l"}, holdfast.KindConflict},
		{"a publication without manifest", []oplog.Entry{begin(1)}, oplog.Entry{Kind: oplog.Publish, Session: session(1), Point: point(1), List: "l"}, holdfast.KindConflict},
		{"an abandonment", []oplog.Entry{begin(1)}, abandon(1), ""},
		{"an abandonment of nothing", nil, abandon(1), holdfast.KindConflict},
		{"an abandonment of a publication", []oplog.Entry{begin(1), publish(1)}, abandon(1), holdfast.KindConflict},
		{"an abandonment twice", []oplog.Entry{begin(1), abandon(1)}, abandon(1), holdfast.KindConflict},
		{"a settlement of a publication", []oplog.Entry{begin(1), publish(1)}, settle(1), ""},
		{"a settlement of an abandonment", []oplog.Entry{begin(1), abandon(1)}, settle(1), ""},
		{"a settlement of an open session", []oplog.Entry{begin(1)}, settle(1), holdfast.KindConflict},
		{"a settlement without session", nil, oplog.Entry{Kind: oplog.Settle}, holdfast.KindConflict},
		{"a removal", []oplog.Entry{begin(1), publish(1)}, removed, ""},
		{"a removal of nothing", nil, removed, holdfast.KindNotFound},
		{"a removal of a parent in use", []oplog.Entry{begin(1), publish(1), on(2, point(1))}, removed, holdfast.KindConflict},
		{"a removal of a parent no longer in use", []oplog.Entry{begin(1), publish(1), on(2, point(1)), abandon(2)}, removed, ""},
		{"an annotation", []oplog.Entry{begin(1), publish(1)}, oplog.Entry{Kind: oplog.Annotate, Point: point(1), Sealed: []byte("x")}, ""},
		{"an annotation of nothing", nil, oplog.Entry{Kind: oplog.Annotate, Point: point(1)}, holdfast.KindConflict},
		{"a key change", nil, oplog.Entry{Kind: oplog.Keys, Slots: []string{"keys/b"}, KeyRing: "keys/r"}, ""},
		{"a key change without slots", nil, oplog.Entry{Kind: oplog.Keys, KeyRing: "keys/r"}, holdfast.KindConflict},
		{"a take-over", nil, owner("one", 1), ""},
		{"a take-over at the same time", []oplog.Entry{owner("one", 1)}, owner("two", 1), holdfast.KindConflict},
		{"a take-over that skips", nil, owner("one", 2), holdfast.KindConflict},
		{"a session of the owner", []oplog.Entry{owner("one", 1)}, owned(1, "one", 1), ""},
		{"a take-over by nobody", nil, owner("", 1), holdfast.KindConflict},
		{"a session of the old owner", []oplog.Entry{owner("one", 1), owner("two", 2)}, owned(1, "one", 1), holdfast.KindRefused},
		{"a publication across a take-over", []oplog.Entry{begin(1), owner("one", 1)}, publish(1), holdfast.KindRefused},
		{"the abandonment of a session across a take-over", []oplog.Entry{begin(1), owner("one", 1)}, abandon(1), ""},
		{"a proof", nil, proof(1, ledger.Range{From: 0, To: 7}, ledger.Range{From: 8, To: 9}), ""},
		{"a proof of nothing but damage", nil, proof(1), ""},
		{"a proof without one", nil, oplog.Entry{Kind: oplog.Proofs}, holdfast.KindConflict},
		{"a proof of what is to come", nil, proof(2), holdfast.KindConflict},
		{"a proof out of order", nil, proof(1, ledger.Range{From: 8, To: 9}, ledger.Range{From: 0, To: 8}), holdfast.KindConflict},
		{"a proof beyond the space", nil, proof(1, ledger.Range{From: 8, To: ledger.Cells}), holdfast.KindConflict},
		{"an index", nil, index(nil), ""},
		{"an index of a session", []oplog.Entry{begin(1)}, index(session(1)), ""},
		{"an index of an abandoned session", []oplog.Entry{begin(1), abandon(1)}, index(session(1)), holdfast.KindConflict},
		{"an index that tells about its runs", nil, oplog.Entry{Kind: oplog.Index, Added: []string{"index/a"}, About: []oplog.RunAbout{{Entries: 1}}}, ""},
		{"an index that tells about other runs", nil, oplog.Entry{Kind: oplog.Index, Added: []string{"index/a"}, About: make([]oplog.RunAbout, 2)}, holdfast.KindConflict},
		{"a condemnation", nil, condemn, ""},
		{"a condemnation by a session", []oplog.Entry{begin(1)}, oplog.Entry{Kind: oplog.Condemn, List: "lists/c", Session: session(1)}, ""},
		{"a condemnation by an abandoned session", []oplog.Entry{begin(1), abandon(1)}, oplog.Entry{Kind: oplog.Condemn, List: "lists/c", Session: session(1)}, holdfast.KindConflict},
		{"a condemnation of nothing", nil, oplog.Entry{Kind: oplog.Condemn}, holdfast.KindConflict},
		{"a sweep", []oplog.Entry{condemn}, swept, ""},
		{"a sweep of nothing", nil, swept, holdfast.KindConflict},
		{"a sweep twice", []oplog.Entry{begin(1), condemn, swept}, swept, holdfast.KindConflict},
		{"a checkpoint of nothing", nil, oplog.Entry{Kind: oplog.Checkpoint}, holdfast.KindConflict},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			l := f.openWith(t, f.store, oplog.Access{Ring: f.ring, Installation: "one"})
			mustAdd(t, l, row.before...)
			if err := add(l, row.entry); holdfast.KindOf(err) != row.kind {
				t.Errorf("kind %q, want %q: %v", holdfast.KindOf(err), row.kind, err)
			}
			mustAudit(t, f)
		})
	}
}

// What each kind means for the state.
func TestState_Fold(t *testing.T) {
	f := newFixture(t)
	l := f.openWith(t, f.store, oplog.Access{Ring: f.ring, Installation: "me"})
	first := publish(1)
	first.Added = []string{"index/a"}
	second := publish(2)
	second.Added, second.Dropped = []string{"index/b"}, []string{"index/a", "index/never"}
	mustAdd(t, l, begin(1), first, begin(2), second, settle(2),
		oplog.Entry{Kind: oplog.Annotate, Point: point(1), Sealed: []byte("note")},
		oplog.Entry{Kind: oplog.Keys, Slots: []string{"keys/new"}, KeyRing: "keys/ring2"},
		oplog.Entry{Kind: oplog.Owner, Owner: "me", Epoch: 1},
		oplog.Entry{Kind: oplog.Index, Added: []string{"index/c", "index/c"}, Dropped: []string{"index/b"}},
		oplog.Entry{Kind: oplog.Remove, Points: []holdfast.PointID{point(2)}})
	s := l.State()
	p := s.Point(point(1))
	if len(s.Points) != 1 || p == nil || p.Published != 2 || p.Subject != "s" || string(p.Summary.Sealed) != "summary" || len(p.Annotations) != 1 {
		t.Errorf("points %+v", s.Points)
	}
	if len(s.Sessions) != 1 || s.Sessions[0].Status != oplog.SessionPublished || s.Sessions[0].Point != point(1) || string(s.Sessions[0].Resources.Sealed) != "resources" {
		t.Errorf("sessions %+v", s.Sessions)
	}
	if len(s.Runs) != 1 || s.Runs[0] != "index/c" || s.Slots[0] != "keys/new" || s.KeyRing != "keys/ring2" || s.Owner != "me" || s.Epoch != 1 || s.Next != 11 {
		t.Errorf("state %+v", s)
	}
	if got := encoded(t, f.open(t, f.store)); got != encoded(t, l) {
		t.Error("folding anew gives another state")
	}
	data, _ := s.Encode()
	again, err := oplog.DecodeState(data)
	if err != nil {
		t.Fatal(err)
	}
	if twice, _ := again.Encode(); string(twice) != string(data) {
		t.Error("a state changes when it is stored")
	}
}

// A swept condemnation is known as long as a session is open that began before it, or a live index run may name what it condemns,
// and to nobody's harm no longer: only they can still lead to what is gone.
func TestState_SweptCondemnations(t *testing.T) {
	condemn, swept := oplog.Entry{Kind: oplog.Condemn, List: "lists/c"}, oplog.Entry{Kind: oplog.Swept, List: "lists/c"}
	run := func(clean uint64) oplog.Entry { // the genesis entry is 0, so the first entry of each row is 1
		return oplog.Entry{Kind: oplog.Index, Added: []string{"index/a"}, About: []oplog.RunAbout{{Clean: clean}}}
	}
	for _, row := range []struct {
		name    string
		entries []oplog.Entry
		known   bool
	}{
		{"condemned", []oplog.Entry{condemn}, true},
		{"swept, nobody there", []oplog.Entry{condemn, swept}, false},
		{"swept beside an older session", []oplog.Entry{begin(1), condemn, swept}, true},
		{"swept beside a newer session", []oplog.Entry{condemn, begin(1), swept}, false},
		{"older session published", []oplog.Entry{begin(1), condemn, swept, publish(1)}, false},
		{"older session abandoned", []oplog.Entry{begin(1), condemn, swept, abandon(1)}, false},
		{"one of two older sessions ended", []oplog.Entry{begin(1), begin(2), condemn, swept, abandon(1)}, true},
		{"older session ended by an index", []oplog.Entry{begin(1), condemn, swept, {Kind: oplog.Index, Session: session(1)}}, false},
		{"published session not settled", []oplog.Entry{begin(1), publish(1), condemn, swept}, false},
		{"a run of which nothing is known", []oplog.Entry{run(0), condemn, swept}, true},
		{"a run written without it", []oplog.Entry{condemn, run(2), swept}, false},
		{"a run written before it", []oplog.Entry{run(1), condemn, swept}, true},
		{"a run that may be written before it", []oplog.Entry{condemn, run(1), swept}, true},
		{"one run of two stated to be clean", []oplog.Entry{condemn, run(1), swept, {Kind: oplog.Index, Added: []string{"index/b"}, About: []oplog.RunAbout{{Clean: 2}}}}, true},
		{"a run stated to be clean later", []oplog.Entry{condemn, run(1), swept, run(2)}, false},
		{"a run dropped", []oplog.Entry{condemn, run(1), swept, {Kind: oplog.Index, Dropped: []string{"index/a"}}}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := newFixture(t)
			l := f.open(t, f.store)
			mustAdd(t, l, row.entries...)
			s := l.State()
			if known := len(s.Lists()) == 1; known != row.known {
				t.Errorf("condemnations %+v", s.Condemned)
			}
		})
	}
}

// Condemnations change the records of gone packs as they say, and leave their number behind when they are forgotten: by it a
// collector sees that another one condemned something since it looked.
func TestState_RecordsOfGonePacks(t *testing.T) {
	f := newFixture(t)
	l := f.open(t, f.store)
	mustAdd(t, l,
		oplog.Entry{Kind: oplog.Condemn, List: "lists/1", Added: []string{"lists/a"}}, oplog.Entry{Kind: oplog.Swept, List: "lists/1"},
		oplog.Entry{Kind: oplog.Condemn, List: "lists/2", Added: []string{"lists/b"}, Dropped: []string{"lists/a"}}, oplog.Entry{Kind: oplog.Swept, List: "lists/2"})
	s := l.State()
	if !slices.Equal(s.Gone, []string{"lists/b"}) || s.LastCondemned != 3 || len(s.Condemned) != 0 {
		t.Errorf("records %v, last condemnation %d, condemned %v", s.Gone, s.LastCondemned, s.Condemned)
	}
	if e, err := l.Entry(t.Context(), 3); err != nil || e.List != "lists/2" {
		t.Errorf("entry 3: %+v, %v", e, err)
	}
}

// A state that was handed out stays as it is, whatever is appended afterwards, and whoever else holds one.
func TestState_SnapshotsStay(t *testing.T) {
	f := newFixture(t)
	l := f.open(t, f.store)
	index := func(name, dropped string) oplog.Entry {
		return oplog.Entry{Kind: oplog.Index, Added: []string{name}, About: []oplog.RunAbout{{Entries: 1}}, Dropped: []string{dropped}}
	}
	var states, appended []oplog.State
	var want []string
	for _, e := range []oplog.Entry{
		begin(1), publish(1), begin(2), publish(2), settle(1), index("index/a", ""), index("index/b", ""),
		{Kind: oplog.Annotate, Point: point(1), Sealed: []byte("a")},
		begin(3), publish(3),
		{Kind: oplog.Remove, Points: []holdfast.PointID{point(1)}},
		begin(4), publish(4), index("index/c", "index/a"), index("index/b", ""),
		{Kind: oplog.Condemn, List: "lists/c"},
		{Kind: oplog.Annotate, Point: point(3), Sealed: []byte("b")},
		{Kind: oplog.Remove, Points: []holdfast.PointID{point(2), point(4)}},
		{Kind: oplog.Swept, List: "lists/c"},
		begin(5), publish(5), settle(5),
	} {
		mustAdd(t, l, e)
		for range 2 { // appended to by two callers
			s := l.State()
			data, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			states, want = append(states, s), append(want, string(data))
			s.Points, s.Runs = append(s.Points, oplog.PointState{ID: point(1000 + len(states))}), append(s.Runs, "theirs")
			appended = append(appended, s)
		}
	}
	for i := range states {
		if data, err := states[i].Encode(); err != nil || string(data) != want[i] {
			t.Fatalf("state %d has become\n%s, was\n%s", i, data, want[i])
		}
		if a := appended[i]; a.Points[len(a.Points)-1].ID != point(1001+i) || a.Runs[len(a.Runs)-1] != "theirs" {
			t.Fatalf("what a caller appended to state %d is gone", i)
		}
	}
	if got := encoded(t, f.open(t, f.store)); got != encoded(t, l) {
		t.Error("folding anew gives another state")
	}
}

// No bytes make the parser of entries panic. What it accepts is exactly what it would be as the entry it says it is.
func FuzzEntry(f *testing.F) {
	x := newFixture(f)
	l := x.open(f, x.store)
	mustAdd(f, l, begin(1), publish(1), settle(1))
	for n := range uint64(4) {
		data, err := blob.ReadAll(f.Context(), x.store, layout.EntryName(n), 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, n)
	}
	f.Add([]byte("{}\nmac \nsum \n"), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, n uint64) {
		if err := oplog.Check(data, n); err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Error(err)
		}
	})
}

// No bytes make the parser of states panic; what it accepts encodes and parses again.
func FuzzState(f *testing.F) {
	x := newFixture(f)
	l := x.open(f, x.store)
	mustAdd(f, l, begin(1), publish(1), begin(2), oplog.Entry{Kind: oplog.Condemn, List: "lists/c"})
	f.Add([]byte(encoded(f, l)))
	f.Add([]byte(`{"holdfast":"log state","format":1,"points":null}`))
	f.Add([]byte(`{"holdfast":"log state","format":1,"runs":["index/a"],"about":[{"prefix":"01","entries":5,"bytes":900,"clean":3}]}`))
	f.Add([]byte(`{"holdfast":"log state","format":1,"runs":["index/a"],"about":[{},{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := oplog.DecodeState(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		again, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := oplog.DecodeState(again); err != nil {
			t.Error(err)
		}
	})
}
