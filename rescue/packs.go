package main

import (
	"bytes"
	"strconv"
)

// listMax bounds how many lists of a point are read: lists do not include lists that include (§10), so one point has few.
const listMax = 4096

// packList is what a pack list says (§10).
type packList struct {
	packs    []string
	includes []string
}

// parsePackList reads a pack list. Lines that it does not know are passed over.
func parsePackList(content []byte) (*packList, error) {
	head, rest, _ := bytes.Cut(content, []byte("\n"))
	if string(head) != "holdfast pack list 1" {
		return nil, damaged("it is no pack list")
	}
	l := &packList{}
	for line := range bytes.Lines(rest) {
		words := bytes.Fields(line)
		switch {
		case len(words) == 2 && string(words[0]) == "pack":
			name := string(words[1])
			if !validName(name, "data") && !validName(name, "tree") {
				return nil, damaged("it names the pack %q", name)
			}
			l.packs = append(l.packs, name)
		case len(words) == 3 && string(words[0]) == "include":
			if _, err := strconv.ParseUint(string(words[2]), 10, 32); err != nil || !validName(string(words[1]), "lists") {
				return nil, damaged("it includes %q", line)
			}
			l.includes = append(l.includes, string(words[1]))
		}
	}
	return l, nil
}

// eachPack calls visit with the packs of a folder (data or tree): first those that a point lists, then all others.
func (r *repository) eachPack(p *point, folder string, visit func(name string) error) error {
	seen := make(map[string]bool)
	once := func(name string) error {
		if !validName(name, folder) || seen[name] {
			return nil
		}
		seen[name] = true
		return visit(name)
	}
	lists := []string{p.list}
	for n := 0; n < len(lists) && n < listMax; n++ {
		content, err := r.folders.read(lists[n], "lists")
		if err != nil {
			continue // best effort: what a list would have named is visited below, a little later
		}
		l, err := parsePackList(content)
		if err != nil {
			continue // best effort: as above
		}
		lists = appendNew(lists, l.includes...)
		for _, name := range l.packs {
			if err := once(name); err != nil {
				return err
			}
		}
	}
	return r.folders.each(folder, once)
}

// search looks into the directories of packs for what neither tree nor index leads to. It is the last resort: the
// directories are what the index is made of. It adds the places that it finds to the tasks, and stops when all have one.
func (r *repository) search(p *point, kind byte, tasks []task) error {
	unzip, err := newDecompressor()
	if err != nil {
		return err
	}
	wanted := make(map[[32]byte][]int) // id to its tasks
	for i, t := range tasks {
		wanted[t.id] = append(wanted[t.id], i)
	}
	return r.eachPack(p, objectFolder(kind), func(name string) error {
		hash, _ := parseHash(name[len("data/00/"):]) // eachPack checked the name
		// best effort: a pack that cannot be read is passed over; what only it holds stays without a place and is reported.
		_ = r.withSealed(unzip, name, kind, func(s *sealed) error {
			records, _, err := s.directory()
			if err != nil {
				return err
			}
			for _, frame := range records {
				for slot, id := range frame.ids {
					for _, i := range wanted[id] {
						tasks[i].places = append(tasks[i].places, place{pack: hash, offset: frame.offset, stored: frame.stored, slot: slot})
					}
				}
			}
			return nil
		})
		return nil
	})
}
