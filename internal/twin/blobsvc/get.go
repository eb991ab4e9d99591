package blobsvc

import (
	"crypto/md5" //nolint:gosec // the protocol's checksum, not a signature
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/disk"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// rangeChecksumBytesMax is the largest range for which the platform computes a checksum.
const rangeChecksumBytesMax = 4 << 20

// getBlob is Get Blob, whole or in part.
func (s *Service) getBlob(c *call) error {
	v, file, err := s.openVersion(c)
	if err != nil {
		return err
	}
	defer file.Close() // read only
	from, to, err := c.byteRange(v.Size)
	if err != nil {
		return err
	}
	header, status := c.w.Header(), http.StatusOK
	if from == 0 && to == v.Size && c.requestedRange() == "" {
		if v.MD5 != nil {
			header.Set("Content-MD5", base64.StdEncoding.EncodeToString(v.MD5))
		}
	} else {
		status = http.StatusPartialContent
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, v.Size))
		if v.MD5 != nil {
			header.Set("x-ms-blob-content-md5", base64.StdEncoding.EncodeToString(v.MD5))
		}
		if err := c.rangeChecksum(io.NewSectionReader(file, from, to-from)); err != nil {
			return err
		}
	}
	header.Set("Content-Length", formatInt(to-from))
	c.w.WriteHeader(status)
	_, _ = io.Copy(c.w, io.NewSectionReader(file, from, to-from)) // a client that is gone cannot be told
	return nil
}

// openVersion finds the version asked for, judges the request's conditions, opens the content, and sets the headers that
// describe it. The file stays readable when the blob is deleted meanwhile.
func (s *Service) openVersion(c *call) (*version, *os.File, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, err := s.describe(c)
	if err != nil {
		return nil, nil, err
	}
	if v.Tier.at(c.now).archived() {
		return nil, nil, errArchived
	}
	file, err := s.content.Open(v.File)
	return v, file, err
}

// blobProperties is Get Blob Properties and Get Blob Metadata.
func (s *Service) blobProperties(c *call) error {
	s.mu.RLock()
	v, err := s.describe(c)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	if v.MD5 != nil {
		c.w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(v.MD5))
	}
	if c.q.Get("comp") == "" {
		c.w.Header().Set("Content-Length", formatInt(v.Size))
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// describe finds the version that a read asks for, judges lease and conditions, and sets all headers that describe it but
// length and checksums. s.mu is held.
func (s *Service) describe(c *call) (*version, error) {
	b, v, isCurrent, err := s.versionAsked(c)
	if err != nil {
		return nil, err
	}
	if err := b.Lease.ForRead(c.r.Header.Get("x-ms-lease-id"), "Blob", c.now); err != nil {
		return nil, err
	}
	cond, err := c.conditions()
	if err != nil {
		return nil, err
	}
	header := c.w.Header()
	c.answerTag(v.etag(), v.modified())
	if err := cond.forRead(v); err != nil {
		return nil, err
	}
	for name, value := range v.Headers {
		header.Set(name, value)
	}
	for parameter, name := range map[string]string{"rscc": "Cache-Control", "rscd": "Content-Disposition", "rsce": "Content-Encoding", "rscl": "Content-Language", "rsct": "Content-Type"} {
		if value := c.q.Get(parameter); value != "" && c.grant.sas {
			header.Set(name, value)
		}
	}
	header.Set("Accept-Ranges", "bytes")
	header.Set("x-ms-blob-type", "BlockBlob")
	header.Set("x-ms-server-encrypted", "true")
	header.Set("x-ms-creation-time", httpTime(stampTime(v.Created)))
	if cont, _ := s.container(c.target); cont.VersionImmutability {
		header.Set("x-ms-version-id", v.id())
		if isCurrent {
			header.Set("x-ms-is-current-version", "true")
		}
	}
	if isCurrent {
		b.Lease.Show(header, c.now)
	}
	showMetadata(header, v.Metadata)
	v.Tier.at(c.now).show(header)
	v.showProtection(header)
	v.Copy.at(c.now).show(header)
	return v, nil
}

func (c *call) requestedRange() string {
	if text := c.r.Header.Get("x-ms-range"); text != "" {
		return text
	}
	return c.r.Header.Get("Range")
}

// byteRange returns the half-open range of bytes asked for, all of them without a Range header.
func (c *call) byteRange(size int64) (from, to int64, err error) {
	text := c.requestedRange()
	if text == "" {
		return 0, size, nil
	}
	first, last, found := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	from, firstErr := strconv.ParseInt(first, 10, 64)
	to = size
	var lastErr error
	if last != "" {
		to, lastErr = strconv.ParseInt(last, 10, 64)
		to = min(to, size-1) + 1
	}
	if !found || !strings.HasPrefix(text, "bytes=") || firstErr != nil || lastErr != nil || from < 0 || last != "" && to <= from && from < size {
		return 0, 0, refusal.InvalidHeader("Range")
	}
	if from >= size {
		c.w.Header().Set("Content-Range", "bytes */"+formatInt(size))
		return 0, 0, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range begins behind the blob's end.")
	}
	return from, to, nil
}

// rangeChecksum sets the checksum of a range when the request asks for one.
func (c *call) rangeChecksum(section *io.SectionReader) error {
	wantMD5 := strings.EqualFold(c.r.Header.Get("x-ms-range-get-content-md5"), "true")
	wantCRC := strings.EqualFold(c.r.Header.Get("x-ms-range-get-content-crc64"), "true")
	if !wantMD5 && !wantCRC {
		return nil
	}
	if section.Size() > rangeChecksumBytesMax || wantMD5 && wantCRC {
		return refuse(http.StatusBadRequest, "InvalidHeaderValue", "A checksum of one sort is given for ranges of up to 4 MiB.")
	}
	md5Hash, crcHash := md5.New(), crc64.New(crc64.MakeTable(disk.CRCPolynomial)) //nolint:gosec // see the import
	_, err := io.Copy(io.MultiWriter(md5Hash, crcHash), section)
	if wantMD5 {
		c.w.Header().Set("Content-MD5", base64.StdEncoding.EncodeToString(md5Hash.Sum(nil)))
	} else {
		c.w.Header().Set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(disk.LittleEndian(crcHash.Sum64())))
	}
	_, seekErr := section.Seek(0, io.SeekStart)
	return errors.Join(err, seekErr)
}

func formatInt(n int64) string { return strconv.FormatInt(n, 10) }
