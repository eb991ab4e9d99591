package vdisk_test

import (
	"errors"
	"iter"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// reporter is what the helpers need of a test, benchmark or property.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t reporter, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func wantError(t reporter, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func wantExtents(t reporter, got, want []holdfast.Extent) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got extents %+v\nwant %+v", got, want)
	}
}

// collect follows a listing to its end or error.
func collect(listing iter.Seq2[holdfast.Extent, error]) ([]holdfast.Extent, error) {
	var extents []holdfast.Extent
	for e, err := range listing {
		if err != nil {
			return extents, err
		}
		extents = append(extents, e)
	}
	return extents, nil
}

// extentsOf makes the listing that a property of each sector should give, sector by sector.
func extentsOf(size int64, window holdfast.Extent, of func(sector int64) (listed, cleared bool)) []holdfast.Extent {
	if window == (holdfast.Extent{}) {
		window.Length = size
	}
	var extents []holdfast.Extent
	for sector := range size / vdisk.SectorBytes {
		start := sector * vdisk.SectorBytes
		if start+vdisk.SectorBytes <= window.Offset || start >= window.End() {
			continue
		}
		listed, cleared := of(sector)
		if !listed {
			continue
		}
		if n := len(extents) - 1; n >= 0 && extents[n].End() == start && extents[n].Zero == cleared {
			extents[n].Length += vdisk.SectorBytes
			continue
		}
		extents = append(extents, holdfast.Extent{Offset: start, Length: vdisk.SectorBytes, Zero: cleared})
	}
	return extents
}
