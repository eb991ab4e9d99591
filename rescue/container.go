package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// The kinds of sealed objects (§5), and the folders that hold them.
const (
	kindData     = 1
	kindTree     = 2
	kindTableRun = 3 // an index run with a pack table
	kindManifest = 4
	kindRun      = 5 // where it is asked for, a run with a pack table will do
)

// What a reader enforces before it allocates (§5). A stored frame may exceed its plain bytes by the codec byte, the tag of
// the seal and what zstd adds to bytes that it cannot compress.
const (
	headerBytes    = 64
	trailerBytes   = 16
	runMax         = 4 << 30
	framePlainMax  = 4 << 20
	directoryMax   = 64 << 20
	frameOverhead  = 64 << 10
	sealOverhead   = 1 + 16
	manifestPlains = 256 << 20 // all frames of a manifest together: no more than an object's limit
)

// objectFolder is the folder of a kind's objects.
func objectFolder(kind byte) string {
	return [...]string{"", "data", "tree", "index", "points", "index"}[kind]
}

// sealed is a sealed object that is open for reading: its header was checked and its key derived.
type sealed struct {
	file   io.ReaderAt
	size   int64
	header []byte
	key    []byte
	unzip  *decompressor
}

// decompressor holds one zstd decoder per limit. It may be used by one goroutine at a time.
type decompressor struct{ frames, directories *zstd.Decoder }

func newDecompressor() (*decompressor, error) {
	frames, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(framePlainMax))
	if err != nil {
		return nil, err
	}
	directories, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(directoryMax))
	if err != nil {
		return nil, err
	}
	return &decompressor{frames: frames, directories: directories}, nil
}

// openSealed reads and checks the header of an object.
func openSealed(k *keys, unzip *decompressor, file io.ReaderAt, size int64, kind byte) (*sealed, error) {
	limit := int64(objectMax)
	if kind == kindRun {
		limit = runMax
	}
	if size < headerBytes+sealOverhead+trailerBytes || size > limit {
		return nil, damaged("it has %d bytes", size)
	}
	header := make([]byte, headerBytes)
	if _, err := file.ReadAt(header, 0); err != nil {
		return nil, err
	}
	if err := checkHeader(header, kind, k.repository); err != nil {
		return nil, err
	}
	key, err := k.ofGeneration(binary.BigEndian.Uint32(header[8:]), header[48:64], "holdfast object 1")
	if err != nil {
		return nil, err
	}
	return &sealed{file: file, size: size, header: header, key: key, unzip: unzip}, nil
}

func checkHeader(header []byte, kind byte, repository []byte) error {
	switch {
	case string(header[:4]) != "HFST":
		return damaged("it does not begin like a sealed object")
	case header[4] > 1:
		return newer("a sealed object has container version %d", header[4])
	case header[4] != 1 || header[5] != kind && (kind != kindRun || header[5] != kindTableRun),
		!allZero(header[6:8]) || !allZero(header[12:16]):
		return damaged("its header is not that of an object in %s/", objectFolder(kind))
	case !bytes.Equal(header[16:32], repository):
		return damaged("it belongs to another repository")
	}
	return nil
}

// frame opens the frame at an offset. limit is the most plain bytes that are taken.
func (s *sealed) frame(offset, stored int64, limit int) ([]byte, error) {
	if offset < headerBytes || stored < sealOverhead || stored > int64(limit)+frameOverhead || offset > s.size-trailerBytes-stored {
		return nil, damaged("a frame of %d bytes at %d cannot be in it", stored, offset)
	}
	content := make([]byte, stored)
	if _, err := s.file.ReadAt(content, offset); err != nil {
		return nil, err
	}
	aead, err := seal(s.key)
	if err != nil {
		return nil, err
	}
	nonce := binary.BigEndian.AppendUint64(make([]byte, 4, 12), uint64(offset))
	plain, err := aead.Open(content[:0], nonce, content, s.header)
	if err != nil {
		return nil, damaged("the frame at %d is not authentic", offset)
	}
	switch codec, payload := plain[0], plain[1:]; codec {
	case 0:
		if len(payload) > limit {
			return nil, damaged("the frame at %d has %d bytes, at most %d are allowed", offset, len(payload), limit)
		}
		return payload, nil
	case 1:
		return s.unzip.expand(payload, limit)
	default:
		return nil, newer("the frame at %d has codec %d", offset, codec)
	}
}

func (d *decompressor) expand(payload []byte, limit int) ([]byte, error) {
	decoder := d.directories
	if limit <= framePlainMax {
		decoder = d.frames
	}
	plain, err := decoder.DecodeAll(payload, nil)
	if err != nil || len(plain) > limit {
		return nil, damaged("a frame does not decompress to %d bytes at most: %v", limit, err)
	}
	return plain, nil
}

// record is one line of a directory: a frame and the ids that go with it.
type record struct {
	offset, stored int64
	plain          int
	ids            [][32]byte
}

// directory returns the records of all frames, and the bytes that follow them (an index run has some).
func (s *sealed) directory() ([]record, []byte, error) {
	trailer := make([]byte, trailerBytes)
	if _, err := s.file.ReadAt(trailer, s.size-trailerBytes); err != nil {
		return nil, nil, err
	}
	offset, stored, frames := binary.BigEndian.Uint64(trailer), binary.BigEndian.Uint32(trailer[8:]), binary.BigEndian.Uint32(trailer[12:])
	if offset < headerBytes || offset > uint64(s.size) || int64(offset)+int64(stored)+trailerBytes != s.size {
		return nil, nil, damaged("directory and trailer do not fit its size")
	}
	text, err := s.frame(int64(offset), int64(stored), directoryMax)
	if err != nil {
		return nil, nil, fmt.Errorf("directory: %w", err)
	}
	records, rest, end, err := parseDirectory(text, int64(frames), s.header[5])
	if err != nil {
		return nil, nil, err
	}
	if end != int64(offset) {
		return nil, nil, damaged("its frames end at %d, and its directory begins at %d", end, offset)
	}
	return records, rest, nil
}

// parseDirectory reads the records of a directory. end is where the last frame ends by their lengths.
func parseDirectory(text []byte, frames int64, kind byte) (records []record, rest []byte, end int64, err error) {
	const fixed = 4 + 4 + 2
	if frames*fixed > int64(len(text)) {
		return nil, nil, 0, damaged("a directory of %d bytes cannot have %d frames", len(text), frames)
	}
	records, rest, end = make([]record, 0, frames), text, headerBytes
	for range frames {
		if len(rest) < fixed {
			return nil, nil, 0, damaged("a directory ends too early")
		}
		r := record{offset: end, stored: int64(binary.BigEndian.Uint32(rest)), plain: int(binary.BigEndian.Uint32(rest[4:]))}
		count, width := idsOf(kind, int(binary.BigEndian.Uint16(rest[8:])))
		rest = rest[fixed:]
		if len(rest) < width*count || r.plain > framePlainMax {
			return nil, nil, 0, damaged("a directory has a frame of %d bytes with %d ids", r.plain, count)
		}
		r.ids = make([][32]byte, count)
		for i := range r.ids {
			copy(r.ids[i][:], rest[:width])
			rest = rest[width:]
		}
		end += r.stored
		records = append(records, r)
	}
	return records, rest, end, nil
}

// idsOf is how many ids a record has for a frame with that number of items, and how many of their first bytes (§5): a block of
// an index run gives the beginning of its first id, one of a run with a pack table its first and last id, a piece of a
// manifest none.
func idsOf(kind byte, items int) (count, width int) {
	switch kind {
	case kindRun:
		return min(items, 1), 8
	case kindTableRun:
		return 2, 32
	case kindManifest:
		return 0, 32
	default:
		return items, 32
	}
}

// withSealed opens each copy of a sealed object until use succeeds.
func (r *repository) withSealed(unzip *decompressor, name string, kind byte, use func(s *sealed) error) error {
	return r.folders.eachCopy(name, objectFolder(kind), func(file *os.File, size int64) error {
		s, err := openSealed(r.keys, unzip, file, size, kind)
		if err != nil {
			return err
		}
		return use(s)
	})
}

func allZero(content []byte) bool {
	for _, b := range content {
		if b != 0 {
			return false
		}
	}
	return true
}
