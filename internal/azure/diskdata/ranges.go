package diskdata

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// Extents implements machine.Content.
func (b *Blob) Extents(ctx context.Context) iter.Seq2[holdfast.Extent, error] {
	return b.ranges(ctx, nil, 0)
}

// ExtentsFrom implements machine.Content.
func (b *Blob) ExtentsFrom(ctx context.Context, offset int64) iter.Seq2[holdfast.Extent, error] {
	return b.ranges(ctx, nil, offset)
}

// Changes implements machine.Content. base is an older snapshot of the same family, opened by this package.
func (b *Blob) Changes(ctx context.Context, base machine.Content) iter.Seq2[holdfast.Extent, error] {
	older, ok := base.(*Blob)
	if !ok {
		return func(yield func(holdfast.Extent, error) bool) {
			yield(holdfast.Extent{}, holdfast.Errorf(holdfast.KindInternal, "the base was not opened by this package"))
		}
	}
	return b.ranges(ctx, older, 0)
}

// ranges walks the disk window by window. A window that the service cannot list in time is halved; at the floor it is
// yielded as a whole, which costs reading and loses nothing.
func (b *Blob) ranges(ctx context.Context, older *Blob, from int64) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		w := walk{blob: b, older: older, span: b.config.Tuning.WindowBytes, covered: from}
		for w.covered < b.config.SizeBytes {
			extents, err := w.next(ctx)
			if err != nil {
				yield(holdfast.Extent{}, err)
				return
			}
			for _, e := range extents {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// walk is the state of listing the ranges of one disk. Owned by the goroutine that iterates.
type walk struct {
	blob    *Blob
	older   *Blob  // nil: list what is allocated; else list what differs from it
	span    int64  // bytes of the next window
	covered int64  // everything before this offset was yielded
	marker  string // of the next page of the present window; "" when a window is to be opened
	start   int64  // of the present window
	end     int64
}

// next returns the ranges of the next page, in order, all of them at or after what was covered.
func (w *walk) next(ctx context.Context) ([]holdfast.Extent, error) {
	if w.marker == "" {
		w.start, w.end = w.covered, min(w.covered+w.span, w.blob.config.SizeBytes)
	}
	page, err := w.page(ctx)
	switch {
	case err == nil:
	case tooSlow(err) && w.span > w.blob.config.Tuning.WindowFloorBytes:
		w.span = max(w.span/2/512*512, w.blob.config.Tuning.WindowFloorBytes)
		w.marker = ""
		return nil, w.blob.config.Clock.Sleep(ctx, w.blob.config.Delay)
	case tooSlow(err):
		whole := holdfast.Extent{Offset: w.covered, Length: w.end - w.covered}
		w.covered, w.marker = w.end, ""
		return []holdfast.Extent{whole}, nil
	default:
		return nil, err
	}
	extents, err := w.accept(page)
	if err != nil {
		return nil, err
	}
	w.marker = page.marker
	if w.marker == "" {
		w.covered = w.end
		w.span = min(w.span*2, w.blob.config.Tuning.WindowBytes)
	}
	return extents, nil
}

// accept puts a page in order, cuts it to the window and moves covered to its end.
func (w *walk) accept(page page) ([]holdfast.Extent, error) {
	merged := merge(page.changed, page.cleared)
	extents := merged[:0]
	for _, e := range merged {
		if w.covered > w.start && e.Offset < w.covered {
			return nil, holdfast.Wrap(holdfast.KindUnavailable, machine.ErrListWrong, "the ranges of %s cannot be listed", w.blob.config.Name).
				WithHint("run the command again; if it stays so, ask Microsoft's support about this disk")
		}
		from, to := max(e.Offset, w.start), min(e.End(), w.end)
		if from < to {
			extents = append(extents, holdfast.Extent{Offset: from, Length: to - from, Zero: e.Zero})
			w.covered = to
		}
	}
	return extents, nil
}

// page is one page of a range list.
type page struct {
	changed, cleared []holdfast.Extent
	marker           string
}

// page fetches one page; errors are explained, and a refusal to compare matches machine.ErrDiffRefused.
func (w *walk) page(ctx context.Context) (page, error) {
	var result page
	doing := "list the ranges of " + w.blob.config.Name
	if w.older == nil {
		err := w.blob.try(ctx, doing, func(ctx context.Context, g grant) (_ bool, err error) {
			result, err = w.allocated(ctx, g)
			return false, stopWhenSlow(err)
		})
		return result, err
	}
	err := w.blob.try(ctx, doing, func(ctx context.Context, g grant) (_ bool, err error) {
		result, err = w.different(ctx, g)
		return false, stopWhenSlow(err)
	}, w.older)
	return result, err
}

func (w *walk) allocated(ctx context.Context, g grant) (page, error) {
	list, err := g.client.NewGetPageRangesPager(&pageblob.GetPageRangesOptions{
		Range:      blob.HTTPRange{Offset: w.start, Count: w.end - w.start},
		MaxResults: &w.blob.config.Tuning.RangesPerPage,
		Marker:     w.markerOrNil(),
	}).NextPage(ctx)
	if err != nil {
		return page{}, err
	}
	return pageOf(list.PageList), nil
}

// different asks for what changed since the older snapshot. The URL of that one goes into a header; the options of the
// plain list have a field for it too, which the SDK ignores.
func (w *walk) different(ctx context.Context, g grant) (page, error) {
	url := w.older.current().url
	list, err := g.client.NewGetPageRangesDiffPager(&pageblob.GetPageRangesDiffOptions{
		PrevSnapshotURL: &url,
		Range:           blob.HTTPRange{Offset: w.start, Count: w.end - w.start},
		MaxResults:      &w.blob.config.Tuning.RangesPerPage,
		Marker:          w.markerOrNil(),
	}).NextPage(ctx)
	if err != nil {
		return page{}, refusal(err)
	}
	return pageOf(list.PageList), nil
}

func (w *walk) markerOrNil() *string {
	if w.marker == "" {
		return nil
	}
	return &w.marker
}

func pageOf(list pageblob.PageList) page {
	var p page
	for _, r := range list.PageRange {
		if r != nil && r.Start != nil && r.End != nil && *r.End >= *r.Start {
			p.changed = append(p.changed, holdfast.Extent{Offset: *r.Start, Length: *r.End - *r.Start + 1})
		}
	}
	for _, r := range list.ClearRange {
		if r != nil && r.Start != nil && r.End != nil && *r.End >= *r.Start {
			p.cleared = append(p.cleared, holdfast.Extent{Offset: *r.Start, Length: *r.End - *r.Start + 1, Zero: true})
		}
	}
	if list.NextMarker != nil {
		p.marker = *list.NextMarker
	}
	return p
}

// merge orders changed and cleared ranges, which Azure interleaves, and cuts overlaps so that a byte said to be changed is
// read, whatever else is said about it.
func merge(changed, cleared []holdfast.Extent) []holdfast.Extent {
	byOffset := func(a, b holdfast.Extent) int { return cmp.Compare(a.Offset, b.Offset) }
	changed, cleared = slices.Clone(changed), slices.Clone(cleared)
	slices.SortFunc(changed, byOffset)
	slices.SortFunc(cleared, byOffset)

	merged := union(changed)
	holes := union(cleared)
	rest := holes[:0:0]
	next := 0
	for _, hole := range holes {
		at := hole.Offset
		for next < len(merged) && merged[next].End() <= at {
			next++
		}
		for i := next; i < len(merged) && merged[i].Offset < hole.End(); i++ {
			if merged[i].Offset > at {
				rest = append(rest, holdfast.Extent{Offset: at, Length: merged[i].Offset - at, Zero: true})
			}
			at = max(at, merged[i].End())
		}
		if at < hole.End() {
			rest = append(rest, holdfast.Extent{Offset: at, Length: hole.End() - at, Zero: true})
		}
	}
	merged = append(merged, rest...)
	slices.SortFunc(merged, byOffset)
	return merged
}

// union joins overlapping extents of one kind; touching ones stay apart, as nothing is gained by joining them.
func union(sorted []holdfast.Extent) []holdfast.Extent {
	var joined []holdfast.Extent
	for _, e := range sorted {
		last := len(joined) - 1
		if last >= 0 && e.Offset < joined[last].End() {
			joined[last].Length = max(joined[last].End(), e.End()) - joined[last].Offset
			continue
		}
		joined = append(joined, e)
	}
	return joined
}

// slow marks an answer that says a window holds too many ranges.
type slow struct{ cause error }

func (s *slow) Error() string { return "the window is too fragmented: " + s.cause.Error() }

// stopWhenSlow ends the retries of a list that timed out: a smaller window will do better than the same one again. A
// server that is merely busy is asked again.
func stopWhenSlow(err error) error {
	if strings.EqualFold(answer.Code(err), "ServerBusy") {
		return err
	}
	switch answer.Status(err) {
	case http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return holdfast.Wrap(holdfast.KindInternal, &slow{answer.Explain(err, "list ranges")}, "the list of ranges timed out")
	}
	return err
}

func tooSlow(err error) bool {
	var s *slow
	return errors.As(err, &s)
}

// refusal turns an answer that says "these two cannot be compared" into machine.ErrDiffRefused.
func refusal(err error) error {
	switch answer.Status(err) {
	case http.StatusBadRequest, http.StatusConflict, http.StatusPreconditionFailed:
		return holdfast.Wrap(holdfast.KindConflict, errors.Join(machine.ErrDiffRefused, answer.CauseOf(responseOf(err))),
			"the changes since the base cannot be listed")
	}
	return err
}

func responseOf(err error) *azcore.ResponseError {
	var response *azcore.ResponseError
	holdfast.Invariant(errors.As(err, &response), "a status without a response")
	return response
}
