package export

import (
	"crypto/md5" //nolint:gosec // the protocol's choice; nothing is protected by it
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// hashedReadBytesMax is how much the service hashes at a time for x-ms-range-get-content-md5.
const hashedReadBytesMax = 4 << 20

// read serves Get Blob and Get Blob Properties.
func (s *Service) read(x *exchange) error {
	x.describeContent()
	length := x.blob.length()
	first, last, asked, err := x.rangeHeader()
	switch {
	case x.r.Method == http.MethodHead:
		x.setLength(length)
		x.w.WriteHeader(http.StatusOK)
		return nil
	case err != nil:
		return err
	case !asked:
		return s.send(x, http.StatusOK, 0, length)
	case first >= length:
		x.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", length))
		return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range starts behind the end of the blob.")
	}
	if last < 0 || last >= length {
		last = length - 1
	}
	x.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, length))
	if strings.EqualFold(x.r.Header.Get("x-ms-range-get-content-md5"), "true") {
		if err := s.sumUp(x, first, last-first+1); err != nil {
			return err
		}
	}
	return s.send(x, http.StatusPartialContent, first, last-first+1)
}

// describeContent sets the headers of a blob's properties.
func (x *exchange) describeContent() {
	x.describe()
	header := x.w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Accept-Ranges", "bytes")
	header.Set("x-ms-blob-type", "PageBlob")
	header.Set("x-ms-blob-sequence-number", "0")
	header.Set("x-ms-lease-status", "unlocked")
	header.Set("x-ms-lease-state", "available")
	header.Set("x-ms-server-encrypted", "true")
}

// sumUp sets the Content-MD5 of the range.
func (s *Service) sumUp(x *exchange, off, length int64) error {
	if length > hashedReadBytesMax {
		return refuse(http.StatusBadRequest, "OutOfRangeInput", "A hash is given for ranges of up to 4 MiB.")
	}
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	if err := s.readAt(x.blob, (*buffer)[:length], off); err != nil {
		return err
	}
	sum := md5.Sum((*buffer)[:length]) //nolint:gosec // see the import
	x.w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	return nil
}

// send answers with a part of the blob. The first bytes are read before the status is sent, so that a volume that cannot
// be read gives an error; when it fails later the connection ends short of the promised length.
func (s *Service) send(x *exchange, status int, off, length int64) error {
	if !s.pacer.spend(x.blob.grant.Volume, length) {
		return errBusy()
	}
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	for sent := int64(0); sent < length; {
		part := (*buffer)[:min(length-sent, sendBytes)]
		if err := s.readAt(x.blob, part, off+sent); err != nil {
			if sent == 0 {
				return err
			}
			return nil // net/http breaks the connection, since fewer bytes came than were announced
		}
		if sent == 0 {
			x.setLength(length)
			x.w.WriteHeader(status)
		}
		if _, err := x.w.Write(part); err != nil {
			return nil // the client went away
		}
		sent += int64(len(part))
	}
	return nil
}

// sendBytes is how much is read at a time: large enough that calls cost nothing, small enough to stay in the CPU's cache.
const sendBytes = 512 << 10

// readAt fills p from the volume and the footer behind it; the range lies inside the blob.
func (s *Service) readAt(b abcd, p []byte, off int64) error {
	if off < b.volume.Size {
		n := min(int64(len(p)), b.volume.Size-off)
		if _, err := s.config.Volumes.ReadAt(b.grant.Volume, p[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		p, off = p[n:], off+n
	}
	if len(p) == 0 {
		return nil
	}
	clear(p)
	if b.footer != nil {
		copy(p, b.footer[off-b.volume.Size:vhd.FooterBytes])
	}
	return nil
}
