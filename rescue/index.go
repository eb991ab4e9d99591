package main

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"
)

// What an entry of a block has in bytes, in a run of today and in one with a pack table (§8).
const (
	entryBytes      = 76
	tableEntryBytes = 48
)

// liveRun is an index run as the log names it. prefix is the binary digits with which all its ids begin, if the log says so.
type liveRun struct{ name, prefix string }

// mayHold reports whether the log lets an id be in the run.
func (l liveRun) mayHold(id [32]byte) bool {
	if len(l.prefix) > 8*len(id) {
		return false
	}
	for i := range len(l.prefix) {
		if digit := id[i/8] >> (7 - i%8) & 1; l.prefix[i] != '0'+digit {
			return false
		}
	}
	return true
}

// indexRun is an open index run: what its directory says. Blocks are read when they are asked for. The filter is not used:
// it saves time, and nothing rests on it.
type indexRun struct {
	name   string
	table  bool // entries name packs by their number in packs
	blocks []record
	packs  []runPack
}

// runPack is a pack in the table of a run.
type runPack struct {
	kind byte
	hash [32]byte
}

// openRun reads the directory of an index run.
func (r *repository) openRun(unzip *decompressor, name string) (*indexRun, error) {
	opened := &indexRun{name: name}
	err := r.withSealed(unzip, name, kindRun, func(s *sealed) error {
		blocks, rest, err := s.directory()
		if err != nil {
			return err
		}
		opened.table = s.header[5] == kindTableRun
		opened.blocks = slices.DeleteFunc(blocks, func(b record) bool { return len(b.ids) == 0 }) // the filter
		return opened.parseTail(rest)
	})
	return opened, err
}

// parseTail reads what follows the records of a directory: a table of packs and a filter, or nothing.
func (i *indexRun) parseTail(rest []byte) error {
	if !i.table {
		if len(rest) > 0 {
			return damaged("the directory of an index run goes on where it should end")
		}
		return nil
	}
	if len(rest) < 4 {
		return damaged("the directory of an index run names no packs")
	}
	count := int64(binary.BigEndian.Uint32(rest))
	rest = rest[4:]
	if int64(len(rest)) < 33*count+4 {
		return damaged("the directory of an index run does not hold %d packs", count)
	}
	i.packs = make([]runPack, count)
	for n := range i.packs {
		i.packs[n], rest = runPack{kind: rest[0], hash: [32]byte(rest[1:])}, rest[33:]
	}
	if filter := int64(binary.BigEndian.Uint32(rest)); filter != int64(len(rest)-4) {
		return damaged("the filter of an index run has %d bytes, and %d are there", filter, len(rest)-4)
	}
	return nil
}

// lookup returns where the live runs say that an id lies, in packs of one kind. A run that is lost costs time, not data:
// the directories of packs say the same.
func (c *frames) lookup(r *repository, id [32]byte, kind byte) (found []place, problem error) {
	for _, live := range r.state.runs {
		if !live.mayHold(id) {
			continue
		}
		i, err := c.run(r, live.name)
		if err == nil {
			var places []place
			places, err = c.ask(r, i, id, kind)
			found = append(found, places...)
		}
		if err != nil {
			problem = err
		}
	}
	return found, problem
}

// ask looks an id up in one run: in the last block that begins at or before it, and in those before while they begin with it.
func (c *frames) ask(r *repository, i *indexRun, id [32]byte, kind byte) ([]place, error) {
	behind := sort.Search(len(i.blocks), func(n int) bool { return bytes.Compare(i.blocks[n].ids[0][:], id[:]) > 0 })
	var found []place
	for _, block := range slices.Backward(i.blocks[:behind]) {
		content, err := c.read(r, frameName{i.name, kindRun, block.offset}, block.stored)
		if err != nil {
			return found, err
		}
		found = append(found, i.search(content, id, kind)...)
		if !begins(content, id) {
			break
		}
	}
	return found, nil
}

// begins reports whether a block's first entry has an id.
func begins(block []byte, id [32]byte) bool { return bytes.HasPrefix(block, id[:]) }

// search returns the places of an id in one block.
func (i *indexRun) search(block []byte, id [32]byte, kind byte) []place {
	size := entryBytes
	if i.table {
		size = tableEntryBytes
	}
	count := len(block) / size
	first := sort.Search(count, func(n int) bool { return bytes.Compare(block[n*size:][:32], id[:]) >= 0 })
	var found []place
	for n := first; n < count && begins(block[n*size:], id); n++ {
		if p, ok := i.parseEntry(block[n*size:][:size], kind); ok {
			found = append(found, p)
		}
	}
	return found
}

// parseEntry reads an entry of a block, if its pack is of the kind.
func (i *indexRun) parseEntry(e []byte, kind byte) (place, bool) {
	if !i.table {
		return place{
			pack: [32]byte(e[36:]), offset: int64(binary.BigEndian.Uint32(e[68:])), stored: int64(binary.BigEndian.Uint32(e[72:])),
			slot: int(binary.BigEndian.Uint16(e[34:])),
		}, e[32] == kind
	}
	number := int64(binary.BigEndian.Uint32(e[32:]))
	if number >= int64(len(i.packs)) || i.packs[number].kind != kind {
		return place{}, false
	}
	return place{
		pack: i.packs[number].hash, offset: int64(binary.BigEndian.Uint32(e[36:])), stored: int64(binary.BigEndian.Uint32(e[40:])),
		slot: int(binary.BigEndian.Uint16(e[44:])),
	}, true
}
