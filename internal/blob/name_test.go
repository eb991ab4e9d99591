package blob_test

import (
	"strings"
	"testing"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Names that could leave the store, meet a temporary file or differ in case alone are refused; ours are not.
func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "packs/ab/0123", "log/00000001.entry", "-x/--", "a.b-c_d", strings.Repeat("x", blob.SegmentBytesMax)} {
		if err := blob.CheckName(good); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", ".tmp-1", "a.", "a/.b", "A", "a b", "a\\b", "ä", "a\x00",
		strings.Repeat("x", blob.SegmentBytesMax+1), strings.Repeat("x/", blob.NameBytesMax/2) + "x",
	} {
		if err := blob.CheckName(bad); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%q is accepted: %v", bad, err)
		}
	}
}
