package repo_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Histories on a store that can lock. Whatever happens, no horizon becomes lower, and nothing is removed that was promised to stay. In the end
// somebody with all rights on the data does his worst, and what was promised is listed and restored unaided; or the locks run out, and the
// collections free all that nothing needs.
func TestModel_Immutable(t *testing.T) {
	histories(t, func(t *rapid.T) {
		m := newModel(t)
		m.locking = true
		actions := m.actions()
		delete(actions, "late") // what the adversary does at the end is enough
		actions["time passes"], actions["look at horizons"] = m.timePasses, m.lookAtHorizons
		t.Repeat(actions)
		m.lookAtHorizons(t)
		if rapid.Bool().Draw(t, "attacked") {
			m.attacked(t)
			return
		}
		m.clock.Advance(4000 * day)
		m.finish(t)
	})
}

// promise draws how long the point of a session is to stay; zero when nothing is promised.
func (m *model) promise(t *rapid.T, r *repo.Repository) time.Time {
	if !m.locking {
		return time.Time{}
	}
	days := rapid.SampledFrom([]int{0, 1, 7, 30, 365}).Draw(t, "days")
	if days == 0 {
		return time.Time{}
	}
	until, err := r.RetainFor(context.Background(), days)
	must(t, err)
	return until
}

func (m *model) timePasses(t *rapid.T) {
	m.clock.Advance(time.Duration(rapid.IntRange(1, 20*24).Draw(t, "hours")) * time.Hour)
}

func (m *model) horizon(t *rapid.T, p modelPoint) time.Time {
	locks, err := repo.Locks(context.Background(), m.store, repo.LocksOptions{Point: p.id})
	must(t, err)
	if locks.Horizon == nil {
		return time.Time{}
	}
	return *locks.Horizon
}

// lookAtHorizons asks until when each point stays, without a key.
func (m *model) lookAtHorizons(t *rapid.T) {
	for i, p := range m.points {
		horizon, now := m.horizon(t, p), m.clock.Now()
		for what, least := range map[string]time.Time{"it was promised": p.promise, "it was seen": p.horizon} {
			if least.After(now) && horizon.Before(least) {
				t.Fatalf("point %s stays until %s, and %s: %s", p.id, horizon, what, least)
			}
		}
		m.points[i].horizon = horizon
	}
}

// mustBeLocked checks that a point which was not removed could not be.
func (m *model) mustBeLocked(t *rapid.T, p modelPoint) {
	if p.promise.IsZero() {
		t.Fatalf("point %s, of which nothing was promised, is refused to be removed", p.id)
	}
}

// attacked lets somebody with all rights on the data delete, overwrite and shadow every object; then what was promised must be there.
func (m *model) attacked(t *rapid.T) {
	m.leaveAll(t)
	adversary := m.store.Adversary()
	for _, name := range adversary.Names() {
		switch rapid.IntRange(0, 2).Draw(t, "harm") {
		case 0:
			adversary.Purge(name)
		case 1:
			adversary.Delete(name)
		default:
			adversary.Overwrite(name, []byte("nothing of the kind"))
		}
	}
	promised := 0
	for _, p := range m.points {
		if p.promise.After(m.clock.Now()) {
			promised++
		}
	}
	if promised == 0 {
		return // nothing has to be left
	}
	r := m.openHandle(t)
	visible, err := r.Points()
	must(t, err)
	there := map[string]bool{}
	for _, p := range visible {
		there[string(p.ID)] = true
	}
	for _, p := range m.points {
		if !p.promise.After(m.clock.Now()) {
			continue
		}
		if !there[string(p.id)] {
			t.Fatalf("point %s, which stays until %s, is not listed", p.id, p.promise)
		}
		m.mustHold(t, r, p)
	}
	m.lookAtPromised(t)
}

// lookAtPromised asks once more until when the promised points stay.
func (m *model) lookAtPromised(t *rapid.T) {
	for _, p := range m.points {
		if now := m.clock.Now(); p.promise.After(now) {
			if horizon := m.horizon(t, p); horizon.Before(p.promise) {
				t.Fatalf("after the attack point %s stays until %s instead of %s", p.id, horizon, p.promise)
			}
		}
	}
}
