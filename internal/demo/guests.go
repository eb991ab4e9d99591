package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/demo/images"
	"github.com/holdfast-backup/holdfast/internal/sparse"
)

// filesChanged is how many files each guest overwrites between the two rounds.
const filesChanged = 6

// change lets the guests overwrite files in place, inside their real filesystems.
func (s *story) change(ctx context.Context) error {
	stamp := s.c.Clock.Now().UTC().UnixNano() // other bytes at every run of the demo
	written, files := int64(0), 0
	for _, m := range Machines() {
		for _, d := range m.Disks {
			for _, place := range placesOf(d.Image) {
				content := noise(stamp, d.Name, place.File, place.Length)
				if err := s.c.Guests.Write(ctx, string(d.ID()), place.Offset, bytes.NewReader(content), place.Length); err != nil {
					return err
				}
				written, files = written+place.Length, files+1
			}
		}
	}
	s.c.Say("The guests go on working: they overwrite %d files, %s in all.", files, megabytes(written))
	return nil
}

// placesOf returns where the first files of an image lie.
func placesOf(name string) []images.Place {
	for _, i := range images.All() {
		if i.Name == name {
			return i.Places[:min(filesChanged, len(i.Places))]
		}
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// noise makes bytes that look like a log file: text that compresses, different for each run, disk and file.
func noise(stamp int64, disk, file string, length int64) []byte {
	seed := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", stamp, disk, file))
	state := binary.BigEndian.Uint64(seed[:])
	content := make([]byte, 0, length+128)
	for int64(len(content)) < length {
		state = state*6364136223846793005 + 1442695040888963407
		content = fmt.Appendf(content, "%016x %s request served in %d ms\n", state, file, state>>54)
	}
	return content[:length]
}

// compare reads the disks of the source and of the restored machine out of the twin and compares every byte. The guests
// have been quiet since the second round.
func (s *story) compare(ctx context.Context) error {
	folder, err := os.MkdirTemp(s.c.Folder, "compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	s.report.Restore.Equal = true
	for _, m := range Machines() {
		if m.Name != RestoredFrom {
			continue
		}
		for i, d := range m.Disks {
			restored := s.report.Restore.Disks[i]
			n, equal, err := s.compareDisk(ctx, folder, d.ID(), restored.ID)
			if err != nil {
				return err
			}
			s.report.Restore.ComparedBytes += n
			s.report.Restore.Equal = s.report.Restore.Equal && equal
		}
	}
	return nil
}

func (s *story) compareDisk(ctx context.Context, folder string, source, restored holdfast.ResourceID) (int64, bool, error) {
	a, b := filepath.Join(folder, "source.img"), filepath.Join(folder, "restored.img")
	size, err := s.c.Guests.ReadFile(ctx, string(source), a)
	if err != nil {
		return 0, false, err
	}
	other, err := s.c.Guests.ReadFile(ctx, string(restored), b)
	if err != nil {
		return 0, false, err
	}
	if size != other {
		return 0, false, nil
	}
	equal, err := sameContent(a, b, size)
	return size, equal, err
}

// sameContent compares two sparse files. Where neither has data both read as zeros, so only data is compared.
func sameContent(a, b string, size int64) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	fb, err := os.Open(b)
	if err != nil {
		return false, errors.Join(err, fa.Close())
	}
	equal := true
	for _, f := range []*os.File{fa, fb} {
		for e, extentErr := range sparse.Extents(f, size) {
			if extentErr != nil || !equal {
				err = extentErr
				break
			}
			if equal, err = sameRange(fa, fb, e); err != nil {
				break
			}
		}
	}
	return equal && err == nil, errors.Join(err, fa.Close(), fb.Close())
}

func sameRange(a, b io.ReaderAt, e holdfast.Extent) (bool, error) {
	const step = 1 << 20
	x, y := make([]byte, step), make([]byte, step)
	for offset := e.Offset; offset < e.End(); offset += step {
		n := min(step, e.End()-offset)
		if _, err := a.ReadAt(x[:n], offset); err != nil {
			return false, err
		}
		if _, err := b.ReadAt(y[:n], offset); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}
