package layout_test

import (
	"math"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Every name that is written is parsed back to its kind and hash, and is a name that every store takes.
func TestName_ParsesBack(t *testing.T) {
	hash := layout.Sum([]byte("x"))
	for _, kind := range []layout.Kind{layout.KeyObject, layout.State, layout.DataPack, layout.TreePack, layout.IndexRun, layout.Manifest, layout.List} {
		name := layout.Name(kind, hash)
		if got, gotHash := layout.Parse(name); got != kind || gotHash != hash {
			t.Errorf("%s parses as %v", name, got)
		}
		if err := blob.CheckName(name); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(name, layout.Prefix(kind)) {
			t.Errorf("%s does not begin with %s", name, layout.Prefix(kind))
		}
		if kind.BytesMax() <= 0 || kind.String() == "" {
			t.Errorf("%v has no limit or no word", kind)
		}
	}
	for _, n := range []uint64{0, 1, 12345, math.MaxUint64} {
		name := layout.EntryName(n)
		if kind, _ := layout.Parse(name); kind != layout.LogEntry {
			t.Errorf("%s parses as %v", name, kind)
		}
		if got, err := layout.ParseEntryName(name); err != nil || got != n {
			t.Errorf("%s is number %d, %v", name, got, err)
		}
	}
}

// Names that the format does not know are foreign, down to the last digit.
func TestParse_Foreign(t *testing.T) {
	digits := layout.Sum([]byte("x")).String()
	for _, name := range []string{
		"", "log", "log/", "log/1", "log/0000000000000000000x", "log/+0000000000000000001", "log/99999999999999999999", "log/000000000000000000001",
		"keys/" + digits[:63], "keys/" + digits + "0", "keys/" + strings.ToUpper(digits), "keys/" + digits[:62] + "zz", "keys", "key/" + digits, digits,
		"data/" + digits, "data/" + digits[:2] + digits, "data/00/" + digits, "data/" + digits[:2] + "/" + digits[2:], "tree/" + digits[:2] + "/", "tree/x",
		"points/" + digits[:2] + "/" + digits, "lists//" + digits, "state/" + digits + "/", "index/ " + digits[1:], "readme.txt",
	} {
		if kind, _ := layout.Parse(name); kind != layout.Foreign {
			t.Errorf("%q parses as %v", name, kind)
		}
	}
}

// Parameters in range pass, others are refused with the field named.
func TestParameters_Validate(t *testing.T) {
	d := layout.DefaultParameters()
	for _, good := range []layout.Parameters{
		d, {}, {ChunkSize: 64 << 10, FrameSize: 4 << 20, FanOut: 8}, {ChunkSize: 4 << 20}, {FanOut: layout.FanOutMax}, {ChunkSize: 64 << 10, FrameSize: 192 << 10},
	} {
		if err := good.OrDefault().Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []struct {
		p     layout.Parameters
		field string
	}{
		{layout.Parameters{ChunkSize: 32 << 10}, "chunkSize"},
		{layout.Parameters{ChunkSize: 8 << 20}, "chunkSize"},
		{layout.Parameters{ChunkSize: 100_000}, "chunkSize"},
		{layout.Parameters{ChunkSize: -65536}, "chunkSize"},
		{layout.Parameters{FrameSize: 64 << 10}, "frameSize"},
		{layout.Parameters{FrameSize: 8 << 20}, "frameSize"},
		{layout.Parameters{FrameSize: 200 << 10}, "frameSize"},
		{layout.Parameters{FanOut: 12}, "fanOut"},
		{layout.Parameters{FanOut: layout.FanOutMax + 8}, "fanOut"},
		{layout.Parameters{FanOut: -8}, "fanOut"},
	} {
		err := bad.p.OrDefault().Validate()
		e, ok := err.(*holdfast.Error) //nolint:errorlint // it is made here
		if !ok || e.Kind != holdfast.KindInvalid || e.Field != bad.field {
			t.Errorf("%+v: %v", bad.p, err)
		}
	}
}
