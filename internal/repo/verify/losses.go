package verify

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
)

// checkLosses finds the restore points that are hit by damage of the log and of the keys: what no list of theirs names.
func (v *verifier) checkLosses(ctx context.Context) error {
	slotLost := len(v.state.Slots) > 0 && !slices.ContainsFunc(v.state.Slots, func(name string) bool { return !v.isProblem(name) })
	if slotLost || v.isProblem(v.state.KeyRing) || v.isProblem(layout.EntryName(0)) {
		v.hitAll()
	}
	for n := range v.state.Next {
		if !v.isProblem(layout.EntryName(n)) {
			continue
		}
		if err := v.entryLost(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) hitAll() {
	for _, p := range v.state.Points {
		v.hits(p.ID)
	}
}

// entryLost tells which restore points a damaged log entry spoke of. A checkpoint after it may still say; else its own bytes,
// compared with the points that are known, since they may be wrong just there; if it is gone altogether it may have published
// any point whose pack list lies about.
func (v *verifier) entryLost(ctx context.Context, n uint64) error {
	for _, p := range v.state.Points {
		if p.Published == n {
			v.hits(p.ID)
			return nil
		}
	}
	lists, err := v.unpublished(ctx)
	if err != nil {
		return err
	}
	data, err := blob.ReadAll(ctx, v.store, layout.EntryName(n), layout.EntryBytesMax)
	strange := err == nil && v.o.Key != nil && oplog.IsStrange(v.o.Key.Ring, data, n)
	if stored.IsDamage(err) || strange { // what a stranger wrote there says nothing of what it may have taken the place of
		v.hits(lists...)
		if strange {
			v.strange(layout.EntryName(n))
		}
		return nil
	}
	if err != nil {
		return err
	}
	text := string(data)
	switch {
	case !strings.Contains(text, `"kind"`) && !strings.Contains(text, `"point`):
		v.hits(lists...) // nothing is left of it
	case strings.Contains(text, `"kind":"keys"`):
		v.hitAll()
	case strings.Contains(text, `"kind":"begin"`): // its parents are not what it speaks of
	default:
		v.hits(v.namedIn(text, lists)...)
	}
	return nil
}

// namedIn returns the points that a text names, give or take one byte; failing that, what stands where a point should.
func (v *verifier) namedIn(text string, lists []holdfast.PointID) []holdfast.PointID {
	known := lists
	for _, p := range v.state.Points {
		known = append(slices.Clip(known), p.ID)
	}
	var named []holdfast.PointID
	for _, id := range known {
		if containsNearly(text, string(id)) {
			named = append(named, id)
		}
	}
	const label, size = `"point":"`, len("20060102-150405-00000000")
	if _, rest, ok := strings.Cut(text, label); ok && len(named) == 0 && len(rest) >= size {
		named = append(named, holdfast.PointID(strings.ToValidUTF8(rest[:size], "?")))
	}
	return named
}

// containsNearly reports whether word occurs in text with at most one byte changed.
func containsNearly(text, word string) bool {
	for start := range len(text) - len(word) + 1 {
		differ := 0
		for i := 0; i < len(word) && differ < 2; i++ {
			if text[start+i] != word[i] {
				differ++
			}
		}
		if differ < 2 {
			return true
		}
	}
	return false
}

// unpublished returns the points of sound pack lists that the log does not lead to and whose session was not given up: points
// that were about to be published, or whose publication the log has lost.
func (v *verifier) unpublished(ctx context.Context) ([]holdfast.PointID, error) {
	var points []holdfast.PointID
	for _, name := range slices.Sorted(maps.Keys(v.present)) {
		if kind, _ := layout.Parse(name); kind != layout.List || v.known[name] || v.isProblem(name) {
			continue
		}
		list, err := v.lists().Read(ctx, name)
		if stored.IsDamage(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		session := v.state.Session(list.Session)
		givenUp := session != nil && session.Status == oplog.SessionAbandoned
		if list.Point != "" && !givenUp && v.state.Point(list.Point) == nil {
			points = append(points, list.Point)
		}
	}
	return points, nil
}

// machines names the VMs of the points that are hit, from the log, or where it lost a point, from the manifest. It needs the key.
func (v *verifier) machines(ctx context.Context) ([]holdfast.ResourceID, error) {
	vms, lost := map[holdfast.ResourceID]bool{}, maps.Clone(v.hit)
	for _, p := range v.state.Points {
		if !v.hit[p.ID] {
			continue
		}
		delete(lost, p.ID)
		if vm, err := v.o.Key.Machine(p); err == nil { // else the entry is named as damaged
			vms[vm] = true
		}
	}
	if len(lost) > 0 {
		for name := range v.present {
			if kind, _ := layout.Parse(name); kind != layout.Manifest || v.known[name] {
				continue
			}
			point, err := v.o.Key.Manifest(ctx, name)
			if err != nil && !stored.IsDamage(err) {
				return nil, err
			}
			if err == nil && lost[point.ID] {
				vms[point.VM] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(vms)), nil
}
