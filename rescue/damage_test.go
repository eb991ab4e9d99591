package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
)

// argon derives with the least effort, for tests.
func argon(password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
}

// whole proves that a repository still brings back points of a golden one: all, or every step-th.
func (c *craft) whole(g golden, password string, step int, more ...string) {
	c.t.Helper()
	for i := 0; i < len(g.Points); i += step {
		for _, d := range g.Points[i].Disks {
			code, result, content := bring(c.t, password, c.folder, g.Points[i].ID, d.LUN, more...)
			if code != 0 || !result.Equal || hashed(content) != d.SHA256 {
				c.t.Errorf("%s: exit %d, %+v", g.Points[i].ID, code, result)
			}
		}
	}
}

// listing returns what rescue list says.
func (c *craft) list(password string, more ...string) (code int, points []listed, log string) {
	c.t.Helper()
	code, out, log := call(c.t, password, append([]string{"list", "--json", "--repo", c.folder}, more...)...)
	if err := json.Unmarshal([]byte(out), &points); err != nil {
		c.t.Fatalf("exit %d: %s %s", code, out, log)
	}
	return code, points, log
}

// TestWithoutDerivedObjects proves that what is derived is not needed: index, checkpoints, lists, one by one and all together.
func TestWithoutDerivedObjects(t *testing.T) {
	g := goldenNamed(t, "v1")
	for _, gone := range [][]string{{"index"}, {"state"}, {"lists"}, {"index", "state", "lists"}} {
		t.Run(strings.Join(gone, " and "), func(t *testing.T) {
			c := newCraft(t, g)
			c.remove(gone...)
			c.whole(g, g.Password, 5)
			if code, points, log := c.list(g.Password); code != 0 || len(points) != len(g.Points) || log != "" {
				t.Errorf("list: exit %d, %d points, %s", code, len(points), log)
			}
		})
	}
}

// TestMovedPacks proves that the directories of packs suffice: every pack is written anew, so that each hint and each index
// entry is stale. With the index the runs are asked in vain; without it nothing is.
func TestMovedPacks(t *testing.T) {
	g := goldenNamed(t, "v1")
	for _, gone := range []string{"", "index", "lists"} {
		t.Run("without "+gone, func(t *testing.T) {
			c := newCraft(t, g)
			for _, name := range c.names("data") {
				c.move(name, kindData, 1, nil)
			}
			for _, name := range c.names("tree") {
				c.move(name, kindTree, 1, nil)
			}
			if gone != "" {
				c.remove(gone)
			}
			c.whole(g, g.Password, 6)
		})
	}
}

// TestWrongHints proves that a hint which leads to other bytes, whole and authentic, does no harm: what counts is the id.
func TestWrongHints(t *testing.T) {
	g := goldenNamed(t, "v1")
	c := newCraft(t, g)
	changed := 0
	for _, name := range c.names("tree") {
		c.move(name, kindTree, 1, func(plain []byte) {
			n, err := parseNode(plain, 8, [32]byte{})
			must(t, err)
			hints := 4 + len(n.bitmap) + len(n.ids) // number of packs, packs, number of frames
			frames := plain[hints+1+32*int(plain[hints])]
			for i := range n.children {
				frame := &plain[len(plain)-2*i-2]
				if frames > 1 && *frame != unplaced {
					*frame = (*frame + 1) % frames
					changed++
				}
			}
		})
	}
	c.whole(g, g.Password, 6)
	c.remove("index")
	c.whole(g, g.Password, 6)
	if changed < 20 {
		t.Errorf("only %d hints were changed", changed)
	}
}

// TestWrongPlaces proves the same of single chunks and nodes, where nothing else could notice: what lies in a place is taken for
// no other id.
func TestWrongPlaces(t *testing.T) {
	g := goldenNamed(t, "v1")
	r, err := openRepository(folders{g.folder()}, secret{password: g.Password})
	must(t, err)
	runs := r.state.runs
	reader, err := newFrames()
	must(t, err)
	for _, p := range r.state.points {
		m, err := r.manifestOf(p)
		must(t, err)
		id, places, err := m.Disks[0].top()
		must(t, err)
		s, err := shapeOf(r.state.parameters, m.Disks[0].SizeBytes)
		must(t, err)
		level := byte(s.height - 1)
		r.state.runs = nil
		if _, err := reader.node(r, id, level, places); err != nil {
			t.Errorf("%s: %v", p.id, err)
		}
		if _, err := reader.node(r, id, level+1, places); !isKind(err, kindCorrupt) {
			t.Errorf("%s: a node of another level: %v", p.id, err)
		}
		id[5] ^= 1
		if _, err := reader.node(r, id, level, places); !isKind(err, kindCorrupt) {
			t.Errorf("%s: a node of another id: %v", p.id, err)
		}
		r.state.runs = runs
	}
}

// TestRunPrefixes proves that a run is passed over for ids that the log says it cannot hold, and for no other.
func TestRunPrefixes(t *testing.T) {
	id := [32]byte{0b10100111, 0b11000000}
	for prefix, want := range map[string]bool{"": true, "1": true, "0": false, "1010": true, "1011": false, "1010011111": true, "1010011110": false, strings.Repeat("1", 257): false, "2": false} {
		if got := (liveRun{prefix: prefix}).mayHold(id); got != want {
			t.Errorf("prefix %q: %t", prefix, got)
		}
	}
}

// TestProof proves that the root of a file is that of its bytes: it tells one flipped bit, wherever it is, and a hole is the
// same as zeros.
func TestProof(t *testing.T) {
	g := goldenNamed(t, "v1")
	point := g.Points[0]
	r, err := openRepository(folders{g.folder()}, secret{password: g.Password})
	must(t, err)
	_, _, content := bring(t, g.Password, g.folder(), point.ID, "os")
	s, err := shapeOf(r.state.parameters, int64(len(content)))
	must(t, err)
	root := func(content []byte) string {
		file, err := os.Create(filepath.Join(t.TempDir(), "file")) // without holes
		must(t, err)
		defer file.Close()
		_, err = file.Write(content)
		must(t, err)
		root, err := rootOfFile(t.Context(), r.keys, s, file)
		must(t, err)
		return hex.EncodeToString(root[:])
	}
	if got := root(content); got != point.Disks[0].Root {
		t.Errorf("root %s, want %s", got, point.Disks[0].Root)
	}
	for at := 0; at < len(content); at += len(content)/20 + 1 {
		content[at] ^= 1
		if root(content) == point.Disks[0].Root {
			t.Errorf("byte %d does not count", at)
		}
		content[at] ^= 1
	}
}

// TestHintsLead proves that the hints of a point lead to all of its nodes and chunks alone, in every slot of a frame.
func TestHintsLead(t *testing.T) {
	g := goldenNamed(t, "v1")
	r, err := openRepository(folders{g.folder()}, secret{password: g.Password})
	must(t, err)
	r.state.runs = nil
	reader, err := newFrames()
	must(t, err)
	behindTheFirst := 0
	var walk func(id [32]byte, level int, places []place)
	walk = func(id [32]byte, level int, places []place) {
		if level < 0 {
			_, err := reader.chunk(r, id, places)
			must(t, err)
			if places[0].slot > 0 {
				behindTheFirst++
			}
			return
		}
		n, err := reader.node(r, id, byte(level), places)
		must(t, err)
		for _, c := range n.children {
			if c.hint != nil {
				walk(c.id, level-1, []place{*c.hint})
			}
		}
	}
	for _, p := range r.state.points {
		m, err := r.manifestOf(p)
		must(t, err)
		s, err := shapeOf(r.state.parameters, m.Disks[0].SizeBytes)
		must(t, err)
		id, places, err := m.Disks[0].top()
		must(t, err)
		walk(id, s.height-1, places)
	}
	if behindTheFirst == 0 {
		t.Error("no chunk lies behind the first of a frame")
	}
}

// TestIndexLeads proves that the index leads to every chunk and node of every pack that a point needs, alone: nothing else is
// asked here.
func TestIndexLeads(t *testing.T) {
	for _, g := range goldens(t) {
		r, err := openRepository(folders{g.folder()}, secret{password: g.Password})
		must(t, err)
		reader, err := newFrames()
		must(t, err)
		listed := make(map[string]bool)
		for _, p := range r.state.points {
			content, err := r.folders.read(p.list, "lists")
			must(t, err)
			l, err := parsePackList(content)
			must(t, err)
			for _, name := range l.packs {
				listed[name] = true
			}
		}
		checked := 0
		check := func(kind byte, id [32]byte) {
			places, err := reader.lookup(r, id, kind)
			must(t, err)
			if kind == kindData {
				_, err = reader.chunk(r, id, places)
			}
			if len(places) == 0 || err != nil {
				t.Errorf("%s: the index leads to %v: %v", g.name, places, err)
			}
			checked++
		}
		for name := range listed {
			kind := byte(kindData)
			if strings.HasPrefix(name, "tree/") {
				kind = kindTree
			}
			must(t, r.withSealed(reader.unzip, name, kind, func(s *sealed) error {
				records, _, err := s.directory()
				for _, frame := range records {
					for _, id := range frame.ids {
						check(kind, id)
					}
				}
				return err
			}))
		}
		if checked < 5 {
			t.Errorf("%s: only %d places were checked", g.name, checked)
		}
	}
}

// TestLostPack proves that a lost pack is told, that nothing is written unless the user wants it, and that then everything
// else comes back, zeros stand where the lost bytes were, and the ranges are right.
func TestLostPack(t *testing.T) {
	g := goldenNamed(t, "v1")
	point := g.Points[len(g.Points)-1]
	_, _, right := bring(t, g.Password, g.folder(), point.ID, "os")
	for _, folder := range []string{"data", "tree"} {
		t.Run(folder, func(t *testing.T) {
			hit := 0
			c := newCraft(t, g)
			aside := filepath.Join(t.TempDir(), "aside")
			for i, name := range c.names(folder) {
				if i%3 > 0 {
					continue // a third of them shows it
				}
				must(t, os.Rename(path(c.folder, name), aside))
				code, result, _ := bring(t, g.Password, c.folder, point.ID, "os")
				if code == 0 && result.Equal { // another point needs it
					must(t, os.Rename(aside, path(c.folder, name)))
					continue
				}
				hit++
				if code != 4 {
					t.Errorf("%s: exit %d", name, code)
				}
				code, result, content := bring(t, g.Password, c.folder, point.ID, "os", "--keep-going")
				if code != 4 || result.Equal || len(result.Lost) == 0 || len(content) != len(right) {
					t.Errorf("%s: exit %d, %+v", name, code, result)
				}
				want := slices.Clone(right)
				for _, s := range result.Lost {
					clear(want[s.Offset : s.Offset+s.Length])
				}
				if hashed(want) != hashed(content) {
					t.Errorf("%s: what is not lost is not right", name)
				}
				must(t, os.Rename(aside, path(c.folder, name)))
			}
			if hit == 0 {
				t.Error("no pack was needed")
			}
		})
	}
}

// TestFlippedBits proves that no flipped bit anywhere makes wrong bytes pass for right ones: the disk comes back equal, or the
// program says why not.
func TestFlippedBits(t *testing.T) {
	g := goldenNamed(t, "v1-unencrypted")
	point := g.Points[len(g.Points)-1]
	intact := newCraft(t, g)
	var names []string
	for _, folder := range []string{"keys", "data", "tree", "index", "points", "lists", "state"} {
		names = append(names, intact.names(folder)...)
	}
	numbers, err := folders{intact.folder}.logNumbers()
	must(t, err)
	for _, n := range numbers {
		names = append(names, entryName(n))
	}
	told := 0
	for _, name := range names {
		before, err := os.ReadFile(path(intact.folder, name))
		must(t, err)
		for _, at := range []int{0, 9, 70, len(before) / 2, len(before) - 20, len(before) - 3} {
			intact.flip(name, max(at, 0))
			code, result, content := bring(t, g.Password, intact.folder, point.ID, "os")
			if code == 0 && (!result.Equal || hashed(content) != point.Disks[0].SHA256) {
				t.Errorf("%s, byte %d: wrong bytes passed", name, at)
			}
			if code != 0 {
				told++
			}
			must(t, os.WriteFile(path(intact.folder, name), before, 0o600))
		}
	}
	if told < 10 {
		t.Errorf("only %d flips mattered", told)
	}
}

// TestSecondCopy proves that damage in one copy of the repository is answered from another one.
func TestSecondCopy(t *testing.T) {
	g := goldenNamed(t, "v1")
	first, second := newCraft(t, g), newCraft(t, g)
	for i, folder := range []string{"keys", "data", "tree", "index", "points", "lists", "state"} {
		for n, name := range first.names(folder) {
			damagedCopy := []*craft{first, second}[(n+i)%2] // neither copy is whole
			if n%3 == 0 {
				damagedCopy.remove(name)
			} else {
				damagedCopy.flip(name, 80)
			}
		}
	}
	for n := range 83 {
		[]*craft{first, second}[n%2].flip(entryName(uint64(n)), 100)
	}
	first.whole(g, g.Password, 5, "--repo", second.folder)
}

// TestLostEntries proves that lost log entries are told by name, that a later checkpoint brings back what they said, and that
// without one the points of other entries stay.
func TestLostEntries(t *testing.T) {
	g := goldenNamed(t, "v1")
	t.Run("before a checkpoint", func(t *testing.T) {
		c := newCraft(t, g)
		c.remove(entryName(0), entryName(2), entryName(31), entryName(50))
		code, points, log := c.list(g.Password)
		if code != 4 || len(points) != len(g.Points) || !strings.Contains(log, "log entries 0 to 0 are missing") {
			t.Errorf("exit %d, %d points, %s", code, len(points), log)
		}
		c.whole(g, g.Password, 7)
	})
	t.Run("without one", func(t *testing.T) {
		c := newCraft(t, g)
		c.remove("state", entryName(2)) // the first publication
		code, points, log := c.list(g.Password)
		if code != 4 || len(points) != len(g.Points)-1 || points[0].ID != g.Points[1].ID || log == "" {
			t.Errorf("exit %d, %d points, %s", code, len(points), log)
		}
	})
	t.Run("with nothing to go on", func(t *testing.T) {
		c := newCraft(t, g)
		c.remove("state", entryName(0))
		if code, _, log := call(t, g.Password, "list", "--repo", c.folder); code != 4 {
			t.Errorf("exit %d, %s", code, log)
		}
	})
}

// TestEntrySum proves that an entry tells any change of any byte without a key.
func TestEntrySum(t *testing.T) {
	content, err := os.ReadFile(path(goldenNamed(t, "v1").folder(), entryName(1)))
	must(t, err)
	if _, err := parseEntry(content); err != nil {
		t.Fatal(err)
	}
	for at := range content {
		content[at] ^= 1
		if _, err := parseEntry(content); !isKind(err, kindCorrupt) {
			t.Errorf("byte %d: %v", at, err)
		}
		content[at] ^= 1
	}
}

// TestForgedEntries proves that nobody without a key makes a point vanish, or the reader stop.
func TestForgedEntries(t *testing.T) {
	g := goldenNamed(t, "v1")
	forger := &keys{generations: map[uint32][]byte{1: make([]byte, 32), 9: make([]byte, 32)}}
	for _, f := range []fields{
		{"kind": "remove", "points": []string{g.Points[0].ID}},
		{"kind": "a kind of tomorrow"},
		{"kind": "keys", "slots": []string{"keys/" + strings.Repeat("0", 64)}, "keyRing": "keys/" + strings.Repeat("1", 64)},
		{"kind": "genesis", "format": 7},
		{"n": "not a number"},
	} {
		for generation := range forger.generations {
			c := newCraft(t, g)
			forger.repository = c.keys.repository
			c.append(forger, generation, f)
			code, points, log := c.list(g.Password)
			if code != 4 || len(points) != len(g.Points) || log == "" {
				t.Errorf("%v: exit %d, %d points, %s", f, code, len(points), log)
			}
		}
	}
}

// TestFork proves that an entry which does not follow the one before it has no effect, although somebody with a key wrote it.
func TestFork(t *testing.T) {
	g := goldenNamed(t, "v1")
	c := newCraft(t, g)
	c.append(c.keys, 1, fields{"kind": "remove", "points": []string{g.Points[0].ID}, "previous": strings.Repeat("0", 64)})
	code, points, log := c.list(g.Password)
	if code != 4 || len(points) != len(g.Points) || !strings.Contains(log, "does not follow") {
		t.Errorf("exit %d, %d points, %s", code, len(points), log)
	}
}

// TestWholeObjects proves that an object which is read whole is held against its name: a list, a checkpoint or a key that somebody
// changed is none.
func TestWholeObjects(t *testing.T) {
	c := newCraft(t, goldenNamed(t, "v1"))
	for _, folder := range []string{"keys", "lists", "state"} {
		for _, name := range c.names(folder) {
			if _, err := (folders{c.folder}).read(name, folder); err != nil {
				t.Error(err)
			}
			c.flip(name, 40)
			if _, err := (folders{c.folder}).read(name, folder); !isKind(err, kindCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, name := range []string{"keys/../log/00000000000000000000", "/etc/passwd", "keys/" + strings.Repeat("A", 64), "data/00/" + strings.Repeat("1", 64)} {
		if validName(name, "keys") || validName(name, "data") {
			t.Errorf("%s passes for the name of an object", name)
		}
	}
}

// TestRemovedPoints proves that a removed point is gone, and that a removal which is not allowed is damage and has no effect.
func TestRemovedPoints(t *testing.T) {
	g := goldenNamed(t, "v1")
	c := newCraft(t, g)
	c.append(c.keys, 1, fields{"kind": "remove", "points": []string{g.Points[3].ID, g.Points[0].ID}})
	if code, points, log := c.list(g.Password); code != 0 || len(points) != len(g.Points)-2 {
		t.Fatalf("exit %d, %d points, %s", code, len(points), log)
	}
	if code, _, log := call(t, g.Password, "documents", "--repo", c.folder, "--point", g.Points[0].ID); code != 3 {
		t.Errorf("the removed point: exit %d, %s", code, log)
	}

	c.append(c.keys, 1, fields{"kind": "begin", "session": strings.Repeat("ab", 16), "parents": []string{g.Points[5].ID}})
	c.append(c.keys, 1, fields{"kind": "remove", "points": []string{g.Points[5].ID}})
	code, points, log := c.list(g.Password)
	if code != 4 || len(points) != len(g.Points)-2 || !strings.Contains(log, "not allowed") {
		t.Errorf("the parent of an open session: exit %d, %d points, %s", code, len(points), log)
	}
}

// TestNewer proves that an authentic entry of a later version stops the reader, with words and not with damage.
func TestNewer(t *testing.T) {
	g := goldenNamed(t, "v1")
	for _, f := range []fields{{"kind": "a kind of tomorrow"}, {"kind": "settle", "holdfast": 2}} {
		c := newCraft(t, g)
		c.append(c.keys, 1, f)
		code, _, log := call(t, g.Password, "list", "--repo", c.folder)
		if code != 2 || !strings.Contains(log, "newer Holdfast") {
			t.Errorf("%v: exit %d, %s", f, code, log)
		}
	}
}

// TestKeys proves slots and rings: several passwords, a recovery code as people type it, a rotated generation, a revoked key
// that opens old things only when that is asked for, and the repository key in three forms.
func TestKeys(t *testing.T) {
	g := goldenNamed(t, "v1")
	c := newCraft(t, g)
	oldSlots := c.names("keys")
	repositoryKey := []byte(strings.Repeat("k", 32))
	generations := map[uint32][]byte{1: c.keys.generations[1], 2: []byte(strings.Repeat("2", 32))}
	const code = "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ"
	slots := []string{
		c.passwordSlot(repositoryKey, "one", fields{"label": "unknown fields are nothing to worry about"}),
		c.passwordSlot(repositoryKey, "two", nil),
		c.passwordSlot(repositoryKey, code, fields{"recoveryCode": true}),
		c.putJSON(fields{"holdfast": "key slot", "format": 1, "repository": c.keys.repositoryID(), "kind": "vault", "keyId": "https://v/keys/k/1", "algorithm": "RSA-OAEP-256"}),
	}
	ring := c.ring(repositoryKey, generations)
	c.append(c.keys, 1, fields{"kind": "keys", "slots": slots, "keyRing": ring, "leastGeneration": 2})
	newKeys := *c.keys
	newKeys.generations = generations
	c.append(&newKeys, 2, fields{"kind": "remove", "points": []string{g.Points[0].ID}})
	c.append(c.keys, 1, fields{"kind": "remove", "points": []string{g.Points[1].ID}}) // whoever kept the old key
	c.keys = &newKeys
	for _, name := range c.names("data") {
		c.move(name, kindData, 2, nil)
	}

	file := filepath.Join(t.TempDir(), "key")
	for _, form := range []string{string(repositoryKey), hex.EncodeToString(repositoryKey) + "\n", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\n"} {
		must(t, os.WriteFile(file, []byte(form), 0o600))
		if exit, points, log := c.list("", "--repository-key-file", file); exit != 4 || len(points) != len(g.Points)-1 {
			t.Errorf("repository key %q: exit %d, %d points, %s", form, exit, len(points), log)
		}
	}
	for _, password := range []string{"one", "two", code, "ol23-4567 89abcdefghjkmnpqrstvwxyz", "oI234567 89ABcdefghjkmnpqrstvwxyz"} {
		exit, points, log := c.list(password)
		if exit != 4 || len(points) != len(g.Points)-1 || !strings.Contains(log, "revoked") {
			t.Errorf("password %q: exit %d, %d points, %s", password, exit, len(points), log)
		}
	}
	later := g
	later.Points = g.Points[1:]
	c.whole(later, "two", 8)

	for _, wrong := range []struct {
		password, says string
		exit           int
	}{{"three", "does not open", 6}, {g.Password, "was dropped", 6}, {"", "a key is wanted", 2}} {
		if exit, _, log := call(t, wrong.password, "list", "--repo", c.folder); exit != wrong.exit || !strings.Contains(log, wrong.says) {
			t.Errorf("password %q: exit %d, %s", wrong.password, exit, log)
		}
	}
	if exit, points, log := c.list(g.Password, "--dropped-key"); exit != 4 || len(points) != len(g.Points) {
		t.Errorf("the dropped key: exit %d, %d points, %s", exit, len(points), log)
	}
	c.remove(oldSlots...) // as a collector does
	c.whole(later, "one", 12)
}

// TestOpenSlotBesideOthers proves that nobody turns encryption off by laying an open slot beside a repository.
func TestOpenSlotBesideOthers(t *testing.T) {
	c := newCraft(t, goldenNamed(t, "v1"))
	key := []byte(strings.Repeat("x", 32))
	c.putJSON(fields{"holdfast": "key slot", "format": 1, "repository": c.keys.repositoryID(), "kind": "open", "key": key})
	c.ring(key, map[uint32][]byte{1: key})
	if code, _, log := call(t, "", "list", "--repo", c.folder); code != 2 {
		t.Errorf("exit %d, %s", code, log)
	}
}

// TestHostileSlot proves that a slot cannot ask for absurd work: it is refused before anything is computed.
func TestHostileSlot(t *testing.T) {
	for _, change := range []string{`"memoryKiB":1048577`, `"time":65`, `"threads":65`, `"threads":0`, `"time":0`, `"memoryKiB":4294967295`} {
		slot := fmt.Sprintf(`{"holdfast":"key slot","format":1,"kind":"password","kdf":"argon2id","time":1,"memoryKiB":8,"threads":1,%s}`, change)
		if _, err := parseSlot([]byte(slot)); !isKind(err, kindCorrupt) {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// TestLostManifest proves that a point without a manifest is still listed, from what the log says about it, and that its
// disks are told as lost.
func TestLostManifest(t *testing.T) {
	g := goldenNamed(t, "v1")
	c := newCraft(t, g)
	c.remove("points")
	code, points, _ := c.list(g.Password)
	if code != 4 || len(points) != len(g.Points) {
		t.Fatalf("exit %d, %d points", code, len(points))
	}
	for i, p := range points {
		if p.Problem == "" || p.VM != g.Points[i].VM || p.Disks[0].Root != g.Points[i].Disks[0].Root {
			t.Errorf("%+v", p)
		}
	}
	if code, _, _ := bring(t, g.Password, c.folder, g.Points[0].ID, "os"); code != 4 {
		t.Errorf("exit %d", code)
	}
}

// TestInput proves that bad input is told with the flag that is wrong.
func TestInput(t *testing.T) {
	g := goldenNamed(t, "v1")
	exists := filepath.Join(t.TempDir(), "exists")
	must(t, os.WriteFile(exists, nil, 0o600))
	extract := func(more ...string) []string { return append([]string{"extract", "--repo", g.folder()}, more...) }
	for _, c := range []struct {
		arguments []string
		code      int
		field     string
	}{
		{[]string{"list"}, 2, "repo"},
		{[]string{"list", "--repo", "/does/not/exist"}, 3, "repo"},
		{[]string{"list", "--repo", exists}, 2, "repo"},
		{[]string{"list", "--repo", t.TempDir()}, 3, "repo"},
		{[]string{"list", "--repo", g.folder(), "--no-such-flag"}, 2, ""},
		{[]string{"list", "--repo", g.folder(), "more"}, 2, ""},
		{[]string{"dance", "--repo", g.folder()}, 2, ""},
		{[]string{"list", "--repo", g.folder(), "--password-file", "/does/not/exist"}, 2, "password-file"},
		{[]string{"list", "--repo", g.folder(), "--repository-key-file", exists}, 2, "repository-key-file"},
		{[]string{"documents", "--repo", g.folder()}, 2, "point"},
		{[]string{"documents", "--repo", g.folder(), "--point", "2026"}, 2, "point"},
		{[]string{"documents", "--repo", g.folder(), "--point", "2027"}, 3, "point"},
		{extract("--point", g.Points[0].ID, "--disk", "os"), 2, "out"},
		{extract("--point", g.Points[0].ID, "--disk", "7", "--out", exists+"2"), 3, "disk"},
		{extract("--point", g.Points[0].ID, "--out", exists+"2"), 2, "disk"},
		{extract("--point", g.Points[0].ID, "--disk", "os", "--out", exists), 2, "out"},
		{extract("--point", g.Points[0].ID, "--disk", "os", "--out", "/does/not/exist/x"), 2, "out"},
	} {
		code, out, _ := call(t, g.Password, append(c.arguments, "--json")...)
		if slices.Contains(c.arguments, "more") {
			code, out, _ = call(t, g.Password, append([]string{"list", "--json"}, c.arguments[1:]...)...)
		}
		var told struct{ Error *failure }
		err := json.Unmarshal([]byte(out), &told)
		bad := slices.Contains(c.arguments, "--no-such-flag") // then --json may not have been read
		if code != c.code || !bad && (err != nil || told.Error == nil || told.Error.Field != c.field || told.Error.Message == "") {
			t.Errorf("%v: exit %d, %s", c.arguments, code, out)
		}
	}
}

// TestPrefix proves that the beginning of an id suffices.
func TestPrefix(t *testing.T) {
	g := goldenNamed(t, "v1")
	code, _, content := bring(t, g.Password, g.folder(), strings.TrimSuffix(g.Points[2].ID, "f3"), "os")
	if code != 0 || hashed(content) != g.Points[2].Disks[0].SHA256 {
		t.Errorf("exit %d", code)
	}
}
