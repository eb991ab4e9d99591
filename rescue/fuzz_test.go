package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// seeds are the objects of the golden repositories in some folders: what the parsers are made for.
func seeds(f *testing.F, patterns ...string) {
	f.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(goldenFolder, "*", pattern))
		must(f, err)
		for _, name := range names[:min(len(names), 20)] {
			content, err := os.ReadFile(name)
			must(f, err)
			f.Add(content)
		}
	}
}

// FuzzEntry: an entry that parses has three lines and nothing else, whatever the bytes.
func FuzzEntry(f *testing.F) {
	seeds(f, "log/*")
	k := &keys{repository: make([]byte, 16), generations: map[uint32][]byte{1: make([]byte, 32)}}
	f.Fuzz(func(t *testing.T, content []byte) {
		e, err := parseEntry(content)
		if err != nil {
			return
		}
		if bytes.Count(content, []byte("\n")) != 3 || !bytes.HasPrefix(content, e.line) {
			t.Errorf("%q", content)
		}
		if e.authentic(k, e.N) == nil {
			t.Errorf("authentic without its key: %q", content)
		}
		s := &state{sessions: make(map[string]*session)}
		if s.objection(e) == "" {
			s.apply(e)
		}
	})
}

// FuzzJSON: nothing that is JSON, or is not, upsets the readers of slots, rings, checkpoints and manifests.
func FuzzJSON(f *testing.F) {
	seeds(f, "keys/*", "state/*")
	f.Add([]byte(`{"format":1,"point":"p","disks":[{"lun":"os","sizeBytes":9,"root":"00","top":{"id":"","pack":"tree/00/"}}],"documents":[{"body":{}}]}`))
	f.Fuzz(func(_ *testing.T, content []byte) {
		if s, err := parseSlot(content); err == nil && s.Kind != "password" {
			_, _ = s.open(secret{password: "x"})
		}
		_, _ = openRing(content, make([]byte, 32))
		_, _ = parseCheckpoint(content)
		if m, err := parseManifest(content); err == nil {
			for i := range m.Disks {
				_, _, _ = m.Disks[i].top()
				_, _ = shapeOf(parameters{ChunkSize: 64 << 10, FrameSize: 64 << 10, FanOut: 8}, m.Disks[i].SizeBytes)
			}
		}
	})
}

// FuzzNode: a node that parses has children, each with an id, and hints with places that the bytes hold.
func FuzzNode(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01" + string(make([]byte, 32)) + "\x00\x00\xff\x00"))
	f.Add([]byte("\x01\x00\x00\x00\x01" + string(make([]byte, 32+1+32)) + "\x01" + string(make([]byte, 9+2))))
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := parseNode(content, 8, [32]byte{})
		if err != nil {
			return
		}
		if len(n.children) == 0 || len(n.ids) != 32*len(n.children) {
			t.Errorf("%d children, %d bytes of ids", len(n.children), len(n.ids))
		}
	})
}

// FuzzDirectory: no directory takes more memory than its own size times a small number, nor leads out of its bytes.
func FuzzDirectory(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x30\x00\x00\x00\x20\x00\x01"+string(make([]byte, 32+8+33+4))), int64(1), byte(kindData))
	f.Add([]byte("\x00\x00\x00\x30\x00\x00\x00\x20\x00\x02"+string(make([]byte, 64))+"\x00\x00\x00\x01\x01"+string(make([]byte, 32))+"\x00\x00\x00\x00"), int64(1), byte(kindTableRun))
	f.Add([]byte("\x00\x00\x00\x30\x00\x00\x00\x20\x00\x01"+string(make([]byte, 8))), int64(1), byte(kindRun))
	f.Fuzz(func(t *testing.T, text []byte, frames int64, kind byte) {
		if frames < 0 || frames > 1<<32-1 { // it comes from 4 bytes
			return
		}
		records, rest, _, err := parseDirectory(text, frames, kind)
		if err != nil {
			return
		}
		if int64(len(records)) != frames || len(rest) > len(text) {
			t.Errorf("%d records of %d", len(records), frames)
		}
		i := &indexRun{table: kind == kindTableRun, blocks: records}
		if i.parseTail(rest) == nil {
			_ = i.search(text, [32]byte{}, kindData)
		}
	})
}

// FuzzPackList: every name of a list that parses is the name of a pack.
func FuzzPackList(f *testing.F) {
	seeds(f, "lists/*")
	f.Fuzz(func(t *testing.T, content []byte) {
		l, err := parsePackList(content)
		if err != nil {
			return
		}
		for _, name := range l.packs {
			if !validName(name, "data") && !validName(name, "tree") {
				t.Errorf("%q", name)
			}
		}
	})
}

// FuzzObject: a sealed object that is not authentic gives nothing, whatever its header, trailer and lengths say.
func FuzzObject(f *testing.F) {
	seeds(f, "data/*/*", "tree/*/*", "index/*", "points/*")
	k := &keys{repository: make([]byte, 16), generations: map[uint32][]byte{1: make([]byte, 32)}}
	unzip, err := newDecompressor()
	must(f, err)
	f.Fuzz(func(t *testing.T, content []byte) {
		for kind := byte(kindData); kind <= kindRun; kind++ {
			content := bytes.Clone(content)
			if len(content) >= headerBytes {
				copy(content[16:32], k.repository) // or every seed would stop there
			}
			s, err := openSealed(k, unzip, bytes.NewReader(content), int64(len(content)), kind)
			if err != nil {
				continue
			}
			if records, _, err := s.directory(); err == nil {
				t.Errorf("%d records without the key", len(records))
			}
			_, _ = s.frame(int64(len(content))/2, 40, framePlainMax)
			_, _ = unzip.expand(content, framePlainMax)
		}
	})
}
