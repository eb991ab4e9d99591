// Package images holds the disks that `holdfast demo` protects: three small disk images with a partition table and a real
// filesystem each, compressed into the binary.
//
// It promises that Open gives exactly the bytes whose SHA-256 is in Image, and that every Place lies inside the content of
// one file, so that whoever writes there changes that file and nothing of the filesystem's own. It must never be used for
// anything but the demo and tests. scripts/make-demo-images.sh makes the images and the JSON beside them.
package images

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	holdfast "github.com/holdfast-backup/holdfast"
)

// Image is one disk.
type Image struct {
	Name       string  `json:"name"`
	Filesystem string  `json:"filesystem"` // ext4, ntfs or xfs
	RawBytes   int64   `json:"rawBytes"`   // size of the disk
	SHA256     string  `json:"sha256"`     // of the whole disk, in hex
	Files      int     `json:"files"`
	FileBytes  int64   `json:"fileBytes"` // of all files together
	Places     []Place `json:"places"`    // by offset, not overlapping
}

// Place is a run of whole 4 KiB blocks of the disk that holds a part of one file and nothing else.
type Place struct {
	File   string `json:"file"`   // slash-separated, from the root of the filesystem
	Offset int64  `json:"offset"` // in the disk
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"` // of the bytes that lie there in the image, in hex
}

//go:embed *.json *.img.zst
var content embed.FS

// All returns the images in a fixed order: web (ext4), office (NTFS), orders (XFS). The caller owns what it gets.
func All() []Image {
	names := []string{"web", "office", "orders"}
	all := make([]Image, 0, len(names))
	for _, name := range names {
		text, err := content.ReadFile(name + ".json")
		holdfast.Invariant(err == nil, "the demo image %s has no description: %v", name, err)
		var image Image
		err = json.Unmarshal(text, &image)
		holdfast.Invariant(err == nil, "the description of the demo image %s cannot be read: %v", name, err)
		all = append(all, image)
	}
	return all
}

// Open returns the raw bytes of an image from the start. The last read fails when they are not the bytes that the image's
// SHA-256 stands for. An unknown name is KindNotFound. The caller closes what it gets.
func Open(name string) (io.ReadCloser, error) {
	for _, image := range All() {
		if image.Name == name {
			return open(image)
		}
	}
	return nil, holdfast.Errorf(holdfast.KindNotFound, "there is no demo image called %q", name)
}

func open(image Image) (io.ReadCloser, error) {
	compressed, err := content.ReadFile(image.Name + ".img.zst")
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the demo image %s is not in this program", image.Name)
	}
	// One decoder at a time and a window of 128 MiB at most, as the script compresses with.
	decoder, err := zstd.NewReader(bytes.NewReader(compressed), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27))
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the demo image %s cannot be opened", image.Name)
	}
	return &reader{raw: decoder.IOReadCloser(), image: image, sum: sha256.New()}, nil
}

// reader hands on the raw bytes and compares their hash when they end.
type reader struct {
	raw   io.ReadCloser
	image Image
	sum   hash.Hash // of the bytes handed on so far
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.raw.Read(p)
	_, _ = r.sum.Write(p[:n]) // a hash never fails
	if errors.Is(err, io.EOF) {
		if sum := hex.EncodeToString(r.sum.Sum(nil)); sum != r.image.SHA256 {
			return n, holdfast.Errorf(holdfast.KindCorrupt, "the demo image %s has the SHA-256 %s, not %s", r.image.Name, sum, r.image.SHA256)
		}
		return n, io.EOF
	}
	if err != nil {
		return n, holdfast.Wrap(holdfast.KindCorrupt, err, "the demo image %s cannot be decompressed", r.image.Name)
	}
	return n, nil
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.raw.Close() }
