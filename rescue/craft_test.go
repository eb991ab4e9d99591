package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// craft changes copies of golden repositories the way a writer, an accident or an adversary would. What it writes it writes
// from the page, as the program reads it.
type craft struct {
	t      *testing.T
	folder string
	keys   *keys
}

// newCraft opens a copy of a golden repository for changes.
func newCraft(t *testing.T, g golden) *craft {
	t.Helper()
	folder := g.copied(t)
	r, err := openRepository(folders{folder}, secret{password: g.Password})
	if err != nil {
		t.Fatal(err)
	}
	return &craft{t: t, folder: folder, keys: r.keys}
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names returns the names of all objects in a folder of the repository, sorted.
func (c *craft) names(folder string) []string {
	c.t.Helper()
	var names []string
	must(c.t, folders{c.folder}.each(folder, func(name string) error {
		names = append(names, name)
		return nil
	}))
	slices.Sort(names)
	return names
}

// remove removes objects or folders.
func (c *craft) remove(names ...string) {
	c.t.Helper()
	for _, name := range names {
		must(c.t, os.RemoveAll(path(c.folder, name)))
	}
}

// flip changes one bit of an object.
func (c *craft) flip(name string, at int) {
	c.t.Helper()
	content, err := os.ReadFile(path(c.folder, name))
	must(c.t, err)
	content[at%len(content)] ^= 1 << (at % 8)
	must(c.t, os.WriteFile(path(c.folder, name), content, 0o600))
}

// put writes an object under the hash of its bytes.
func (c *craft) put(folder string, content []byte) string {
	c.t.Helper()
	hash := sha256.Sum256(content)
	name := folder + "/" + hex.EncodeToString(hash[:])
	if folder == "data" || folder == "tree" {
		name = packName(folder, hash)
	}
	must(c.t, os.MkdirAll(filepath.Dir(path(c.folder, name)), 0o700))
	must(c.t, os.WriteFile(path(c.folder, name), content, 0o600))
	return name
}

// fields of a log entry that is to be appended.
type fields map[string]any

// append writes a log entry behind the last one, as somebody with these keys would.
func (c *craft) append(k *keys, generation uint32, f fields) {
	c.t.Helper()
	numbers, err := folders{c.folder}.logNumbers()
	must(c.t, err)
	last := numbers[len(numbers)-1]
	previous, err := os.ReadFile(path(c.folder, entryName(last)))
	must(c.t, err)
	whole := fields{
		"holdfast": 1, "n": last + 1, "repository": k.repositoryID(), "previous": hashed(previous), "generation": generation,
		"time": "2026-03-02T00:00:00Z", "writer": strings.Repeat("0", 32), "a field of tomorrow": []int{1},
	}
	maps.Copy(whole, f)
	line, err := json.Marshal(whole)
	must(c.t, err)
	key, err := k.ofGeneration(generation, k.repository, "holdfast log 1")
	must(c.t, err)
	text := fmt.Sprintf("%s\nmac %x\n", line, mac(key, line))
	text += fmt.Sprintf("sum %x\n", sha256.Sum256([]byte(text)))
	must(c.t, os.WriteFile(path(c.folder, entryName(last+1)), []byte(text), 0o600))
}

// sealAll makes a sealed object of frames, under new random bytes. directory is what follows the records.
func (c *craft) sealAll(k *keys, generation uint32, kind byte, plains [][]byte, records []byte) []byte {
	c.t.Helper()
	header := append([]byte("HFST\x01"), kind, 0, 0)
	header = binary.BigEndian.AppendUint32(header, generation)
	header = append(append(header, 0, 0, 0, 0), k.repository...)
	header = append(header, make([]byte, 16)...) // session
	header = append(header, make([]byte, 16)...)
	_, err := rand.Read(header[48:])
	must(c.t, err)
	key, err := k.ofGeneration(generation, header[48:64], "holdfast object 1")
	must(c.t, err)
	aead, err := seal(key)
	must(c.t, err)
	object := header
	frame := func(plain []byte) {
		nonce := binary.BigEndian.AppendUint64(make([]byte, 4), uint64(len(object)))
		object = append(object, aead.Seal(nil, nonce, append([]byte{0}, plain...), header)...)
	}
	for _, plain := range plains {
		frame(plain)
	}
	offset := len(object)
	frame(records)
	stored := len(object) - offset
	object = binary.BigEndian.AppendUint64(object, uint64(offset))
	object = binary.BigEndian.AppendUint32(object, uint32(stored))
	return binary.BigEndian.AppendUint32(object, uint32(len(plains)))
}

// move writes a pack again as a new object, its frames in reverse order and in another generation, and removes the old one:
// so neither hints nor index lead to its content any more. change, if there is one, changes what is in a frame.
func (c *craft) move(name string, kind byte, generation uint32, change func(plain []byte)) {
	c.t.Helper()
	r := &repository{folders: folders{c.folder}, keys: c.keys}
	unzip, err := newDecompressor()
	must(c.t, err)
	var plains [][]byte
	var records []byte
	must(c.t, r.withSealed(unzip, name, kind, func(s *sealed) error {
		frames, _, err := s.directory()
		if err != nil {
			return err
		}
		for _, frame := range slices.Backward(frames) {
			plain, err := s.frame(frame.offset, frame.stored, framePlainMax)
			if err != nil {
				return err
			}
			if len(plain) != frame.plain {
				return damaged("a frame has %d bytes, its directory says %d", len(plain), frame.plain)
			}
			plain = slices.Clone(plain)
			if change != nil {
				change(plain)
			}
			plains = append(plains, plain)
			records = binary.BigEndian.AppendUint32(records, uint32(len(plain)+sealOverhead))
			records = binary.BigEndian.AppendUint32(records, uint32(len(plain)))
			records = binary.BigEndian.AppendUint16(records, uint16(len(frame.ids)))
			for _, id := range frame.ids {
				records = append(records, id[:]...)
			}
		}
		return nil
	}))
	c.put(objectFolder(kind), c.sealAll(c.keys, generation, kind, plains, records))
	c.remove(name)
}

// ring makes a key ring with these generations under a repository key.
func (c *craft) ring(repositoryKey []byte, generations map[uint32][]byte) string {
	c.t.Helper()
	content := fields{"identity": c.keys.identity}
	var list []fields
	for number, secret := range generations {
		list = append(list, fields{"number": number, "secret": secret})
	}
	content["generations"] = list
	text, err := json.Marshal(content)
	must(c.t, err)
	nonce := make([]byte, 12)
	return c.putJSON(fields{
		"holdfast": "key ring", "format": 1, "repository": c.keys.repositoryID(), "nonce": nonce,
		"sealed": c.gcm(repositoryKey, nonce, text, bound("holdfast key ring 1", c.keys.repository)),
	})
}

// passwordSlot makes a slot that a password opens.
func (c *craft) passwordSlot(repositoryKey []byte, password string, more fields) string {
	c.t.Helper()
	salt, nonce := make([]byte, 16), make([]byte, 12)
	s := fields{
		"holdfast": "key slot", "format": 1, "repository": c.keys.repositoryID(), "kind": "password", "kdf": "argon2id",
		"time": 1, "memoryKiB": 8, "threads": 1, "salt": salt, "nonce": nonce,
		"wrapped": c.gcm(argon(password, salt), nonce, repositoryKey, bound("holdfast slot 1", c.keys.repository)),
	}
	maps.Copy(s, more)
	return c.putJSON(s)
}

func (c *craft) putJSON(f fields) string {
	c.t.Helper()
	text, err := json.Marshal(f)
	must(c.t, err)
	return c.put("keys", text)
}

func (c *craft) gcm(key, nonce, plain, associated []byte) []byte {
	c.t.Helper()
	aead, err := seal(key)
	must(c.t, err)
	return aead.Seal(nil, nonce, plain, associated)
}
