package packlist

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

func packNamed(n int) string {
	var hash layout.Hash
	binary.BigEndian.PutUint64(hash[:], uint64(n))
	return layout.Name(layout.DataPack, hash)
}

// memory keeps lists under their names.
type memory struct {
	id      keys.RepositoryID
	objects map[string][]byte
	added   int64 // bytes
}

func newMemory() *memory { return &memory{id: keys.NewRepositoryID(), objects: map[string][]byte{}} }

func (m *memory) source(_ context.Context, name string) ([]byte, error) {
	data, ok := m.objects[name]
	if !ok {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s is missing", name)
	}
	return data, nil
}

func (m *memory) put(_ context.Context, data []byte) (string, error) {
	name := layout.Name(layout.List, layout.Sum(data))
	if _, ok := m.objects[name]; !ok {
		m.objects[name], m.added = data, m.added+int64(len(data))
	}
	return name, nil
}

func (m *memory) writer(gone Gone) Writer { return Writer{Source: m.source, Put: m.put, Gone: gone} }

// A chain of a thousand points, each adding a few packs to its parent's: every list names all packs of its point, the number of
// lists read stays small, and what one point writes stays far below what it names.
func TestPackList_StaysShortAndComplete(t *testing.T) {
	r, rnd := newMemory(), rand.New(rand.NewPCG(1, 1))
	var parents []string
	next, largest, most := 0, int64(0), 0
	for n := range 1000 {
		var packs []string
		for range 1 + rnd.IntN(4) {
			packs = append(packs, packNamed(next))
			next++
		}
		before := r.added
		name, err := r.writer(nil).Write(t.Context(), List{Repository: r.id, Point: holdfast.PointID(fmt.Sprint(n)), Packs: packs}, parents)
		if err != nil {
			t.Fatal(err)
		}
		parents = []string{name}
		if n%37 != 0 && n != 999 {
			largest = max(largest, r.added-before)
			continue
		}
		all, includes, err := Source(r.source).Expand(t.Context(), name)
		if err != nil || len(all) != next {
			t.Fatalf("point %d: %d packs of %d, %v", n, len(all), next, err)
		}
		most = max(most, len(includes))
	}
	t.Logf("%d packs; at most %d included lists; %d bytes written in all, at most %d at once", next, most, r.added, largest)
	if most > 4*(includesPerClass-1) {
		t.Errorf("%d included lists", most)
	}
	if average := r.added / 1000; average > 8<<10 {
		t.Errorf("a point writes %d bytes of lists on average", average)
	}
}

// Several parents, with lists in common, are united.
func TestPackList_SeveralParents(t *testing.T) {
	r := newMemory()
	var parents, all []string
	for p := range 3 {
		var packs []string
		for n := range 100 {
			packs = append(packs, packNamed(p*50+n)) // half of them in common
		}
		name, err := r.writer(nil).Write(t.Context(), List{Repository: r.id, Packs: packs}, parents[:min(p, 1)])
		if err != nil {
			t.Fatal(err)
		}
		parents, all = append(parents, name), append(all, packs...)
	}
	name, err := r.writer(nil).Write(t.Context(), List{Repository: r.id, Packs: []string{packNamed(9999)}}, parents)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Source(r.source).Expand(t.Context(), name)
	if err != nil || !slices.Equal(got, sortedUnique(append(all, packNamed(9999)))) {
		t.Errorf("%d packs, %v", len(got), err)
	}
}

// Included lists stop growing before they are too long for readers.
func TestPackList_GreatestList(t *testing.T) {
	line := len("pack " + packNamed(0) + "\n")
	if bytes := includedPacksMax*line + 1000; bytes > layout.ListBytesMax {
		t.Errorf("an included list may have %d bytes", bytes)
	}
	r := newMemory()
	list := List{Repository: r.id}
	for n := range 12 {
		list.Includes = append(list.Includes, Include{Name: layout.Name(layout.List, layout.Hash{byte(n)}), Packs: includedPacksMax/includesPerClass + 1})
	}
	if err := r.writer(nil).mergeIncludes(t.Context(), &list); err != nil || len(list.Includes) != 12 { // it would have to read them
		t.Errorf("%d lists, %v", len(list.Includes), err)
	}
}

// A list whose included list includes others is damage, and so is one that is missing or changed.
func TestExpandPackList_Damage(t *testing.T) {
	r := newMemory()
	nested, err := r.writer(nil).Write(t.Context(), List{Repository: r.id, Includes: []Include{{Name: layout.Name(layout.List, layout.Hash{1}), Packs: 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{nested, layout.Name(layout.List, layout.Hash{2})} {
		name, err := r.put(t.Context(), List{Repository: r.id, Includes: []Include{{Name: in, Packs: 1}}}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Source(r.source).Expand(t.Context(), name); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%s included: %v", in, err)
		}
	}
	if data, err := r.source(t.Context(), nested); err != nil || !bytes.HasSuffix(data, []byte(" 1\n")) {
		t.Errorf("%q, %v", data, err)
	}
}

// No bytes make the parser of pack lists panic; what it accepts is what it would write itself.
func FuzzPackList(f *testing.F) {
	f.Add(List{Point: "p", Packs: []string{packNamed(1), packNamed(2)}, Includes: []Include{{Name: layout.Name(layout.List, layout.Hash{}), Packs: 7}}}.Encode())
	f.Add(List{}.Encode())
	f.Add([]byte(Label + "\nrepository x\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		again, err := Parse(l.Encode())
		if err != nil || !slices.Equal(again.Packs, l.Packs) || !slices.Equal(again.Includes, l.Includes) || again.Point != l.Point {
			t.Errorf("%+v becomes %+v, %v", l, again, err)
		}
	})
}

// Packs that are gone are replaced by what they were moved to, over any number of collections, and by nothing when nothing of them
// was needed; what lists do not rest on is forgotten.
func TestGone(t *testing.T) {
	a, b, c, d, e := packNamed(1), packNamed(2), packNamed(3), packNamed(4), packNamed(5)
	gone := Gone{a: {b, c}, b: {d}, e: nil}
	if got := gone.Resolve([]string{a, e, d, d}); !slices.Equal(got, []string{c, d}) {
		t.Errorf("resolved to %v", got)
	}
	if got := Gone(nil).Resolve([]string{c, a}); !slices.Equal(got, []string{a, c}) {
		t.Errorf("without a record: %v", got)
	}
	if got := gone.Needed(map[string]bool{a: true}); len(got) != 2 || !slices.Equal(got[a], []string{b, c}) || !slices.Equal(got[b], []string{d}) {
		t.Errorf("needed: %v", got)
	}
	m := newMemory()
	parsed, err := ParseGone(gone.Encode(m.id, holdfast.SessionID{7}))
	if err != nil || fmt.Sprint(parsed) != fmt.Sprint(gone) {
		t.Errorf("%v becomes %v, %v", gone, parsed, err)
	}
	// A list of a child takes over none of them, whether it names or includes them.
	var packs []string
	for n := range 40 {
		packs = append(packs, packNamed(n))
	}
	parent, err := m.writer(nil).Write(t.Context(), List{Repository: m.id, Packs: []string{a, e}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	child, err := m.writer(gone).Write(t.Context(), List{Repository: m.id, Packs: packs[10:]}, []string{parent})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Source(m.source).Expand(t.Context(), child)
	if err != nil || !slices.Equal(got, append([]string{c, d}, packs[10:]...)) {
		t.Errorf("the child's list: %v, %v", got, err)
	}
}

// A successor that is its own successor, as hostile bytes may say, ends the resolving all the same.
func TestGone_Circle(t *testing.T) {
	gone := Gone{packNamed(1): {packNamed(2)}, packNamed(2): {packNamed(1)}}
	if got := gone.Resolve([]string{packNamed(1)}); len(got) != 0 {
		t.Errorf("resolved to %v", got)
	}
	if got := gone.Needed(map[string]bool{packNamed(1): true}); len(got) != 2 {
		t.Errorf("needed: %v", got)
	}
}

// No bytes make the parsers of condemnations and records of gone packs panic; what they accept is what they would write.
func FuzzCondemnation(f *testing.F) {
	c := Condemnation{Repository: keys.NewRepositoryID(), Session: holdfast.SessionID{1}, Names: []string{packNamed(1)}}
	f.Add(c.Encode())
	f.Add(Gone{packNamed(1): {packNamed(2)}}.Encode(c.Repository, c.Session))
	f.Add([]byte(CondemnationLabel))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCondemnation(data)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Error(err)
		}
		for _, name := range c.Names {
			if kind, _ := layout.Parse(name); kind == layout.Foreign {
				t.Errorf("%q is condemned", name)
			}
		}
		g, err := ParseGone(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		if again, err := ParseGone(g.Encode(c.Repository, c.Session)); err != nil || len(again) != len(g) {
			t.Errorf("%v becomes %v, %v", g, again, err)
		}
		if _, label, err := OwnerOf(data); err != nil || label != GoneLabel {
			t.Errorf("a record is called %q: %v", label, err)
		}
	})
}
