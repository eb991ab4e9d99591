package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// blockBytes is the block size of all three filesystems and the step in which file content is looked for.
const blockBytes = 4096

// changesMax bounds how many places of an image are described: enough for a demo, few enough to read.
const changesMax = 40

// subject is what describe looks at.
type subject struct {
	Name, Filesystem string
	Image            string // the raw disk image
	Directory        string // the files that were put on it
}

// description is the JSON beside an image; package images reads it.
type description struct {
	Name       string  `json:"name"`
	Filesystem string  `json:"filesystem"`
	RawBytes   int64   `json:"rawBytes"`
	SHA256     string  `json:"sha256"`
	Files      int     `json:"files"`
	FileBytes  int64   `json:"fileBytes"`
	Places     []place `json:"places"`
}

// place is a run of whole blocks of the image that holds a part of one file and nothing else.
type place struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"` // in the image
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"` // of the bytes that lie there
}

// source names a block of a file.
type source struct {
	file  string
	block int
}

// describe prints what an image is and where its files lie. The places are found by content: a block counts only when
// exactly one block of one file has these bytes, so no filesystem's own tool has to be believed.
func describe(out io.Writer, s subject) error {
	known, summary, err := readBlocks(s.Directory)
	if err != nil {
		return err
	}
	image, err := os.Open(s.Image)
	if err != nil {
		return err
	}
	defer image.Close()

	found, total, sum, err := findPlaces(image, known)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errors.New("no file's content was found in the image")
	}
	picked, err := pick(image, found)
	if err != nil {
		return err
	}
	summary.Name, summary.Filesystem = s.Name, s.Filesystem
	summary.RawBytes, summary.SHA256, summary.Places = total, sum, picked
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(summary)
}

// readBlocks returns the whole blocks of all files that occur once only, by their content.
func readBlocks(directory string) (map[[32]byte]source, description, error) {
	known := make(map[[32]byte]source)
	var summary description
	err := filepath.WalkDir(directory, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(directory, name)
		if err != nil {
			return err
		}
		summary.Files++
		summary.FileBytes += int64(len(content))
		for i := 0; (i+1)*blockBytes <= len(content); i++ {
			hash := sha256.Sum256(content[i*blockBytes:][:blockBytes])
			if _, twice := known[hash]; twice {
				known[hash] = source{}
				continue
			}
			known[hash] = source{file: filepath.ToSlash(relative), block: i}
		}
		return nil
	})
	return known, summary, err
}

// findPlaces reads the whole image and returns runs of blocks that follow one another in a file and in the image.
func findPlaces(image io.Reader, known map[[32]byte]source) ([]place, int64, string, error) {
	whole := sha256.New()
	block := make([]byte, blockBytes)
	var found []place
	var last source
	var offset int64
	for {
		_, err := io.ReadFull(image, block)
		if errors.Is(err, io.EOF) {
			return found, offset, hex.EncodeToString(whole.Sum(nil)), nil
		}
		if err != nil {
			return nil, 0, "", fmt.Errorf("the image is not a whole number of blocks: %w", err)
		}
		_, _ = whole.Write(block) // a hash never fails
		at := known[sha256.Sum256(block)]
		switch {
		case at.file == "":
		case at.file == last.file && at.block == last.block+1 && len(found) > 0:
			found[len(found)-1].Length += blockBytes
		default:
			found = append(found, place{File: at.file, Offset: offset, Length: blockBytes})
		}
		last = at
		offset += blockBytes
	}
}

// pick chooses the longest places, orders them by offset and adds the hash of what lies there.
func pick(image io.ReaderAt, found []place) ([]place, error) {
	slices.SortStableFunc(found, func(a, b place) int { return cmp.Compare(b.Length, a.Length) })
	found = found[:min(len(found), changesMax)]
	slices.SortFunc(found, func(a, b place) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := range found {
		content := make([]byte, found[i].Length)
		if _, err := image.ReadAt(content, found[i].Offset); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		found[i].SHA256 = hex.EncodeToString(sum[:])
	}
	return found, nil
}

// writePrototype prints a mkfs.xfs prototype file that copies a directory tree. Names must hold no blanks.
func writePrototype(out io.Writer, directory string) error {
	var b strings.Builder
	b.WriteString("-\n0 0\nd--755 0 0\n")
	if err := prototypeOf(&b, directory, 1); err != nil {
		return err
	}
	b.WriteString("$\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// prototypeOf writes the entries of one directory.
func prototypeOf(b *strings.Builder, directory string, depth int) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	indent := strings.Repeat(" ", depth)
	for _, entry := range entries {
		name := filepath.Join(directory, entry.Name())
		if strings.ContainsAny(name, " \t") {
			return fmt.Errorf("%q holds a blank, which a prototype file cannot say", name)
		}
		if !entry.IsDir() {
			fmt.Fprintf(b, "%s%s ---644 0 0 %s\n", indent, entry.Name(), name)
			continue
		}
		fmt.Fprintf(b, "%s%s d--755 0 0\n", indent, entry.Name())
		if err := prototypeOf(b, name, depth+1); err != nil {
			return err
		}
		fmt.Fprintf(b, "%s$\n", indent)
	}
	return nil
}
