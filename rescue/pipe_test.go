//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipes proves that a pipe which somebody put in the place of an object, or where the log goes on, keeps nobody waiting: it is damage
// like any other, and what does not need that object is brought back.
func TestPipes(t *testing.T) {
	g := goldenNamed(t, "v1")
	c := newCraft(t, g)
	for _, folder := range []string{"index", "state", "lists"} {
		names, err := filepath.Glob(filepath.Join(c.folder, folder, "*"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		if err := os.Remove(names[0]); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(names[0], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Join("log", "00000000000000009999"), filepath.Join("keys", "0000000000000000000000000000000000000000000000000000000000000000")} {
		if err := syscall.Mkfifo(filepath.Join(c.folder, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.whole(g, g.Password, 5)
}
