package export

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// pageWriteBytesMax is the platform's limit of one page write.
const pageWriteBytesMax = 4 << 20

// writePages serves Put Page: update and clear. A Content-MD5 is ignored, as the platform does on disks.
func (s *Service) writePages(x *exchange) error {
	if x.blob.grant.Access != Write {
		return refuse(http.StatusForbidden, "AuthorizationPermissionMismatch", "The signature does not permit writing.")
	}
	off, length, err := x.pageRange()
	if err != nil {
		return err
	}
	switch mode := x.r.Header.Get("x-ms-page-write"); {
	case strings.EqualFold(mode, "update"):
		err = s.updatePages(x, off, length)
	case strings.EqualFold(mode, "clear"):
		err = s.clearPages(x, off, length)
	case mode == "":
		err = refuse(http.StatusBadRequest, "MissingRequiredHeader", "x-ms-page-write says update or clear.")
	default:
		err = errInvalidHeader("x-ms-page-write")
	}
	if err != nil {
		return err
	}
	if x.blob, err = s.blob(x.blob.grant); err != nil {
		return err
	}
	x.describe()
	header := x.w.Header()
	header.Set("x-ms-blob-sequence-number", "0")
	header.Set("x-ms-request-server-encrypted", "true")
	x.setLength(0)
	x.w.WriteHeader(http.StatusCreated)
	return nil
}

// pageRange returns the range to be written: whole pages inside the blob.
func (x *exchange) pageRange() (off, length int64, err error) {
	first, last, asked, err := x.rangeHeader()
	switch {
	case err != nil:
		return 0, 0, err
	case !asked:
		return 0, 0, refuse(http.StatusBadRequest, "MissingRequiredHeader", "Writing pages takes a range.")
	case last < 0:
		return 0, 0, errInvalidHeader("x-ms-range")
	case first%vdisk.SectorBytes != 0 || (last+1)%vdisk.SectorBytes != 0 || last >= x.blob.length():
		return 0, 0, errInvalidPageRange()
	}
	return first, last + 1 - first, nil
}

// updatePages writes the body, once all of it is here.
func (s *Service) updatePages(x *exchange, off, length int64) error {
	switch {
	case x.r.ContentLength < 0:
		return refuse(http.StatusLengthRequired, "MissingContentLengthHeader", "The length of the body has to be told.")
	case length > pageWriteBytesMax || x.r.ContentLength > pageWriteBytesMax:
		return refuse(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "At most 4 MiB are written at a time.")
	case x.r.ContentLength != length:
		return errInvalidHeader("Content-Length")
	}
	if !s.pacer.spend(x.blob.grant.Volume, length) {
		return errBusy()
	}
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	content := (*buffer)[:length]
	if _, err := io.ReadFull(x.r.Body, content); err != nil {
		return refuse(http.StatusBadRequest, "IncompleteBody", "The body ended before its announced length.")
	}
	return s.change(x, off, length, func(inside int64) error {
		_, err := s.config.Volumes.WriteAt(x.blob.grant.Volume, content[:inside], off)
		return err
	}, content)
}

func (s *Service) clearPages(x *exchange, off, length int64) error {
	if x.r.ContentLength > 0 {
		return errInvalidHeader("Content-Length")
	}
	return s.change(x, off, length, func(inside int64) error {
		return s.config.Volumes.Zero(x.blob.grant.Volume, off, inside)
	}, nil)
}

// change carries out a write while the grant is in force: inside bytes of it lie on the volume, and what follows is the
// footer, taken from the end of content; without content it is cleared.
func (s *Service) change(x *exchange, off, length int64, write func(inside int64) error, content []byte) error {
	s.writing.RLock()
	defer s.writing.RUnlock()
	grant := x.blob.grant
	if !s.inForce(grant.ID) {
		return errAuthenticationFailed()
	}
	inside := max(min(length, x.blob.volume.Size-off), 0)
	if inside > 0 {
		if err := write(inside); err != nil {
			return err
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.books.Blobs[grant.Volume]
	record.written = s.config.Clock.Now()
	record.revision++
	withFooter := inside < length
	if withFooter {
		record.Uploaded = nil
		if content != nil {
			record.Uploaded = slices.Clone(content[length-vhd.FooterBytes:])
		}
	}
	s.books.Blobs[grant.Volume] = record
	if !withFooter {
		return nil
	}
	return s.books.save()
}

func (s *Service) inForce(grantID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, known := s.books.Grants[grantID]
	return known && g.activeAt(s.config.Clock.Now())
}
