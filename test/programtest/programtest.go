// Package programtest is what tests of the built program have in common: the program itself, and files that must hold the same.
package programtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/sparse"
)

// Main builds the program, runs the tests of a package with its path, and ends the process.
func Main(m *testing.M, program *string) {
	folder, err := os.MkdirTemp("", "holdfast-test-")
	if err == nil {
		*program = filepath.Join(folder, "holdfast")
		build := exec.Command("go", "build", "-o", *program, "../../cmd/holdfast") //nolint:gosec // a path that was made here
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the program cannot be built:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// Must ends a test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// MustBeEqual compares two sparse files byte for byte.
func MustBeEqual(t testing.TB, got, want string) {
	t.Helper()
	a, err := os.Open(got)
	Must(t, err)
	defer a.Close()
	b, err := os.Open(want)
	Must(t, err)
	defer b.Close()
	sizeA, err := a.Seek(0, io.SeekEnd)
	Must(t, err)
	sizeB, err := b.Seek(0, io.SeekEnd)
	Must(t, err)
	if sizeA != sizeB {
		t.Fatalf("%s has %d bytes, %s has %d", got, sizeA, want, sizeB)
	}
	for _, f := range []*os.File{a, b} { // where neither has data, both read as zeros
		for e, err := range sparse.Extents(f, sizeA) {
			Must(t, err)
			x, y := make([]byte, e.Length), make([]byte, e.Length)
			_, errA := a.ReadAt(x, e.Offset)
			_, errB := b.ReadAt(y, e.Offset)
			Must(t, errors.Join(errA, errB))
			if !bytes.Equal(x, y) {
				t.Fatalf("%s and %s differ between %d and %d", got, want, e.Offset, e.End())
			}
		}
	}
}
