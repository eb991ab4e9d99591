package span

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
)

func seq(list []holdfast.Extent) func(func(holdfast.Extent, error) bool) {
	return func(yield func(holdfast.Extent, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Against a model with one word per byte: a chunk that a data extent touches is read; one that zero extents cover in part is
// read; one that they cover whole becomes a hole; what no extent touches is left out. Spans are in order, apart, and merged.
func TestSpans_AgainstBytes(t *testing.T) {
	const chunkSize = 8 // the model does not care that real ones are larger
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 100).Draw(t, "size")
		var extents []holdfast.Extent
		data, zero := make([]bool, size), make([]bool, size)
		for at := int64(0); at < size; {
			at += rapid.SampledFrom([]int64{0, 0, 1, 3, chunkSize, 20}).Draw(t, "gap")
			length := min(size-at, rapid.SampledFrom([]int64{1, 2, 7, chunkSize, 9, 24, 50}).Draw(t, "length"))
			if length <= 0 {
				break
			}
			e := holdfast.Extent{Offset: at, Length: length, Zero: rapid.Bool().Draw(t, "zero")}
			extents = append(extents, e)
			for i := e.Offset; i < e.End(); i++ {
				data[i], zero[i] = !e.Zero, e.Zero
			}
			at = e.End()
		}
		extra := int64(-1)
		if rapid.Bool().Draw(t, "grown") {
			extra = rapid.Int64Range(0, (size-1)/chunkSize).Draw(t, "extra")
		}
		got := map[int64]bool{} // chunk: hole
		cuts := Cut(seq(extents), size, chunkSize)
		if extra >= 0 {
			cuts = WithChunk(cuts, extra)
		}
		last := int64(-1)
		for s, err := range cuts {
			if err != nil || s.From >= s.To || s.From < last {
				t.Fatalf("span %+v after %d, %v", s, last, err)
			}
			last = s.To
			for n := s.From; n < s.To; n++ {
				got[n] = s.Zero
			}
		}
		for n := range (size + chunkSize - 1) / chunkSize {
			touched, whole, read := false, true, false
			for i := n * chunkSize; i < min(size, (n+1)*chunkSize); i++ {
				touched = touched || data[i] || zero[i]
				read = read || data[i]
				whole = whole && zero[i]
			}
			wantHole := touched && whole && !read && n != extra
			hole, present := got[n]
			if present != (touched || n == extra) || hole != wantHole {
				t.Fatalf("chunk %d of %v (extra %d): present %v, hole %v; want touched %v, hole %v", n, extents, extra, present, hole, touched, wantHole)
			}
		}
	})
}

// Extents out of order, overlapping, empty or outside the disk are refused; an error of the list comes through.
func TestSpans_Refusals(t *testing.T) {
	for _, bad := range [][]holdfast.Extent{
		{{Offset: 10, Length: 10}, {Offset: 0, Length: 5}},
		{{Offset: 0, Length: 10}, {Offset: 9, Length: 5}},
		{{Offset: 0, Length: 0}},
		{{Offset: 0, Length: -1}},
		{{Offset: -1, Length: 5}},
		{{Offset: 95, Length: 6}},
		{{Offset: 1 << 62, Length: 1 << 62}},
		{{Offset: 50, Length: 1<<63 - 1}},
	} {
		var err error
		for _, e := range Cut(seq(bad), 100, 8) {
			err = e
		}
		if !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	boom := errors.New("boom")
	var err error
	for _, e := range WithChunk(Cut(func(yield func(holdfast.Extent, error) bool) { yield(holdfast.Extent{}, boom) }, 100, 8), 3) {
		err = e
	}
	if !errors.Is(err, boom) {
		t.Error(err)
	}
}

// Spans that must be read are added to others, cut where these are, and never undo a hole: against a model with one word per chunk.
func TestWithRead_AgainstChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const chunks = 40
		draw := func(label string, zeros bool) (list []Span) {
			for at := int64(0); at < chunks; {
				from := at + rapid.Int64Range(0, 6).Draw(t, label+" gap")
				to := min(chunks, from+rapid.Int64Range(1, 6).Draw(t, label+" length"))
				if from >= to {
					break
				}
				list = append(list, Span{from, to, zeros && rapid.Bool().Draw(t, label+" zero")})
				at = to
			}
			return list
		}
		spans, extra := draw("span", true), draw("extra", false)
		var want [chunks]string
		for _, s := range extra {
			for n := s.From; n < s.To; n++ {
				want[n] = "read"
			}
		}
		for _, s := range spans {
			for n := s.From; n < s.To; n++ {
				want[n] = map[bool]string{true: "hole", false: "read"}[s.Zero]
			}
		}
		var got [chunks]string
		last := int64(0)
		for s, err := range WithRead(func(yield func(Span, error) bool) {
			for _, s := range spans {
				if !yield(s, nil) {
					return
				}
			}
		}, extra) {
			if err != nil || s.From < last || s.From >= s.To {
				t.Fatalf("span %+v after %d, %v", s, last, err)
			}
			last = s.To
			for n := s.From; n < s.To; n++ {
				got[n] = map[bool]string{true: "hole", false: "read"}[s.Zero]
			}
		}
		if got != want {
			t.Fatalf("%v with %v: %v, want %v", spans, extra, got, want)
		}
	})
}
