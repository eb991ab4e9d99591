package blobsvc

import (
	"crypto/md5" //nolint:gosec // the protocol's checksum, not a signature
	"hash"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// content is the folder of blob contents: files that are written once and then only read, linked and removed.
type content struct{ dir string }

// crcPolynomial is the one of x-ms-content-crc64 (azblob v1.8.0, internal/shared), not that of ECMA or ISO.
const crcPolynomial = 0x9A6C9329AC4BC9B5

// stored is a content file that no record names yet.
type stored struct {
	file string
	size int64
	md5  []byte
	crc  []byte // little-endian; nil unless asked for
}

// create writes what r yields into a new file. After an error there is none.
func (c content) create(r io.Reader, withCRC bool) (stored, error) {
	md5Hash := md5.New() //nolint:gosec // see the import
	hashes := []io.Writer{md5Hash}
	var crcHash hash.Hash64
	if withCRC {
		crcHash = crc64.New(crc64.MakeTable(crcPolynomial))
		hashes = append(hashes, crcHash)
	}
	name := uuid.NewString()
	f, err := c.write(name, io.TeeReader(r, io.MultiWriter(hashes...)))
	if err != nil {
		return stored{}, err
	}
	s := stored{file: name, size: f, md5: md5Hash.Sum(nil)}
	if withCRC {
		s.crc = littleEndian(crcHash.Sum64())
	}
	return s, nil
}

func (c content) write(name string, r io.Reader) (size int64, err error) {
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	size, err = io.CopyBuffer(struct{ io.Writer }{f}, r, make([]byte, 256<<10))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		c.remove(name)
	}
	return size, err
}

// link gives a second name to a file, so that two records can own the same bytes.
func (c content) link(name string) (string, error) {
	other := uuid.NewString()
	if err := os.MkdirAll(filepath.Dir(c.path(other)), 0o700); err != nil {
		return "", err
	}
	return other, os.Link(c.path(name), c.path(other))
}

func (c content) open(name string) (*os.File, error) { return os.Open(c.path(name)) }

// remove deletes a file. best effort: what stays behind is removed at the next start.
func (c content) remove(name string) { _ = os.Remove(c.path(name)) }

// retain removes every file that is not known.
func (c content) retain(known map[string]bool) error {
	return filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || known[entry.Name()] {
			return err
		}
		return os.Remove(path)
	})
}

func (c content) path(name string) string { return filepath.Join(c.dir, name[:2], name) }

func littleEndian(sum uint64) []byte {
	p := make([]byte, 8)
	for i := range p {
		p[i] = byte(sum >> (8 * i))
	}
	return p
}
