package diskdata

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
)

// TestMerge proves against a model of single units that every changed byte is yielded as changed, every byte that is only
// cleared as zero, nothing else at all, in order and without overlap, however the lists overlap.
func TestMerge_AnyLists_KeepEveryByte(t *testing.T) {
	const units = 64
	extents := func(t *rapid.T, name string, zero bool) []holdfast.Extent {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) holdfast.Extent {
			offset := rapid.Int64Range(0, units-1).Draw(t, "offset")
			return holdfast.Extent{Offset: offset, Length: rapid.Int64Range(1, units-offset).Draw(t, "length"), Zero: zero}
		}), 0, 8).Draw(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		changed, cleared := extents(t, "changed", false), extents(t, "cleared", true)
		var want, got [units]byte
		for _, list := range [][]holdfast.Extent{cleared, changed} { // changed wins
			for _, e := range list {
				for i := e.Offset; i < e.End(); i++ {
					want[i] = mark(e)
				}
			}
		}
		end := int64(0)
		for _, e := range merge(changed, cleared) {
			if e.Offset < end || e.Length <= 0 {
				t.Fatalf("%+v is empty or begins before %d", e, end)
			}
			for i := e.Offset; i < e.End(); i++ {
				got[i] = mark(e)
			}
			end = e.End()
		}
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func mark(e holdfast.Extent) byte {
	if e.Zero {
		return 2
	}
	return 1
}

// TestAccept_OutOfOrder proves that a page that goes back behind the page before it is an error: taking it silently would
// lose ranges.
func TestAccept_PageOutOfOrder_IsAnError(t *testing.T) {
	w := walk{blob: &Blob{config: Config{Name: "d", SizeBytes: 1 << 20}}, end: 1 << 20}
	first, err := w.accept(page{changed: []holdfast.Extent{{Offset: 4096, Length: 512}}})
	if err != nil || !slices.Equal(first, []holdfast.Extent{{Offset: 4096, Length: 512}}) {
		t.Fatalf("%v, %v", first, err)
	}
	if _, err := w.accept(page{changed: []holdfast.Extent{{Offset: 1024, Length: 512}}}); err == nil {
		t.Error("a range before those already yielded was taken")
	}
}

// TestAccept_Window proves that ranges are cut to the window, so that the footer after the disk's end is never read.
func TestAccept_RangesOverTheEdges_AreCut(t *testing.T) {
	w := walk{blob: &Blob{config: Config{Name: "d", SizeBytes: 4096}}, start: 1024, covered: 1024, end: 4096}
	got, err := w.accept(page{changed: []holdfast.Extent{{Offset: 512, Length: 1024}, {Offset: 3584, Length: 1024}}})
	want := []holdfast.Extent{{Offset: 1024, Length: 512}, {Offset: 3584, Length: 512}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
