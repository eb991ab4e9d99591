package blobtest

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Test runs the suite against the store as subtests; a check that is skipped fails the test unless its name is in
// mayStayOut, so that nothing falls silent.
func Test(t *testing.T, store blob.Store, opts Options, mayStayOut ...string) {
	t.Helper()
	expected := map[string]bool{}
	for _, name := range mayStayOut {
		expected[name] = true
	}
	checks, err := Run(t.Context(), store, opts)
	if err != nil {
		t.Fatalf("suite: %v", err)
	}
	for _, c := range checks {
		t.Run(c.Name, func(t *testing.T) {
			switch {
			case c.Outcome == Failed:
				t.Errorf("%s: %s", c.Rule, c.Detail)
			case (c.Outcome == Skipped) != expected[c.Name]:
				t.Errorf("check is %s, which was not expected: %s", c.Outcome, c.Detail)
			}
		})
	}
}
