package image

import (
	"bufio"
	"cmp"
	"errors"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// readChanges reads a change list: lines of offset and length in bytes, in any order, overlapping or not; empty lines and
// what follows a # are left out. It returns them sorted and merged. Anything else is KindInvalid and names the line.
func readChanges(name string, size int64) ([]holdfast.Extent, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the change list %s cannot be read", name).WithField("changes")
	}
	var extents []holdfast.Extent
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		e, ok := parseChange(text, size)
		if !ok {
			err = holdfast.Errorf(holdfast.KindInvalid, "%s:%d: %q is not a range of the image", name, number, lines.Text()).WithField("changes").
				WithHint("write offset and length in bytes, within the image's %d", size)
			break
		}
		extents = append(extents, e)
	}
	if err := errors.Join(err, lines.Err(), f.Close()); err != nil {
		return nil, err
	}
	return merged(extents), nil
}

func parseChange(text string, size int64) (holdfast.Extent, bool) {
	words := strings.Fields(text)
	if len(words) != 2 {
		return holdfast.Extent{}, false
	}
	offset, offsetErr := strconv.ParseInt(words[0], 10, 64)
	length, lengthErr := strconv.ParseInt(words[1], 10, 64)
	ok := offsetErr == nil && lengthErr == nil && offset >= 0 && length > 0 && offset <= size && length <= size-offset
	return holdfast.Extent{Offset: offset, Length: length}, ok
}

// merged sorts extents and joins those that touch.
func merged(extents []holdfast.Extent) []holdfast.Extent {
	slices.SortFunc(extents, func(a, b holdfast.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	out := extents[:0]
	for _, e := range extents {
		if n := len(out); n > 0 && e.Offset <= out[n-1].End() {
			out[n-1].Length = max(out[n-1].End(), e.End()) - out[n-1].Offset
			continue
		}
		out = append(out, e)
	}
	return out
}

// each yields extents as a change list of the repository.
func each(extents []holdfast.Extent) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		for _, e := range extents {
			if !yield(e, nil) {
				return
			}
		}
	}
}
