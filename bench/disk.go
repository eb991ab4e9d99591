package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sparse"
)

// disks are the states of one disk that engines back up in turn.
type disks struct {
	base  string // the filesystem as filled
	runs  string // base, 1 % overwritten in runs of 1 MiB
	pages string // base, 1 % overwritten in single pages of 4 KiB
	// What a hypervisor would say has changed since base: lines of offset and length.
	runsList, pagesList, noList string
	// Bytes of 128 KiB chunks that the changes touch, and bytes that are not holes.
	runsTouched, pagesTouched, allocated int64
}

const (
	share      = 100 // one in so many of the disk's allocated bytes is overwritten
	runBytes   = 1 << 20
	pageBytes  = 4 << 10
	chunkBytes = 128 << 10
)

// prepareDisks makes the disk and its changed states, or finds them made by an earlier run with the same sizes.
func prepareDisks(ctx context.Context, o options) (disks, error) {
	folder := filepath.Join(o.dir, fmt.Sprintf("disk-%d-of-%d", o.data, o.disk))
	d := disks{
		base: filepath.Join(folder, "base.img"), runs: filepath.Join(folder, "runs.img"), pages: filepath.Join(folder, "pages.img"),
		runsList: filepath.Join(folder, "runs.list"), pagesList: filepath.Join(folder, "pages.list"), noList: filepath.Join(folder, "empty.list"),
	}
	if _, err := os.Stat(d.noList); errors.Is(err, fs.ErrNotExist) { // written last
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return d, err
		}
		if err := makeDisk(ctx, o, d.base); err != nil {
			return d, err
		}
		if err := overwrite(ctx, d.base, d.runs, d.runsList, runBytes); err != nil {
			return d, err
		}
		if err := overwrite(ctx, d.base, d.pages, d.pagesList, pageBytes); err != nil {
			return d, err
		}
		if err := os.WriteFile(d.noList, nil, 0o600); err != nil {
			return d, err
		}
	}
	var err error
	if d.runsTouched, err = touched(d.runsList); err != nil {
		return d, err
	}
	if d.pagesTouched, err = touched(d.pagesList); err != nil {
		return d, err
	}
	allocated, err := dataRanges(d.base)
	for _, r := range allocated {
		d.allocated += r.Length
	}
	return d, err
}

// makeDisk fills an ext4 filesystem with real files, up to o.data bytes of them.
func makeDisk(ctx context.Context, o options, image string) error {
	stage, err := os.MkdirTemp(o.dir, "stage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage) // of our own making; what stays is named in the folder
	rest := o.data
	for _, source := range o.sources {
		if err := stageFiles(source, stage, &rest); err != nil {
			return err
		}
	}
	if rest > o.data/10 {
		return fmt.Errorf("the files of %v have %d bytes less than -data wants: name more folders with -sources", o.sources, rest)
	}
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(o.disk), f.Close())
	}
	if err != nil {
		return err
	}
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", "-d", stage, image)
	if out, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w\n%s", err, out)
	}
	return nil
}

// stageFiles links the regular files below source into stage, until rest bytes are used up.
func stageFiles(source, stage string, rest *int64) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || *rest <= 0 {
			return filepath.SkipAll
		}
		target := filepath.Join(stage, path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		*rest -= info.Size()
		if err := os.Link(path, target); err == nil {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}

// dataRanges returns the parts of a file that are not holes, those that touch as one.
func dataRanges(name string) ([]holdfast.Extent, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var ranges []holdfast.Extent
	for e, err := range sparse.Extents(f, info.Size()) {
		if err != nil {
			return nil, err
		}
		if n := len(ranges); n > 0 && ranges[n-1].End() == e.Offset {
			ranges[n-1].Length += e.Length
			continue
		}
		ranges = append(ranges, e)
	}
	return ranges, nil
}

// overwrite copies a disk and overwrites one in share of its allocated bytes, in pieces of a size at seeded places. What is written
// is what guests write: half of it text that compresses, half of it noise.
func overwrite(ctx context.Context, from, to, list string, size int64) error {
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	ranges, err := dataRanges(to)
	if err != nil {
		return err
	}
	places := piecesOf(ranges, size)
	random := rand.New(rand.NewChaCha8([32]byte{byte(size >> 10)}))
	random.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	places = places[:max(1, len(places)/share)]
	slices.Sort(places)
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	for _, offset := range places {
		_, err = f.WriteAt(guestBytes(random, size), offset)
		if err != nil {
			break
		}
		fmt.Fprintln(&lines, offset, size)
	}
	return errors.Join(err, f.Close(), os.WriteFile(list, lines.Bytes(), 0o600))
}

// piecesOf returns the offsets of all pieces of a size that lie whole within ranges.
func piecesOf(ranges []holdfast.Extent, size int64) []int64 {
	var places []int64
	for _, r := range ranges {
		for offset := (r.Offset + size - 1) / size * size; offset+size <= r.End(); offset += size {
			places = append(places, offset)
		}
	}
	return places
}

// guestBytes makes content: text of a small vocabulary or noise, as a coin falls.
func guestBytes(random *rand.Rand, size int64) []byte {
	p := make([]byte, 0, size+16)
	for text := random.IntN(2) == 0; int64(len(p)) < size; {
		if text {
			p = append(strconv.AppendUint(p, random.Uint64N(5000), 36), ' ')
			continue
		}
		p = append(p, byte(random.Uint32()))
	}
	return p[:size]
}

// touched returns the bytes of all chunks that a change list touches.
func touched(list string) (int64, error) {
	data, err := os.ReadFile(list)
	if err != nil {
		return 0, err
	}
	chunks := map[int64]bool{}
	for line := range bytes.Lines(data) {
		var offset, length int64
		if _, err := fmt.Sscan(string(line), &offset, &length); err != nil {
			return 0, err
		}
		for c := offset / chunkBytes; c*chunkBytes < offset+length; c++ {
			chunks[c] = true
		}
	}
	return int64(len(chunks)) * chunkBytes, nil
}
