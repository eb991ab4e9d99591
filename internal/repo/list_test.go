package repo

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
)

func packNamed(n int) string {
	var hash layout.Hash
	binary.BigEndian.PutUint64(hash[:], uint64(n))
	return layout.Name(layout.DataPack, hash)
}

func listRepository() *Repository {
	return &Repository{store: &countingStore{Store: mem.New(clock.System{})}, id: keys.NewRepositoryID()}
}

// A chain of a thousand points, each adding a few packs to its parent's: every list names all packs of its point, the number of
// lists read stays small, and what one point writes stays far below what it names.
func TestPackList_StaysShortAndComplete(t *testing.T) {
	r, rnd := listRepository(), rand.New(rand.NewPCG(1, 1))
	var parents []string
	next, largest, most := 0, int64(0), 0
	for n := range 1000 {
		var packs []string
		for range 1 + rnd.IntN(4) {
			packs = append(packs, packNamed(next))
			next++
		}
		before := r.BytesAdded()
		name, err := r.writePackList(t.Context(), packlist.List{Repository: r.id, Point: holdfast.PointID(fmt.Sprint(n)), Packs: packs}, parents)
		if err != nil {
			t.Fatal(err)
		}
		parents = []string{name}
		if n%37 != 0 && n != 999 {
			largest = max(largest, r.BytesAdded()-before)
			continue
		}
		all, includes, err := expandPackList(t.Context(), r.store, name)
		if err != nil || len(all) != next {
			t.Fatalf("point %d: %d packs of %d, %v", n, len(all), next, err)
		}
		most = max(most, len(includes))
	}
	t.Logf("%d packs; at most %d included lists; %d bytes written in all, at most %d at once", next, most, r.BytesAdded(), largest)
	if most > 4*(includesPerClass-1) {
		t.Errorf("%d included lists", most)
	}
	if average := r.BytesAdded() / 1000; average > 8<<10 {
		t.Errorf("a point writes %d bytes of lists on average", average)
	}
}

// Several parents, with lists in common, are united.
func TestPackList_SeveralParents(t *testing.T) {
	r := listRepository()
	var parents, all []string
	for p := range 3 {
		var packs []string
		for n := range 100 {
			packs = append(packs, packNamed(p*50+n)) // half of them in common
		}
		name, err := r.writePackList(t.Context(), packlist.List{Repository: r.id, Packs: packs}, parents[:min(p, 1)])
		if err != nil {
			t.Fatal(err)
		}
		parents, all = append(parents, name), append(all, packs...)
	}
	name, err := r.writePackList(t.Context(), packlist.List{Repository: r.id, Packs: []string{packNamed(9999)}}, parents)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := expandPackList(t.Context(), r.store, name)
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
	r := listRepository()
	list := packlist.List{Repository: r.id}
	for n := range 12 {
		list.Includes = append(list.Includes, packlist.Include{Name: layout.Name(layout.List, layout.Hash{byte(n)}), Packs: includedPacksMax/includesPerClass + 1})
	}
	if err := r.mergeIncludes(t.Context(), list.Session, &list); err != nil || len(list.Includes) != 12 { // it would have to read them
		t.Errorf("%d lists, %v", len(list.Includes), err)
	}
}

// A list whose included list includes others is damage, and so is one that is missing or changed.
func TestExpandPackList_Damage(t *testing.T) {
	r := listRepository()
	nested, err := r.writePackList(t.Context(), packlist.List{Repository: r.id, Includes: []packlist.Include{{Name: layout.Name(layout.List, layout.Hash{1}), Packs: 1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{nested, layout.Name(layout.List, layout.Hash{2})} {
		name, err := r.put(t.Context(), layout.List, packlist.List{Repository: r.id, Includes: []packlist.Include{{Name: in, Packs: 1}}}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := expandPackList(t.Context(), r.store, name); !isDamage(err) {
			t.Errorf("%s included: %v", in, err)
		}
	}
	if data, err := blob.ReadAll(t.Context(), r.store, nested, 1000); err != nil || !bytes.HasSuffix(data, []byte(" 1\n")) {
		t.Errorf("%q, %v", data, err)
	}
}

// No bytes make the parser of pack lists panic; what it accepts is what it would write itself.
func FuzzPackList(f *testing.F) {
	f.Add(packlist.List{Point: "p", Packs: []string{packNamed(1), packNamed(2)}, Includes: []packlist.Include{{Name: layout.Name(layout.List, layout.Hash{}), Packs: 7}}}.Encode())
	f.Add(packlist.List{}.Encode())
	f.Add([]byte(packlist.Label + "\nrepository x\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := packlist.Parse(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		again, err := packlist.Parse(l.Encode())
		if err != nil || !slices.Equal(again.Packs, l.Packs) || !slices.Equal(again.Includes, l.Includes) || again.Point != l.Point {
			t.Errorf("%+v becomes %+v, %v", l, again, err)
		}
	})
}

// No bytes make the parser of condemnations panic.
func FuzzCondemnation(f *testing.F) {
	f.Add([]byte(packlist.CondemnationLabel + "\n" + packNamed(1) + "\n"))
	f.Add([]byte(packlist.CondemnationLabel))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := packlist.ParseCondemnation(data)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Error(err)
		}
		for name := range names {
			if kind, _ := layout.Parse(name); kind == layout.Foreign {
				t.Errorf("%q is condemned", name)
			}
		}
	})
}

// No JSON in a manifest makes reading its disks panic, and sizes out of bounds do not get through.
func FuzzManifest(f *testing.F) {
	top, err := json.Marshal(topPlace{ID: strings.Repeat("ab", 32), Pack: layout.Name(layout.TreePack, layout.Hash{}), Offset: 64, Stored: 100})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(holdfast.Point{ID: "p", Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: 1 << 30, Top: top}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"disks":[{"sizeBytes":9223372036854775807,"top":{"id":"","pack":"x"}}]}`))
	f.Add([]byte(`{"disks":[{"sizeBytes":-5,"top":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		point, err := parseManifest(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) && !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Error(err)
			}
			return
		}
		for _, disk := range point.Disks {
			if disk.SizeBytes < 0 || disk.SizeBytes > DiskBytesMax {
				t.Errorf("a disk of %d bytes", disk.SizeBytes)
			}
			if _, err := decodeTop(disk); err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
		}
	})
}
