package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
)

// repository is an open repository: its folders, its keys and what its log says.
type repository struct {
	folders  folders
	keys     *keys
	state    *state
	warnings []string // what was wrong and did no harm so far

	mu       sync.Mutex
	lostRuns map[string]error // index runs that could not be opened
}

// openRepository finds the keys, opens them, and folds the log with them.
func openRepository(f folders, with secret) (*repository, error) {
	named, err := keyObjects(f)
	if err != nil {
		return nil, err
	}
	if len(named.slots)+len(named.rings) == 0 {
		return nil, failed(kindNotFound, "there is no Holdfast repository in %s", f[0]).about("repo").
			hinting("the folder must hold the folders log, keys, data, tree, index, points and lists")
	}
	repositoryKey, slot, err := named.unwrap(f, with)
	if err != nil {
		return nil, err
	}
	k, err := named.openRings(f, repositoryKey)
	if err != nil {
		return nil, err
	}
	k.slot = slot
	s, err := fold(f, k)
	if err != nil {
		return nil, err
	}
	if err := s.admits(k, with); err != nil {
		return nil, err
	}
	return &repository{folders: f, keys: k, state: s, warnings: slices.Clone(s.problems), lostRuns: make(map[string]error)}, nil
}

// admits reports whether the key that was used is one of those that the log names now (§12, opening). A key that was dropped
// opens old rings still, and with them what was written before; that has to be asked for.
func (s *state) admits(k *keys, with secret) error {
	current := slices.Contains(s.slots, k.slot) || k.slot == "" && slices.Contains(k.rings, s.ring)
	if current || s.unsure || with.dropped {
		return nil
	}
	return failed(kindWrongKey, "this key was dropped: the log names others since").
		hinting("with --dropped-key it reads what was written before; a newer key reads everything")
}

// keyNames are the slots and rings that a repository has, the newest first: what log entries name, then what else lies in
// keys/. Entries cannot be proven before there is a key, so these are guesses, and what opens is right.
type keyNames struct{ slots, rings []string }

func keyObjects(f folders) (keyNames, error) {
	var names keyNames
	numbers, err := f.logNumbers()
	if err != nil {
		return names, err
	}
	for _, n := range slices.Backward(numbers) {
		e, err := f.logEntry(n, func(*entry) error { return nil })
		if err == nil && (e.Kind == "keys" || e.Kind == "genesis") {
			names.slots = appendNew(names.slots, e.Slots...)
			names.rings = appendNew(names.rings, e.KeyRing)
		}
	}
	err = f.each("keys", func(name string) error {
		names.slots, names.rings = appendNew(names.slots, name), appendNew(names.rings, name)
		return nil
	})
	return names, err
}

func appendNew(to []string, names ...string) []string {
	for _, name := range names {
		if !slices.Contains(to, name) {
			to = append(to, name)
		}
	}
	return to
}

// unwrap returns the repository key. With a password, slots of kind password are tried; an open slot counts only where
// there is no other kind, because whoever can write to the folder could lay one beside the true ones.
func (names keyNames) unwrap(f folders, with secret) (key []byte, slotName string, err error) {
	if with.repositoryKey != nil {
		return with.repositoryKey, "", nil
	}
	var open *slot
	var openName string
	var others []string
	tried := 0
	for _, name := range names.slots {
		content, err := f.read(name, "keys")
		if err != nil {
			continue
		}
		s, err := parseSlot(content)
		switch {
		case err != nil:
			if isNewer(err) {
				others = append(others, name+": "+err.Error())
			}
		case s.Kind == "open":
			if open == nil {
				open, openName = &s, name
			}
		case s.Kind == "password" && with.password != "" && tried < slotsMax:
			tried++
			if key, err := s.open(with); err == nil {
				return key, name, nil
			}
			others = append(others, s.describe(name))
		default:
			others = append(others, s.describe(name))
		}
	}
	key, err = unwrapped(open, others, with, tried)
	return key, openName, err
}

// unwrapped decides when no password slot opened.
func unwrapped(open *slot, others []string, with secret, tried int) ([]byte, error) {
	switch {
	case len(others) == 0 && open != nil:
		return open.open(with)
	case len(others) == 0:
		return nil, damaged("no key slot of the repository can be read").hinting("with the repository key itself, --repository-key-file opens it")
	case tried > 0:
		return nil, failed(kindWrongKey, "the password does not open the repository").hinting("%s", others[0])
	default:
		return nil, failed(kindInvalid, "a key is wanted: %s", others[0]).about("password-file").
			hinting("set HOLDFAST_REPO_PASSWORD, or give --password-file FILE or --repository-key-file FILE")
	}
}

// openRings opens every ring that the key opens and joins their generations, in case the newest is lost.
func (names keyNames) openRings(f folders, repositoryKey []byte) (*keys, error) {
	var joined *keys
	problem := error(damaged("no key ring of the repository can be read"))
	for _, name := range names.rings {
		content, err := f.read(name, "keys")
		if err != nil {
			continue
		}
		k, err := openRing(content, repositoryKey)
		switch {
		case err == nil && joined == nil:
			joined = k
			joined.rings = []string{name}
		case err == nil:
			joined.join(k)
			joined.rings = append(joined.rings, name)
		case isNewer(err), isKind(err, kindWrongKey):
			problem = fmt.Errorf("%s: %w", name, err)
		}
	}
	if joined == nil {
		return nil, problem
	}
	return joined, nil
}

// frames reads frames and keeps the last few: neighbours lie in one frame. It keeps directories of index runs, too. It belongs
// to one goroutine.
type frames struct {
	unzip *decompressor
	kept  []keptFrame
	runs  []*indexRun
}

// What bounds the memory of one reader to some 32 MiB of frames, and a little for directories of runs.
const (
	framesKept = 8
	runsKept   = 16
)

// frameName says where a frame is.
type frameName struct {
	object string
	kind   byte
	offset int64
}

type keptFrame struct {
	frameName
	content []byte
}

func newFrames() (*frames, error) {
	unzip, err := newDecompressor()
	return &frames{unzip: unzip}, err
}

// read returns the plain bytes of a frame. They must not be changed.
func (c *frames) read(r *repository, name frameName, stored int64) ([]byte, error) {
	if at := slices.IndexFunc(c.kept, func(kept keptFrame) bool { return kept.frameName == name }); at >= 0 {
		c.kept = toFront(c.kept, at)
		return c.kept[0].content, nil
	}
	var content []byte
	err := r.withSealed(c.unzip, name.object, name.kind, func(s *sealed) (err error) {
		content, err = s.frame(name.offset, stored, framePlainMax)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.kept = slices.Insert(c.kept, 0, keptFrame{name, content})[:min(len(c.kept)+1, framesKept)]
	return content, nil
}

// run returns an open index run.
func (c *frames) run(r *repository, name string) (*indexRun, error) {
	if at := slices.IndexFunc(c.runs, func(kept *indexRun) bool { return kept.name == name }); at >= 0 {
		c.runs = toFront(c.runs, at)
		return c.runs[0], nil
	}
	r.mu.Lock()
	err := r.lostRuns[name]
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	opened, err := r.openRun(c.unzip, name)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lostRuns[name] = err
		return nil, err
	}
	c.runs = slices.Insert(c.runs, 0, opened)[:min(len(c.runs)+1, runsKept)]
	return opened, nil
}

// toFront moves one element to the front.
func toFront[T any](all []T, at int) []T {
	one := all[at]
	copy(all[1:at+1], all[:at])
	all[0] = one
	return all
}

// fetch tries the places that are known, then those of the index, until accept takes what lies there. A place that proves
// wrong does no harm: hints and index are caches (§7, §8), and accept holds every byte against its id.
func (c *frames) fetch(r *repository, id [32]byte, kind byte, known []place, accept func(p place, frame []byte) error) error {
	problem := error(damaged("neither the tree nor the index says where %s lies", hex.EncodeToString(id[:])))
	try := func(places []place) bool {
		for _, p := range places {
			content, err := c.read(r, frameName{packName(objectFolder(kind), p.pack), kind, p.offset}, p.stored)
			if err == nil {
				err = accept(p, content)
			}
			if err == nil {
				return true
			}
			problem = err
		}
		return false
	}
	if try(known) {
		return nil
	}
	places, err := c.lookup(r, id, kind)
	if err != nil {
		problem = err
	}
	if try(places) {
		return nil
	}
	return problem
}

// chunk returns the bytes of a chunk.
func (c *frames) chunk(r *repository, id [32]byte, known []place) ([]byte, error) {
	size := r.state.parameters.ChunkSize
	var chunk []byte
	err := c.fetch(r, id, kindData, known, func(p place, frame []byte) error {
		if p.slot*size >= len(frame) {
			return damaged("a frame has no slot %d", p.slot)
		}
		chunk = frame[p.slot*size : min((p.slot+1)*size, len(frame))]
		if r.keys.chunkID(chunk) != id {
			return damaged("a chunk does not have its id")
		}
		return nil
	})
	return chunk, err
}

// node returns a node of a level.
func (c *frames) node(r *repository, id [32]byte, level byte, known []place) (*node, error) {
	var found *node
	err := c.fetch(r, id, kindTree, known, func(p place, frame []byte) error {
		n, err := parseNode(frame, r.state.parameters.FanOut, p.pack)
		if err != nil {
			return err
		}
		if n.level != level || r.keys.nodeID(n.level, n.bitmap, n.ids) != id {
			return damaged("a node does not have its id")
		}
		found = n
		return nil
	})
	return found, err
}

// manifestText reads the whole text of a manifest (§9).
func (r *repository) manifestText(name string) ([]byte, error) {
	unzip, err := newDecompressor()
	if err != nil {
		return nil, err
	}
	var text []byte
	err = r.withSealed(unzip, name, kindManifest, func(s *sealed) error {
		records, _, err := s.directory()
		if err != nil {
			return err
		}
		text = text[:0]
		for _, piece := range records {
			content, err := s.frame(piece.offset, piece.stored, framePlainMax)
			if err != nil {
				return err
			}
			if text = append(text, content...); len(text) > manifestPlains {
				return damaged("a manifest has more than %d bytes", manifestPlains)
			}
		}
		return nil
	})
	return text, err
}
