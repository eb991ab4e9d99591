package vdisk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast"
)

// changeBytes is the length of a journal record: start and end of the range, its kind, and a CRC-32C of all that, each
// number little-endian.
const changeBytes = 24

// change is one record of a layer's journal.
type change struct {
	start, end int64
	cleared    bool // otherwise written
}

const (
	kindWritten = 1
	kindCleared = 2
)

func (c change) encode() []byte {
	b := make([]byte, 0, changeBytes)
	kind := uint32(kindWritten)
	if c.cleared {
		kind = kindCleared
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(c.start))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.end))
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func decodeChange(b []byte) (change, bool) {
	body, sum := b[:changeBytes-4], binary.LittleEndian.Uint32(b[changeBytes-4:])
	kind := binary.LittleEndian.Uint32(body[16:])
	c := change{
		start:   int64(binary.LittleEndian.Uint64(body)),
		end:     int64(binary.LittleEndian.Uint64(body[8:])),
		cleared: kind == kindCleared,
	}
	sound := checksum(body) == sum && (kind == kindWritten || kind == kindCleared) &&
		c.start >= 0 && c.start < c.end && c.end <= SizeMax
	return c, sound
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// readJournal passes the changes on in order, cuts a torn last record off the file and returns the file's length then. A
// journal that is not there is empty. A bad record before the last one is damage (KindCorrupt).
func readJournal(path string, each func(change)) (end int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot open a volume's map")
	}
	defer file.Close()

	size, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read a volume's map")
	}
	input, record := bufio.NewReaderSize(file, 256<<10), make([]byte, changeBytes)
	for end+changeBytes <= size {
		if _, err := io.ReadFull(input, record); err != nil {
			return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read a volume's map")
		}
		c, sound := decodeChange(record)
		if !sound && end+2*changeBytes <= size {
			return 0, holdfast.Errorf(holdfast.KindCorrupt, "the volume map %s is damaged at byte %d", path, end)
		}
		if !sound {
			break
		}
		each(c)
		end += changeBytes
	}
	if end == size {
		return end, nil
	}
	if err := file.Truncate(end); err != nil {
		return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot cut the torn end off a volume's map")
	}
	return end, nil
}
