package flows

import (
	"context"
	"testing"
)

// TestGates lets two of three through to a repository that takes two, the third once one has left, and everybody where there is no limit or another
// repository.
func TestGates(t *testing.T) {
	g := &gates{}
	closed, end := context.WithCancel(t.Context())
	end()
	first, err := g.enter(t.Context(), "hot", 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.enter(t.Context(), "hot", 2); err != nil {
		t.Fatal(err)
	}
	if _, err := g.enter(closed, "hot", 2); err == nil {
		t.Error("a third one went through")
	}
	if _, err := g.enter(t.Context(), "cold", 1); err != nil {
		t.Error("another repository waits")
	}
	if _, err := g.enter(t.Context(), "hot", 0); err != nil {
		t.Error("no limit waits")
	}
	first()
	if _, err := g.enter(t.Context(), "hot", 2); err != nil {
		t.Error("a place that was given back is not free")
	}
}
