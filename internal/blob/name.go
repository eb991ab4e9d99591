package blob

import (
	"strings"

	holdfast "github.com/holdfast-backup/holdfast"
)

// Limits of names, chosen so that every store takes every valid name: a file system's longest file name is 255 bytes and
// Azure's longest blob name 1,024 characters, of which a folder takes its share.
const (
	NameBytesMax    = 512
	SegmentBytesMax = 200
)

// CheckName returns a KindInvalid error unless name can be an object's name in every store: segments of lower-case
// letters, digits, '.', '-' and '_', separated by single slashes, none of them empty and none beginning or ending with a
// dot. What is valid here is never a path out of the store, never a temporary file of package file, and the same name on
// file systems that ignore case. A name must not be a folder of another one (a and a/b): local folders refuse the second.
func CheckName(name string) error {
	if len(name) > NameBytesMax {
		return holdfast.Errorf(holdfast.KindInvalid, "object name of %d bytes is longer than %d", len(name), NameBytesMax)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if !validSegment(segment) {
			return holdfast.Errorf(holdfast.KindInvalid, "%q is not an object name", name).
				WithHint("use lower-case letters, digits, '.', '-' and '_' between single slashes; no part may begin or end with a dot")
		}
	}
	return nil
}

func validSegment(segment string) bool {
	if segment == "" || len(segment) > SegmentBytesMax || segment[0] == '.' || segment[len(segment)-1] == '.' {
		return false
	}
	for i := range len(segment) {
		c := segment[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
