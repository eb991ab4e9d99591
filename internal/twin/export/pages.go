package export

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

const (
	// listedRangesMax is the largest page of a page list, and the default.
	listedRangesMax = 10_000
	// diffSizeBorder: there is no diff between snapshots taken on both sides of a resize across 4 TiB.
	diffSizeBorder = int64(4) << 40
)

// listPages serves Get Page Ranges: all of them, or with x-ms-previous-snapshot-url the difference.
func (s *Service) listPages(x *exchange) error {
	window, err := x.window()
	if err != nil {
		return err
	}
	limit, window, err := x.paging(window)
	if err != nil {
		return err
	}
	ranges, err := s.ranges(x, window)
	if err != nil {
		return err
	}
	body, err := s.pageList(x, ranges, limit)
	if err != nil {
		return err
	}
	x.describe()
	header := x.w.Header()
	header.Set("Content-Type", "application/xml")
	header.Set("x-ms-blob-content-length", strconv.FormatInt(x.blob.length(), 10))
	x.setLength(int64(len(body)))
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(body) // best effort: a client that went away asks again
	return nil
}

// window returns the part of the blob that the list is about, in whole pages.
func (x *exchange) window() (holdfast.Extent, error) {
	length := x.blob.length()
	first, last, asked, err := x.rangeHeader()
	switch {
	case err != nil:
		return holdfast.Extent{}, err
	case !asked:
		return holdfast.Extent{Length: length}, nil
	case first >= length:
		return holdfast.Extent{}, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range starts behind the end of the blob.")
	}
	if last < 0 || last >= length {
		last = length - 1
	}
	first -= first % vdisk.SectorBytes
	last += vdisk.SectorBytes - 1 - last%vdisk.SectorBytes
	return holdfast.Extent{Offset: first, Length: last + 1 - first}, nil
}

// paging returns how many ranges the answer may have, 0 meaning all, and what is left of the window.
func (x *exchange) paging(window holdfast.Extent) (limit int, left holdfast.Extent, err error) {
	if x.version < versionPaging {
		if x.query.Has("marker") {
			return 0, window, errInvalidQuery("marker")
		}
		return 0, window, nil
	}
	limit = listedRangesMax
	if text := x.query.Get("maxresults"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 1 {
			return 0, window, refuse(http.StatusBadRequest, "OutOfRangeQueryParameterValue", "maxresults is a number from 1 on.")
		}
		limit = min(asked, listedRangesMax)
	}
	if marker := x.query.Get("marker"); marker != "" {
		off, err := decodeMarker(marker)
		if err != nil || off < window.Offset || off >= window.End() || off%vdisk.SectorBytes != 0 {
			return 0, window, errInvalidQuery("marker")
		}
		window = holdfast.Extent{Offset: off, Length: window.End() - off}
	}
	return limit, window, nil
}

// markerPrefix tells markers of this form from others.
const markerPrefix = "pages!"

func encodeMarker(off int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(markerPrefix + strconv.FormatInt(off, 10)))
}

func decodeMarker(marker string) (int64, error) {
	text, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil {
		return 0, err
	}
	digits, ours := strings.CutPrefix(string(text), markerPrefix)
	if !ours {
		return 0, strconv.ErrSyntax
	}
	return parseOffset(digits)
}

// ranges returns what there is to list in the window, the footer included.
func (s *Service) ranges(x *exchange, window holdfast.Extent) (iter.Seq2[holdfast.Extent, error], error) {
	previousURL := x.r.Header.Get("x-ms-previous-snapshot-url")
	if previousURL == "" {
		content := s.config.Volumes.Allocated(x.blob.grant.Volume, contentPart(x.blob, window))
		return withFooter(x.blob, window, content, x.blob.footer != nil), nil
	}
	previous, err := s.previous(x, previousURL)
	if err != nil {
		return nil, err
	}
	content := s.config.Volumes.Diff(previous.ID, x.blob.grant.Volume, contentPart(x.blob, window))
	if decision := fault.From(x.r.Context()); decision.Kind == fault.OmitRanges {
		content = without(content, decision.Omit)
	}
	return withFooter(x.blob, window, content, previous.Size != x.blob.volume.Size), nil
}

// without leaves a part of the disk out of a list: the lie that a fault rule wants.
func without(list iter.Seq2[holdfast.Extent, error], omit holdfast.Extent) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		for e, err := range list {
			if err != nil || e.End() <= omit.Offset || e.Offset >= omit.End() {
				if !yield(e, err) {
					return
				}
				continue
			}
			before := holdfast.Extent{Offset: e.Offset, Length: omit.Offset - e.Offset, Zero: e.Zero}
			after := holdfast.Extent{Offset: omit.End(), Length: e.End() - omit.End(), Zero: e.Zero}
			for _, part := range []holdfast.Extent{before, after} {
				if part.Length > 0 && !yield(part, nil) {
					return
				}
			}
		}
	}
}

// contentPart returns the part of a window that lies on the volume; one that holds the footer alone gives an extent
// behind the volume's end, of which nothing is listed.
func contentPart(b abcd, window holdfast.Extent) holdfast.Extent {
	if window.Offset >= b.volume.Size {
		return window
	}
	window.Length = min(window.Length, b.volume.Size-window.Offset)
	return window
}

// withFooter adds the footer's page to a listing when it is listed and inside the window.
func withFooter(b abcd, window holdfast.Extent, content iter.Seq2[holdfast.Extent, error], listed bool) iter.Seq2[holdfast.Extent, error] {
	if !listed || window.End() <= b.volume.Size {
		return content
	}
	footer := holdfast.Extent{Offset: b.volume.Size, Length: vhd.FooterBytes}
	return func(yield func(holdfast.Extent, error) bool) {
		for e, err := range content {
			if err == nil && e.End() == footer.Offset && !e.Zero {
				e.Length += footer.Length
				footer.Length = 0
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		if footer.Length > 0 {
			yield(footer, nil)
		}
	}
}

// previous checks the URL of the previous snapshot, its signature included, and returns the volume behind it.
func (s *Service) previous(x *exchange, previousURL string) (vdisk.Volume, error) {
	if x.version < versionDiffURL {
		return vdisk.Volume{}, refuse(http.StatusConflict, "FeatureVersionMismatch",
			"x-ms-previous-snapshot-url works from version "+versionDiffURL+" on.")
	}
	parsed, err := url.Parse(previousURL)
	if err != nil || parsed.Host == "" || parsed.Path == "" {
		return vdisk.Volume{}, errInvalidHeader("x-ms-previous-snapshot-url")
	}
	id, known := s.volumeOf(parsed.Path)
	volume, err := s.config.Volumes.Stat(id)
	if !known || holdfast.IsKind(err, holdfast.KindNotFound) {
		return vdisk.Volume{}, refuse(http.StatusConflict, "PreviousSnapshotNotFound", "The previous snapshot does not exist.")
	}
	if err != nil {
		return vdisk.Volume{}, err
	}
	s.mu.Lock()
	grant, ok := s.books.signed(parsed.Path, parsed.Query(), s.config.Clock.Now())
	s.mu.Unlock()
	if !ok {
		return vdisk.Volume{}, errAuthenticationFailed()
	}
	return volume, s.comparable(x.blob, grant, volume)
}

// comparable decides whether there is a difference to list between the older snapshot and the blob.
func (s *Service) comparable(newer abcd, grant Grant, older vdisk.Volume) error {
	across := (older.Size > diffSizeBorder) != (newer.volume.Size > diffSizeBorder)
	if !older.Frozen || !newer.volume.Frozen || grant.Family != newer.grant.Family || across {
		return errNoDiff()
	}
	for _, err := range s.config.Volumes.Diff(older.ID, newer.volume.ID, holdfast.Extent{Length: vdisk.SectorBytes}) {
		switch {
		case errors.Is(err, vdisk.ErrOrder):
			return refuse(http.StatusBadRequest, "PreviousSnapshotCannotBeNewer", "The previous snapshot is newer than the blob.")
		case errors.Is(err, vdisk.ErrUnrelated):
			return errNoDiff()
		case err != nil:
			return err
		}
	}
	return nil
}

func errNoDiff() error {
	return refuse(http.StatusConflict, "PreviousSnapshotOperationNotSupported", "There is no difference between these two blobs to be had.")
}

// pageList writes the answer's XML. A limit above zero ends it with a marker when ranges are left.
func (s *Service) pageList(x *exchange, ranges iter.Seq2[holdfast.Extent, error], limit int) ([]byte, error) {
	var body bytes.Buffer
	body.WriteString(xml.Header + "<PageList>")
	touched, marker := 0, ""
	for e, err := range ranges {
		if err != nil {
			return nil, err
		}
		if touched++; s.config.FragmentLimit > 0 && touched > s.config.FragmentLimit {
			return nil, refuse(http.StatusInternalServerError, "OperationTimedOut", "The operation could not be completed in the permitted time.")
		}
		if limit > 0 && touched > limit {
			marker = encodeMarker(e.Offset)
			break
		}
		writeRange(&body, e)
	}
	if x.version >= versionPaging {
		body.WriteString("<NextMarker>" + marker + "</NextMarker>")
	}
	body.WriteString("</PageList>")
	return body.Bytes(), nil
}

func writeRange(body *bytes.Buffer, e holdfast.Extent) {
	name := "PageRange"
	if e.Zero {
		name = "ClearRange"
	}
	b := body.AvailableBuffer()
	b = append(append(append(b, '<'), name...), "><Start>"...)
	b = append(strconv.AppendInt(b, e.Offset, 10), "</Start><End>"...)
	b = append(strconv.AppendInt(b, e.End()-1, 10), "</End></"...)
	b = append(append(b, name...), '>')
	body.Write(b)
}
