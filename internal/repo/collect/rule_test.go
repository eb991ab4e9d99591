package collect

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

func data(pack int, size, live int64) candidate {
	return candidate{kind: layout.DataPack, pack: pack, size: size, live: live}
}

// The cost rule takes packs that free enough for what is moved, the best first, as far as may be moved at once; young packs stay, and
// packs that the newest points are scattered over are taken sooner.
func TestRule_Worth(t *testing.T) {
	const mib = 1 << 20
	rule := Rule{FreedPerMoved: 1, ScatteredFreedPerMoved: 1.0 / 3, MoveBytesMax: 30 * mib}
	young, strewn := data(4, 32*mib, mib), data(5, 32*mib, 20*mib)
	young.young, strewn.scattered = true, true
	var got []int
	for _, c := range rule.choose([]candidate{data(0, 32*mib, 17*mib), data(1, 32*mib, 16*mib), data(2, 32*mib, 2*mib), data(3, 32*mib, 31*mib), young, strewn}) {
		got = append(got, c.pack)
	}
	if !slices.Equal(got, []int{2, 1}) { // the strewn one is worth it, and more than may be moved
		t.Errorf("chosen: %v", got)
	}
	rule.MoveBytesMax = 64 * mib
	if got := rule.choose([]candidate{strewn, data(0, 32*mib, 17*mib)}); len(got) != 1 || got[0].pack != 5 {
		t.Errorf("chosen: %+v", got)
	}
}

// Packs of a point between which reading goes to and fro are moved together; a pack that is read in one go stays, so does one that cannot be moved, and
// what was gathered is not gathered again.
func TestRule_Gather(t *testing.T) {
	const mib = 1 << 20
	rule := Rule{SeeksPerGiBMax: 256, GatherBytesMax: 100 * mib, MoveBytesMax: 1 << 40}
	movable := func(pack int) (int64, bool) { return 16 * mib, pack != 9 }
	s := strewing{order: []int{0, 1, 2, 3, 9}, jumps: map[jump]int{
		{0, 1}: 40, {1, 0}: 40, // to and fro
		{1, 2}: 1, {2, 3}: 1, // on to the next one
		{0, 9}: 500, {9, 0}: 500,
	}}
	if got := rule.gather(s, movable); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("gathered: %v", got)
	}
	inOrder := strewing{order: []int{4, 5, 2, 3, 9}, jumps: map[jump]int{{4, 5}: 1, {5, 2}: 1, {2, 3}: 1, {4, 9}: 500, {9, 4}: 500}}
	if got := rule.gather(inOrder, movable); got != nil {
		t.Errorf("gathered again: %v", got)
	}
	within := strewing{order: []int{6}, jumps: map[jump]int{{6, 6}: 90}}
	if got := rule.gather(within, movable); !slices.Equal(got, []int{6}) {
		t.Errorf("not in order within itself: %v", got)
	}
	rule.GatherBytesMax = 40 * mib
	if got := rule.gather(strewing{order: []int{0, 1, 2}, jumps: map[jump]int{{0, 1}: 40, {1, 2}: 40, {2, 0}: 40}}, movable); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("beyond what may be moved: %v", got)
	}
}

// Small packs are united when there are enough of a size class and kind, so that their number stays logarithmic however many come.
func TestRule_UniteKeepsTheirNumberSmall(t *testing.T) {
	rule := DefaultRule()
	var packs []candidate
	moved, rounds := int64(0), 2000
	for n := range rounds {
		packs = append(packs, data(n, 100<<10, 100<<10))
		chosen := rule.choose(packs)
		if len(chosen) == 0 {
			continue
		}
		united := data(1<<20+n, 0, 0)
		for _, c := range chosen {
			united.size, united.live = united.size+c.size, united.live+c.live
			packs = slices.DeleteFunc(packs, func(p candidate) bool { return p.pack == c.pack })
		}
		moved += united.live
		packs = append(packs, united)
	}
	if len(packs) > 60 { // 2,000 packs of 100 KiB are 25 of 8 MiB, and up to seven of each of two classes
		t.Errorf("%d packs are left of %d", len(packs), rounds)
	}
	if perByte := float64(moved) / float64(rounds*100<<10); perByte > 3 {
		t.Errorf("each byte was moved %.1f times", perByte)
	}
}

// The census knows every chunk that is needed, and estimates their number well enough for a rule of thumb, in about a hundred bytes a
// pack.
func TestCensus_Estimate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var packs []packInfo
	for range 200 {
		p := packInfo{size: 32 << 20}
		for i := range p.hash {
			p.hash[i] = byte(rnd.Uint32())
		}
		packs = append(packs, p)
	}
	s := newShelf(layout.DataPack, packs)
	if perPack := (len(s.filters)*8 + s.len()*(layout.HashSize+4+4+1)) / s.len(); perPack > 110 {
		t.Errorf("%d bytes a pack", perPack)
	}
	for i := range s.len() {
		if s.needed(i) {
			t.Fatal("a pack is needed that nobody needs")
		}
		want := 1 + rnd.IntN(400)
		for n := range want {
			s.needChunk(i, int64(64+n/8*500_000), n%8)
			s.needChunk(i, int64(64+n/8*500_000), n%8) // needed twice, counted once
		}
		if got := s.chunks(i); !s.needed(i) || got < 0.75*float64(want)-3 || got > 1.25*float64(want)+3 {
			t.Errorf("%d chunks are taken for %.0f", want, got)
		}
	}
}

// Packs are found by name, those that came late too, and no other.
func TestCensus_Find(t *testing.T) {
	s := newShelf(layout.TreePack, []packInfo{{hash: layout.Hash{3}}, {hash: layout.Hash{1}}, {hash: layout.Hash{2}}})
	late := s.add(packInfo{hash: layout.Hash{0}})
	for _, row := range []struct {
		hash layout.Hash
		want int
		ok   bool
	}{{layout.Hash{1}, 0, true}, {layout.Hash{3}, 2, true}, {layout.Hash{0}, late, true}, {layout.Hash{4}, 0, false}} {
		if got, ok := s.find(row.hash); ok != row.ok || ok && got != row.want {
			t.Errorf("%x is %d, %v", row.hash[:1], got, ok)
		}
	}
}

// Nodes are known exactly: none is taken for another, whatever their sizes, since what is known is not visited again.
func TestNodeSet_Exact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	set, model := newNodeSet(), map[nodePlace]bool{}
	for pack := range 3 {
		for offset := int64(64); offset < 1<<20; {
			stored := 58 + rnd.IntN(3000)
			place := nodePlace{int32(pack), uint32(offset)}
			if rnd.IntN(2) == 0 {
				if set.has(pack, offset, stored) || !set.add(pack, offset, stored) || set.add(pack, offset, stored) {
					t.Fatalf("a node of %d bytes at %d", stored, offset)
				}
				model[place] = true
			}
			if set.has(pack, offset, stored) != model[place] {
				t.Fatalf("a node of %d bytes at %d is taken for another", stored, offset)
			}
			offset += int64(stored)
		}
	}
}

// Reading that goes on in the frame where it is, or in the one after it, is no seek; anything else is.
func TestBreaks(t *testing.T) {
	b := newBreaks("p")
	for _, at := range []struct {
		pack   int
		offset int64
		stored int
	}{{0, 64, 100}, {0, 64, 100}, {0, 164, 100}, {0, 500, 100}, {1, 600, 100}, {0, 600, 100}} {
		b.at(placeAt(at.offset, at.stored), at.pack)
	}
	b.end()
	b.at(placeAt(700, 100), 0) // another disk
	if got := b.result(); got.Seeks != 5 || got.Packs != 2 || got.Bytes != 600 {
		t.Errorf("%+v", got)
	}
}

func placeAt(offset int64, stored int) *chunk.Place {
	return &chunk.Place{Offset: offset, Stored: stored}
}
