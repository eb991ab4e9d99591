// Package disk keeps the state of the twin's blob service in a folder: a journal of records and files of content. Both
// survive the end of the process once a call has returned; neither is synced, so a crash of the machine may lose them.
package disk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"

	holdfast "github.com/holdfast-backup/holdfast"
)

// compactAfter is how many superseded lines a journal may have before it is rewritten at the next start.
const compactAfter = 10_000

// Journal is the state on disk: one JSON entry per line, the later one counts. A line is written by one write call, so
// that the end of the process leaves it whole or without its newline; such a rest was never acknowledged and is cut off.
type Journal struct {
	path       string
	file       *os.File
	size       int64
	superseded int
}

// OpenJournal reads the journal at path, or begins one. replay is called for each line in order, and reports whether the line
// supersedes an earlier one.
func OpenJournal(path string, replay func(line []byte) (bool, error)) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the blob service cannot open its journal")
	}
	j := &Journal{path: path, file: file}
	if err := j.read(replay); err != nil {
		return nil, errors.Join(holdfast.Wrap(holdfast.KindCorrupt, err, "the blob service's journal %s cannot be read", path), file.Close())
	}
	return j, nil
}

func (j *Journal) read(replay func(line []byte) (bool, error)) error {
	reader := bufio.NewReaderSize(j.file, 1<<20)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return j.file.Truncate(j.size)
		}
		if err != nil {
			return err
		}
		replaced, err := replay(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return err
		}
		if replaced {
			j.superseded++
		}
		j.size += int64(len(line))
	}
}

// Append writes an entry. After an error nothing of it stays.
func (j *Journal) Append(entry any) error {
	line, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if _, err := j.file.WriteAt(line, j.size); err != nil {
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(len(line))
	return nil
}

// Compact rewrites the journal as the entries that state yields when it has become mostly history.
func (j *Journal) Compact(state iter.Seq[any]) error {
	if j.superseded < compactAfter {
		return nil
	}
	file, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	next := &Journal{path: j.path, file: file}
	for e := range state {
		if err := next.Append(e); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return errors.Join(err, file.Close())
	}
	old := j.file
	*j = *next
	return old.Close()
}

// Close ends the use of the journal.
func (j *Journal) Close() error { return j.file.Close() }
