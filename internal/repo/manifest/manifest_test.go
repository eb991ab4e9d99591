package manifest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// No JSON in a manifest makes reading its disks panic, and sizes out of bounds do not get through.
func FuzzParse(f *testing.F) {
	top, err := json.Marshal(topPlace{ID: strings.Repeat("ab", 32), Pack: layout.Name(layout.TreePack, layout.Hash{}), Offset: 64, Stored: 100})
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(holdfast.Point{ID: "p", Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: 1 << 30, Top: top}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"disks":[{"sizeBytes":9223372036854775807,"top":{"id":"","pack":"x"}}]}`))
	f.Add([]byte(`{"disks":[{"sizeBytes":-5,"top":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		point, err := Parse(data)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) && !holdfast.IsKind(err, holdfast.KindInvalid) {
				t.Error(err)
			}
			return
		}
		for _, disk := range point.Disks {
			if disk.SizeBytes < 0 || disk.SizeBytes > DiskBytesMax {
				t.Errorf("a disk of %d bytes", disk.SizeBytes)
			}
			if _, err := Top(disk); err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
		}
	})
}
