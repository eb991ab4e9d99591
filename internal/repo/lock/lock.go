// Package lock decides how long objects of a repository are locked, and carries it out (doc/format.md §12).
//
// Terms are what a writer promises: nobody can remove what its restore point needs before a date. New objects are locked at
// birth one window longer than promised, so that a point made a little later, which promises a little more, finds them
// locked long enough and asks for nothing. What is not locked long enough is renewed, in batches, after a plan that is
// made without asking anybody and names every request.
//
// What it promises: a lock is never shortened, and the lock that counts is that of a version which proves itself. What it
// must never do: rest on a local clock, or take a listing's word for what is missing.
package lock

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
)

const day = 24 * time.Hour

// How much longer than promised objects are locked, so that shared ones are not renewed by every point. Log entries are
// never removed, so that a longer window costs nothing but spares requests: there are many of them.
const (
	Window    = 10 * day
	LogWindow = 10 * Window
)

// daysMax is the longest retention that Azure takes.
const daysMax = 146_000

// Terms are what a restore point promises.
type Terms struct {
	// Until is the date before which nothing that the point needs can be removed, by the service's clock.
	Until time.Time
	// RequestsMax bounds the renewals of one point; 0 is no bound. A plan beyond it is refused before anything is asked.
	RequestsMax int
}

// Check returns a KindInvalid error unless the date can be promised at that time of the service.
func (t Terms) Check(now time.Time) error {
	if !t.Until.After(now) {
		return holdfast.Errorf(holdfast.KindInvalid, "the date until which a restore point is to be locked, %s, has passed", t.Until.UTC().Format(time.RFC3339)).
			WithField("lockFor").WithHint("the storage service says that it is %s", now.UTC().Format(time.RFC3339))
	}
	if longest := now.AddDate(0, 0, daysMax).Add(-LogWindow); t.Until.After(longest) {
		return holdfast.Errorf(holdfast.KindInvalid, "a restore point cannot be locked until %s", t.Until.UTC().Format(time.RFC3339)).
			WithField("lockFor").WithHint("the storage service takes dates up to %s", longest.UTC().Format(time.RFC3339))
	}
	return nil
}

// For returns how long an object of that name is locked when it is made or renewed.
func (t Terms) For(name string) time.Time {
	if kind, _ := layout.Parse(name); kind == layout.LogEntry {
		return t.Until.Add(LogWindow)
	}
	return t.Until.Add(Window)
}

// Held is an object as the service shows it. Its lock is that of a version which proves itself.
type Held struct {
	Name    string
	Version string    // of the lock
	Until   time.Time // zero when it is not locked
}

// Renewal is one request.
type Renewal struct {
	Held
	To time.Time
}

// Plan is what has to be asked so that a point may be published under terms.
type Plan struct {
	Renewals []Renewal // one request each, shortest locks first
	Enough   int       // objects that are locked long enough
}

// Requests returns how many requests carrying out the plan takes.
func (p Plan) Requests() int { return len(p.Renewals) }

// Plan decides which of the objects that a point needs have to be locked longer. It is pure: what it returns is what Renew
// does. More requests than the terms allow are KindInvalid.
func (t Terms) Plan(needed []Held) (Plan, error) {
	var p Plan
	for _, h := range needed {
		if !h.Until.Before(t.Until) {
			p.Enough++
			continue
		}
		p.Renewals = append(p.Renewals, Renewal{h, t.For(h.Name)})
	}
	slices.SortFunc(p.Renewals, func(a, b Renewal) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.Name, b.Name)) })
	if t.RequestsMax > 0 && p.Requests() > t.RequestsMax {
		return p, holdfast.Errorf(holdfast.KindInvalid, "the locks of %d objects have to be renewed, and %d requests are allowed", p.Requests(), t.RequestsMax).
			WithHint("allow more requests, or lock the restore point for a shorter time")
	}
	return p, nil
}

// renewalsAtOnce bounds the requests on their way: a storage account takes many, but others use it too.
const renewalsAtOnce = 16

// Renew carries a plan out and returns how many locks were moved. It may be called again after an error: a lock that was
// moved already stays.
func Renew(ctx context.Context, locker blob.Locker, p Plan) (int, error) {
	var moved atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(renewalsAtOnce)
	for _, r := range p.Renewals {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := locker.ExtendVersion(gctx, r.Name, r.Version, r.To); err != nil {
				return holdfast.Wrap(kindOf(err), err, "%s cannot be locked until %s", r.Name, r.To.UTC().Format(time.RFC3339))
			}
			moved.Add(1)
			return nil
		})
	}
	err := g.Wait()
	return int(moved.Load()), err
}

// kindOf: an object that is gone, or whose lock cannot be moved, is another run's doing.
func kindOf(err error) holdfast.Kind {
	if kind := holdfast.KindOf(err); kind != holdfast.KindInternal {
		return kind
	}
	return holdfast.KindConflict
}

// oneByOneMax is up to how many objects of a kind are asked about one by one: beyond it a list, which shows 5,000 a request, is
// cheaper for most repositories.
const oneByOneMax = 32

// Ways decides how to ask about objects: by lists of these kinds, and of the others one by one. It is pure.
func Ways(names []string) (lists []layout.Kind, single []string) {
	kinds := map[layout.Kind][]string{}
	for _, name := range names {
		kind, _ := layout.Parse(name)
		kinds[kind] = append(kinds[kind], name)
	}
	for kind, of := range kinds {
		if len(of) > oneByOneMax && kind != layout.Foreign {
			lists = append(lists, kind)
		} else {
			single = append(single, of...)
		}
	}
	slices.Sort(lists)
	slices.Sort(single)
	return lists, single
}

// Look asks the service how long objects are locked. Objects without a version that proves itself are missing in the result. A
// list may lag behind: what it does not show is asked about directly, and what it shows too short is at worst renewed once more.
func Look(ctx context.Context, through *shadow.Store, names []string) (map[string]Held, error) {
	held := make(map[string]Held, len(names))
	lists, single := Ways(names)
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	for _, kind := range lists {
		for versions, err := range through.AllVersions(ctx, layout.Prefix(kind)) {
			if err != nil {
				return nil, err
			}
			if !wanted[versions[0].Name] {
				continue
			}
			if err := note(ctx, through, held, versions); err != nil {
				return nil, err
			}
		}
	}
	for name := range wanted {
		if kind, _ := layout.Parse(name); slices.Contains(lists, kind) && held[name].Name == "" {
			single = append(single, name)
		}
	}
	for _, name := range single {
		versions, err := through.VersionsOf(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := note(ctx, through, held, versions); err != nil {
			return nil, err
		}
	}
	return held, nil
}

// note adds what the versions of one object say.
func note(ctx context.Context, through *shadow.Store, held map[string]Held, versions []blob.Version) error {
	v, ok, err := through.Longest(ctx, versions)
	if err == nil && ok {
		held[v.Name] = Held{Name: v.Name, Version: v.ID, Until: v.LockedUntil}
	}
	return err
}

// Horizon returns the earliest end among the locks of objects, and zero when one of them is not locked at that time.
func Horizon(objects []Held, now time.Time) time.Time {
	var horizon time.Time
	for i, h := range objects {
		if !h.Until.After(now) {
			return time.Time{}
		}
		if i == 0 || h.Until.Before(horizon) {
			horizon = h.Until
		}
	}
	return horizon
}
