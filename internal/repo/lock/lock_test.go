package lock_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/lock"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

const day = 24 * time.Hour

func start() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

func pack(n int) string { return layout.Name(layout.DataPack, layout.Sum(fmt.Append(nil, n))) }

func anything([]byte, uint64) error { return nil }

// A point a day, each promising the same time, renews what all of them share once in a window, and nothing in between.
func TestPlan_OncePerWindow(t *testing.T) {
	held := lock.Held{Name: pack(1)}
	entry := lock.Held{Name: layout.EntryName(7)}
	var packs, entries []int
	for d := range 220 {
		terms := lock.Terms{Until: start().Add(time.Duration(d+30) * day)}
		p, err := terms.Plan([]lock.Held{held, entry})
		if err != nil || p.Requests()+p.Enough != 2 {
			t.Fatalf("%+v, %v", p, err)
		}
		for _, r := range p.Renewals {
			if r.To.Before(terms.Until) || !r.To.After(r.Until) {
				t.Fatalf("day %d: %+v", d, r)
			}
			if r.Name == held.Name {
				packs, held.Until = append(packs, d), r.To
			} else {
				entries, entry.Until = append(entries, d), r.To
			}
		}
	}
	if len(packs) != 20 || packs[1]-packs[0] != 11 {
		t.Errorf("a shared pack is renewed on the days %v", packs)
	}
	if !slices.Equal(entries, []int{0, 101, 202}) {
		t.Errorf("an entry is renewed on the days %v", entries)
	}
}

// Whatever is held, after the plan everything is locked as promised, nothing was shortened, and the requests are those that were said.
func TestPlan_Keeps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := lock.Terms{Until: start().Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "days")) * day)}
		var needed []lock.Held
		for i := range rapid.IntRange(0, 20).Draw(t, "objects") {
			h := lock.Held{Name: pack(i), Version: "v"}
			if rapid.Bool().Draw(t, "locked") {
				h.Until = start().Add(time.Duration(rapid.IntRange(-10, 500).Draw(t, "until")) * day)
			}
			needed = append(needed, h)
		}
		p, err := terms.Plan(needed)
		if err != nil {
			t.Fatal(err)
		}
		after := map[string]time.Time{}
		for _, h := range needed {
			after[h.Name] = h.Until
		}
		for _, r := range p.Renewals {
			if r.To.Before(after[r.Name]) {
				t.Errorf("%s is shortened from %s to %s", r.Name, after[r.Name], r.To)
			}
			after[r.Name] = r.To
		}
		for name, until := range after {
			if until.Before(terms.Until) {
				t.Errorf("%s is locked until %s, promised is %s", name, until, terms.Until)
			}
		}
		if p.Requests() > 0 {
			terms.RequestsMax = p.Requests() - 1
			if _, err := terms.Plan(needed); terms.RequestsMax > 0 && !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Errorf("%d requests where %d are allowed: %v", p.Requests(), terms.RequestsMax, err)
			}
		}
	})
}

// Dates that cannot be promised are refused, and the service's clock decides.
func TestTerms_Check(t *testing.T) {
	for until, good := range map[time.Time]bool{
		start().Add(time.Second): true, start().Add(30 * day): true, start().AddDate(0, 0, 145_000): true,
		start(): false, start().Add(-day): false, start().AddDate(0, 0, 145_999): false,
	} {
		err := lock.Terms{Until: until}.Check(start())
		var e *holdfast.Error
		if good != (err == nil) || !good && (!errors.As(err, &e) || e.Kind != holdfast.KindInvalid || e.Field != "lockFor" || e.Hint == "") {
			t.Errorf("%s: %v", until, err)
		}
	}
}

// Few objects are asked about one by one, many by a list of their kind.
func TestWays(t *testing.T) {
	var names []string
	for i := range 33 {
		names = append(names, pack(i))
	}
	for n := range uint64(32) {
		names = append(names, layout.EntryName(n))
	}
	lists, single := lock.Ways(names)
	if !slices.Equal(lists, []layout.Kind{layout.DataPack}) || len(single) != 32 || single[0] != layout.EntryName(0) {
		t.Errorf("lists %v, %d one by one", lists, len(single))
	}
	if lists, single := lock.Ways(nil); lists != nil || single != nil {
		t.Errorf("of nothing: %v, %v", lists, single)
	}
}

// stored puts packs into a store in memory, locked for so many days each.
func stored(t *testing.T, days ...int) (*mem.Store, []string) {
	t.Helper()
	store := mem.New(clock.NewManual(start()))
	var names []string
	for i, d := range days {
		var o blob.PutOptions
		if d > 0 {
			o.LockUntil = start().Add(time.Duration(d) * day)
		}
		if err := store.Put(t.Context(), pack(i), fmt.Append(nil, i), o); err != nil {
			t.Fatal(err)
		}
		names = append(names, pack(i))
	}
	return store, names
}

// Look shows the locks of what proves itself: garbage on top that is locked for ever counts for nothing, a list that is late
// hides nothing, and what is not there is missing.
func TestLook(t *testing.T) {
	for _, many := range []int{0, 100} {
		store, names := stored(t, append([]int{5, 0, 20, 7, 7}, make([]int, many)...)...)
		a := store.Adversary()
		a.Overwrite(names[0], []byte("garbage"))
		if err := store.Extend(t.Context(), names[0], start().Add(1000*day)); err != nil {
			t.Fatal(err)
		}
		a.Delete(names[2])
		a.Hide(names[3])
		a.Erase(names[4])
		held, err := lock.Look(t.Context(), shadow.New(store, anything), names)
		if err != nil || len(held) != len(names)-1 {
			t.Fatalf("%d of %d objects, %v", len(held), len(names), err)
		}
		for i, want := range []int{5, 0, 20, 7} {
			if got := held[names[i]]; got.Until.IsZero() != (want == 0) || want > 0 && !got.Until.Equal(start().Add(time.Duration(want)*day)) {
				t.Errorf("object %d: %+v, want %d days", i, got, want)
			}
		}
	}
}

// What is renewed is the version that proves itself, wherever it lies. A renewal that fails leaves nothing shorter, and is
// finished by the next.
func TestRenew(t *testing.T) {
	terms := lock.Terms{Until: start().Add(30 * day)}
	for at := 1; ; at++ {
		store, names := stored(t, 5, 0, 50, 0)
		store.Adversary().Overwrite(names[0], []byte("garbage"))
		store.Adversary().Delete(names[1])
		through := shadow.New(store, anything)
		faults := wrap.NewFaults(wrap.FailAfterEffect, at)
		err := renew(t, through, wrap.Fault(store, faults).(blob.Locker), names, terms)
		if faults.Fired() == (err == nil) {
			t.Fatalf("call %d: %v", at, err)
		}
		if err := renew(t, through, store, names, terms); err != nil {
			t.Fatal(err)
		}
		held, err := lock.Look(t.Context(), through, names)
		if err != nil {
			t.Fatal(err)
		}
		var all []lock.Held
		for _, h := range held {
			all = append(all, h)
		}
		if len(all) != 4 || lock.Horizon(all, start()).Before(terms.Until) || !held[names[2]].Until.Equal(start().Add(50*day)) {
			t.Errorf("call %d: %+v", at, held)
		}
		if !faults.Fired() {
			if at != 4 {
				t.Errorf("three renewals took %d calls", at-1)
			}
			return
		}
	}
}

func renew(t *testing.T, through *shadow.Store, locker blob.Locker, names []string, terms lock.Terms) error {
	t.Helper()
	held, err := lock.Look(t.Context(), through, names)
	if err != nil {
		t.Fatal(err)
	}
	var needed []lock.Held
	for _, h := range held {
		needed = append(needed, h)
	}
	p, err := terms.Plan(needed)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := lock.Renew(t.Context(), locker, p)
	if err == nil && moved != p.Requests() {
		t.Errorf("%d of %d locks were moved", moved, p.Requests())
	}
	return err
}

// The horizon is the earliest end, and none when something is not locked any more.
func TestHorizon(t *testing.T) {
	at := func(days int) lock.Held { return lock.Held{Until: start().Add(time.Duration(days) * day)} }
	for _, row := range []struct {
		objects []lock.Held
		want    time.Time
	}{
		{nil, time.Time{}},
		{[]lock.Held{at(3), at(2), at(9)}, at(2).Until},
		{[]lock.Held{at(3), {}}, time.Time{}},
		{[]lock.Held{at(3), at(0)}, time.Time{}},
	} {
		if got := lock.Horizon(row.objects, start()); !got.Equal(row.want) {
			t.Errorf("%v: %s, want %s", row.objects, got, row.want)
		}
	}
}
