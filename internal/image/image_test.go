package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const imageBytes = 5<<20 + 700

// A change list is all that is read, and the rest comes from the point it counts from: the new point holds the image as it is,
// also when ranges overlap, come in any order and end within a chunk.
func TestBackup_WithChangeList(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.img")
	content := noise(imageBytes, 1)
	write(t, file, content)
	r := repotest.Init(t, mem.New(clock.System{}))
	config := image.Config{Repository: r, Clock: clock.System{}, Name: "disk", File: file}
	first := backup(t, config)

	var lines strings.Builder
	lines.WriteString("# from a bitmap\n\n")
	for i, e := range []holdfast.Extent{{Offset: imageBytes - 300, Length: 300}, {Offset: 1 << 20, Length: 5000}, {Offset: 1<<20 + 4000, Length: 8000}} {
		copy(content[e.Offset:e.End()], noise(int(e.Length), uint64(10+i)))
		fmt.Fprintf(&lines, "%d %d  # written\n", e.Offset, e.Length)
	}
	write(t, file, content)
	config.Changes, config.Since = filepath.Join(dir, "changes"), first.Point
	write(t, config.Changes, []byte(lines.String()))
	second := backup(t, config)

	if got, want := second.ReadBytes, int64(r.Parameters().ChunkSize+700); got != want {
		t.Errorf("%d bytes were read, two chunks have %d", got, want)
	}
	if second.Disks[0].Full || second.Disks[0].Reason != "" {
		t.Errorf("the backup says that it read all: %+v", second.Disks[0])
	}
	point, err := r.OpenPoint(t.Context(), second.Point)
	if err != nil {
		t.Fatal(err)
	}
	if point.Point().Parent != first.Point {
		t.Errorf("the parent is %q", point.Point().Parent)
	}
	disk, err := point.Disk(holdfast.OSDisk)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, imageBytes)
	if _, err := disk.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the point does not hold the image: %v", err)
	}
}

// A list that cannot be right is refused, and nothing is published.
func TestBackup_RefusesChangeLists(t *testing.T) {
	dir := t.TempDir()
	file, other := filepath.Join(dir, "disk.img"), filepath.Join(dir, "other.img")
	write(t, file, noise(imageBytes, 1))
	write(t, other, noise(1<<20, 2))
	r := repotest.Init(t, mem.New(clock.System{}))
	config := image.Config{Repository: r, Clock: clock.System{}, Name: "disk", File: file}
	point := backup(t, config).Point
	foreign := backup(t, image.Config{Repository: r, Clock: clock.System{}, Name: "other", File: other}).Point

	for _, row := range []struct {
		list        string
		since       holdfast.PointID
		file        string
		kind        holdfast.Kind
		field, word string
	}{
		{"0", point, file, holdfast.KindInvalid, "changes", "changes:1:"},
		{"0 10\n0 ten", point, file, holdfast.KindInvalid, "changes", "changes:2:"},
		{"0 0", point, file, holdfast.KindInvalid, "changes", "range"},
		{"-1 5", point, file, holdfast.KindInvalid, "changes", "range"},
		{fmt.Sprint(imageBytes, " 1"), point, file, holdfast.KindInvalid, "changes", "range"},
		{"1 9223372036854775807", point, file, holdfast.KindInvalid, "changes", "range"},
		{"0 10", "", file, holdfast.KindInvalid, "changes", "--since"},
		{"0 10", "1999", file, holdfast.KindNotFound, "point", "1999"},
		{"0 10", foreign, file, holdfast.KindInvalid, "since", "other"},
		{"0 10", point, other, holdfast.KindInvalid, "since", "bytes"},
	} {
		config.Changes, config.Since, config.File = filepath.Join(dir, "changes"), row.since, row.file
		write(t, config.Changes, []byte(row.list))
		_, err := image.Backup(t.Context(), config)
		var failure *holdfast.Error
		if !errors.As(err, &failure) || failure.Kind != row.kind || failure.Field != row.field || !strings.Contains(failure.Error()+failure.Hint, row.word) {
			t.Errorf("%q since %q: %#v", row.list, row.since, err)
		}
	}
	if points, err := r.Points(); err != nil || len(points) != 2 {
		t.Errorf("%d points are visible: %v", len(points), err)
	}
}

func backup(t *testing.T, c image.Config) holdfast.BackupResult {
	t.Helper()
	result, err := image.Backup(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func noise(n int, seed uint64) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(p) // never fails
	return p
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each call of a backup fails after its effect in turn. Whether the backup says that it failed or not is what holds: when it says so there
// is no new restore point, and else there is one, whole, and what could not be put in order afterwards is a warning.
func TestBackup_SaysWhatHolds(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.img")
	content := noise(300<<10, 1)
	write(t, file, content)
	for _, mode := range []wrap.Mode{wrap.Fail, wrap.FailAfterEffect, wrap.DieAfterEffect} {
		for at := 1; ; at++ {
			store := mem.New(clock.System{})
			repotest.Init(t, store)
			faults := wrap.NewFaults(mode, at)
			r, err := repo.Open(t.Context(), wrap.Fault(store, faults), repo.OpenOptions{Password: repotest.Password, Clock: clock.System{}})
			if err == nil {
				_, err = image.Backup(t.Context(), image.Config{Repository: r, Clock: clock.System{}, Name: "disk", File: file})
			}
			points, listErr := repotest.Open(t, store).Points()
			if listErr != nil || err == nil && len(points) != 1 || err != nil && len(points) != 0 && mode != wrap.DieAfterEffect {
				t.Fatalf("%s at call %d: %v, and %d points, %v", mode, at, err, len(points), listErr)
			}
			if !faults.Fired() {
				break
			}
		}
	}
}
