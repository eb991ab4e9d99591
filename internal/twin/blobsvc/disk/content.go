package disk

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

// Content is the folder of blob contents: files that are written once and then only read, linked and removed.
type Content struct{ Dir string }

// CRCPolynomial is the one of x-ms-content-crc64 (azblob v1.8.0, internal/shared), not that of ECMA or ISO.
const CRCPolynomial = 0x9A6C9329AC4BC9B5

// Stored is a content file that no record names yet.
type Stored struct {
	File string
	Size int64 // bytes
	MD5  []byte
	CRC  []byte // little-endian; nil unless asked for
}

// Create writes what r yields into a new file. After an error there is none.
func (c Content) Create(r io.Reader, withCRC bool) (Stored, error) {
	md5Hash := md5.New() //nolint:gosec // see the import
	hashes := []io.Writer{md5Hash}
	var crcHash hash.Hash64
	if withCRC {
		crcHash = crc64.New(crc64.MakeTable(CRCPolynomial))
		hashes = append(hashes, crcHash)
	}
	name := uuid.NewString()
	f, err := c.write(name, io.TeeReader(r, io.MultiWriter(hashes...)))
	if err != nil {
		return Stored{}, err
	}
	s := Stored{File: name, Size: f, MD5: md5Hash.Sum(nil)}
	if withCRC {
		s.CRC = LittleEndian(crcHash.Sum64())
	}
	return s, nil
}

func (c Content) write(name string, r io.Reader) (size int64, err error) {
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
		c.Remove(name)
	}
	return size, err
}

// Link gives a second name to a file, so that two records can own the same bytes.
func (c Content) Link(name string) (string, error) {
	other := uuid.NewString()
	if err := os.MkdirAll(filepath.Dir(c.path(other)), 0o700); err != nil {
		return "", err
	}
	return other, os.Link(c.path(name), c.path(other))
}

// Open opens a file for reading; it stays readable when it is removed.
func (c Content) Open(name string) (*os.File, error) { return os.Open(c.path(name)) }

// Remove deletes a file. best effort: what stays behind is removed at the next start.
func (c Content) Remove(name string) { _ = os.Remove(c.path(name)) }

// Retain removes every file that is not known.
func (c Content) Retain(known map[string]bool) error {
	return filepath.WalkDir(c.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || known[entry.Name()] {
			return err
		}
		return os.Remove(path)
	})
}

func (c Content) path(name string) string { return filepath.Join(c.Dir, name[:2], name) }

// LittleEndian is how the platform writes a CRC64.
func LittleEndian(sum uint64) []byte {
	p := make([]byte, 8)
	for i := range p {
		p[i] = byte(sum >> (8 * i))
	}
	return p
}
