package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// entryMax is the most bytes that an entry may have (§6.2), its mac and sum lines included.
const entryMax = 1<<20 + 1<<10

// entryKinds are all kinds of entries of format 1 (§6.3).
var entryKinds = []string{
	"genesis", "keys", "owner", "begin", "publish", "abandon", "settle", "remove", "annotate", "index", "condemn", "swept", "checkpoint", "proof",
}

// parameters are fixed at birth (§3).
type parameters struct {
	ChunkSize int `json:"chunkSize"`
	FrameSize int `json:"frameSize"`
	FanOut    int `json:"fanOut"`
}

// check holds parameters against the table of §3.
func (p parameters) check() error {
	switch {
	case p.ChunkSize < 64<<10 || p.ChunkSize > 4<<20 || p.ChunkSize&(p.ChunkSize-1) != 0:
		return damaged("chunks of %d bytes are not allowed", p.ChunkSize)
	case p.FrameSize < p.ChunkSize || p.FrameSize > framePlainMax || p.FrameSize%p.ChunkSize != 0:
		return damaged("frames of %d bytes are not allowed with chunks of %d", p.FrameSize, p.ChunkSize)
	case p.FanOut < 8 || p.FanOut > 216 || p.FanOut%8 != 0:
		return damaged("a fan-out of %d is not allowed", p.FanOut)
	}
	return nil
}

// entry is the first line of a log entry, all kinds in one (§6.1, §6.3). Fields that only a writer needs are left out.
type entry struct {
	Holdfast   int    `json:"holdfast"`
	N          uint64 `json:"n"`
	Repository string `json:"repository"`
	Previous   string `json:"previous"`
	Generation uint32 `json:"generation"`
	Kind       string `json:"kind"`
	Format     int    `json:"format"`
	parameters
	Slots    []string `json:"slots"`
	KeyRing  string   `json:"keyRing"`
	Least    uint32   `json:"leastGeneration"`
	Owner    string   `json:"owner"`
	Epoch    uint64   `json:"epoch"`
	Session  string   `json:"session"`
	Parents  []string `json:"parents"`
	Point    string   `json:"point"`
	Manifest string   `json:"manifest"`
	List     string   `json:"list"`
	Points   []string `json:"points"`
	Added    []string `json:"added"`
	About    []struct {
		Prefix string `json:"prefix"`
	} `json:"about"`
	Dropped []string `json:"dropped"`
	State   string   `json:"state"`
	Sealed  []byte   `json:"sealed"`

	line []byte   // the first line, without its newline
	mac  [32]byte // what the second line says
	hash [32]byte // of all stored bytes
}

// parseEntry reads an entry and checks what needs no key: its form and its sum.
func parseEntry(content []byte) (*entry, error) {
	if len(content) > entryMax {
		return nil, damaged("it has %d bytes, at most %d are allowed", len(content), entryMax)
	}
	lines := bytes.Split(content, []byte("\n"))
	if len(lines) != 4 || len(lines[3]) != 0 {
		return nil, damaged("it does not have three lines")
	}
	e := &entry{line: lines[0], hash: sha256.Sum256(content)}
	sum, isSum := hashLine(lines[2], "sum ")
	mac, isMAC := hashLine(lines[1], "mac ")
	if !isSum || !isMAC || sha256.Sum256(content[:len(lines[0])+len(lines[1])+2]) != sum {
		return nil, damaged("its checksum is wrong")
	}
	e.mac = mac
	if err := json.Unmarshal(lines[0], e); err != nil {
		return nil, damaged("its first line is not what an entry says: %v", err)
	}
	return e, nil
}

// hashLine reads a word and 32 bytes in hex.
func hashLine(line []byte, word string) (hash [32]byte, ok bool) {
	text, found := bytes.CutPrefix(line, []byte(word))
	if !found || len(text) != 64 {
		return hash, false
	}
	_, err := hex.Decode(hash[:], text)
	return hash, err == nil
}

// authentic checks that an entry was written with a key, in its place. Only after that may its version stop the reader.
func (e *entry) authentic(k *keys, n uint64) error {
	key, err := k.ofGeneration(e.Generation, k.repository, "holdfast log 1")
	if err != nil {
		return err
	}
	if mac(key, e.line) != e.mac {
		return damaged("it was not written with a key of the repository")
	}
	switch {
	case e.Holdfast > 1 || e.Format > 1:
		return newer("log entry %d has format %d", n, max(e.Holdfast, e.Format))
	case e.N != n || e.Repository != k.repositoryID():
		return damaged("it is entry %d of the repository %s", e.N, e.Repository)
	case !slices.Contains(entryKinds, e.Kind):
		return newer("log entry %d is of the kind %q", n, e.Kind)
	}
	return nil
}

// sealedPart is the private part of an entry, with what opens it (§6.3).
type sealedPart struct {
	Generation uint32 `json:"generation"`
	Sealed     []byte `json:"sealed"`
}

// open opens the private part of an entry of a kind, which belongs to a point.
func (p sealedPart) open(k *keys, kind, point string) ([]byte, error) {
	key, err := k.ofGeneration(p.Generation, k.repository, "holdfast entry 1")
	if err != nil {
		return nil, err
	}
	const nonceBytes = 12
	if len(p.Sealed) < nonceBytes {
		return nil, damaged("the sealed part of a log entry is missing")
	}
	text, err := unseal(key, p.Sealed[:nonceBytes], p.Sealed[nonceBytes:], append(bound("holdfast entry 1", k.repository), kind+"|"+point...))
	if err != nil {
		return nil, damaged("the sealed part of a log entry is not authentic")
	}
	return text, nil
}

// logNumbers returns the numbers of all entries that the folders hold. A folder's listing is what it holds; there is no
// need for the direct reads of §6.2, which a store with late listings asks for.
func (f folders) logNumbers() ([]uint64, error) {
	var numbers []uint64
	for _, root := range f {
		names, err := listing(path(root, "log"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if n, err := strconv.ParseUint(name, 10, 64); err == nil && len(name) == 20 {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// entryName is the name of a log entry.
func entryName(n uint64) string { return fmt.Sprintf("log/%020d", n) }

// logEntry returns the first copy of an entry that passes a check.
func (f folders) logEntry(n uint64, check func(e *entry) error) (*entry, error) {
	var problem error = damaged("%s is missing", entryName(n))
	for _, root := range f {
		content, err := readWhole(path(root, entryName(n)), entryMax)
		if err != nil {
			problem = fmt.Errorf("%s: %w", entryName(n), err)
			continue
		}
		e, err := parseEntry(content)
		if err == nil {
			err = check(e)
		}
		if err == nil {
			return e, nil
		}
		problem = fmt.Errorf("%s: %w", entryName(n), err)
	}
	return nil, problem
}
