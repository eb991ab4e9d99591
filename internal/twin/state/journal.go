package state

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

const (
	headerBytes     = 8        // length and CRC-32C, both little-endian
	recordBytesMax  = 64 << 20 // a longer length can only be damage
	overgrownFactor = 4        // rewrite when this many records were written per live document …
	overgrownMin    = 4096     // … but not below this many
	rewriteBatch    = 256      // documents per record of a rewritten journal
	journalSuffix   = ".journal"
)

// record is one transaction.
type record struct {
	Put    []*Document `json:"put,omitempty"`
	Delete []string    `json:"delete,omitempty"`
}

// journal is an append-only file of records; the file's name carries a generation, and the highest one counts.
type journal struct {
	dir        string
	generation uint64
	file       *os.File
	size       int64
	records    int
}

func openJournal(dir string, replay func(record)) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot make the twin's state folder %s", dir)
	}
	generations, err := findGenerations(dir)
	if err != nil {
		return nil, err
	}
	j := &journal{dir: dir, generation: 1}
	if len(generations) > 0 {
		j.generation = generations[len(generations)-1]
		for _, old := range generations[:len(generations)-1] { // a rewrite was interrupted after its rename
			_ = os.Remove(j.path(old)) // best effort: an old generation is never read again
		}
	}
	j.file, err = os.OpenFile(j.path(j.generation), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot open the twin's state")
	}
	if err := j.load(replay); err != nil {
		_ = j.file.Close()
		return nil, err
	}
	return j, nil
}

// load replays all whole records and cuts off a torn tail. A bad record that others follow is damage.
func (j *journal) load(replay func(record)) error {
	info, err := j.file.Stat()
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read the twin's state")
	}
	in := bufio.NewReaderSize(j.file, 1<<20)
	for {
		r, length, err := readRecord(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && j.size+length < info.Size() {
			return holdfast.Wrap(holdfast.KindCorrupt, err, "the twin's state %s is damaged at byte %d", j.file.Name(), j.size)
		}
		if err != nil {
			break
		}
		replay(r)
		j.size += length
		j.records++
	}
	if err := j.file.Truncate(j.size); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot cut the torn tail of the twin's state")
	}
	return nil
}

// readRecord returns io.EOF at the clean end. With another error, length is how far the bad record claims to reach.
func readRecord(in io.Reader) (r record, length int64, err error) {
	var header [headerBytes]byte
	n, err := io.ReadFull(in, header[:])
	if errors.Is(err, io.EOF) {
		return r, 0, io.EOF
	}
	if err != nil {
		return r, int64(n), fmt.Errorf("torn header: %w", errTorn)
	}
	payloadBytes := binary.LittleEndian.Uint32(header[:])
	length = headerBytes + int64(payloadBytes)
	if payloadBytes > recordBytesMax {
		return r, 0, fmt.Errorf("a record of %d bytes", payloadBytes)
	}
	payload := make([]byte, payloadBytes)
	if _, err := io.ReadFull(in, payload); err != nil {
		return r, length, fmt.Errorf("torn record: %w", errTorn)
	}
	if sum := crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)); sum != binary.LittleEndian.Uint32(header[4:]) {
		return r, length, errors.New("checksum differs")
	}
	if err := decode(payload, &r); err != nil {
		return r, 0, err
	}
	return r, length, nil
}

var errTorn = errors.New("the file ends inside it")

// append writes one record with a single write, so that a killed process leaves it whole or torn at the end.
func (j *journal) append(r record) error {
	encoded, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if _, err := j.file.WriteAt(encoded, j.size); err != nil {
		_ = j.file.Truncate(j.size) // best effort: the next Open cuts it off as well
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot write the twin's state")
	}
	j.size += int64(len(encoded))
	j.records++
	return nil
}

func encodeRecord(r record) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "cannot encode the twin's state")
	}
	encoded := make([]byte, headerBytes, headerBytes+len(payload))
	binary.LittleEndian.PutUint32(encoded, uint32(len(payload)))
	binary.LittleEndian.PutUint32(encoded[4:], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	return append(encoded, payload...), nil
}

func (j *journal) overgrown(live int) bool {
	return j.records > overgrownMin && j.records > overgrownFactor*live
}

// rewrite writes the live documents as the next generation and goes on there. The rename is the commit point.
func (j *journal) rewrite(live iter.Seq[*Document]) error {
	next := &journal{dir: j.dir, generation: j.generation + 1}
	temporary := next.path(next.generation) + ".new"
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot rewrite the twin's state")
	}
	next.file = file
	err = next.appendAll(live)
	if err == nil {
		err = os.Rename(temporary, next.path(next.generation))
	}
	if err != nil {
		_ = file.Close()
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot rewrite the twin's state")
	}
	_ = j.file.Close()
	_ = os.Remove(j.path(j.generation)) // best effort: the next Open removes it as well
	*j = *next
	return nil
}

func (j *journal) appendAll(live iter.Seq[*Document]) error {
	var batch record
	for d := range live {
		batch.Put = append(batch.Put, d)
		if len(batch.Put) < rewriteBatch {
			continue
		}
		if err := j.append(batch); err != nil {
			return err
		}
		batch.Put = nil
	}
	if len(batch.Put) == 0 {
		return nil
	}
	return j.append(batch)
}

func (j *journal) close() error { return j.file.Close() }

func (j *journal) path(generation uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%012d%s", generation, journalSuffix))
}

func findGenerations(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read the twin's state folder %s", dir)
	}
	var found []uint64
	for _, entry := range entries {
		name, isJournal := strings.CutSuffix(entry.Name(), journalSuffix)
		var generation uint64
		if _, err := fmt.Sscanf(name, "%d", &generation); isJournal && err == nil {
			found = append(found, generation)
		}
	}
	slices.Sort(found)
	return found, nil
}
