package packlist_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
)

func damage() packlist.Damage {
	pack := func(text string) string { return layout.Name(layout.DataPack, layout.Sum([]byte(text))) }
	return packlist.Damage{
		Repository: keys.RepositoryID{1, 2},
		Lost:       map[string][]string{pack("a"): {pack("c")}, layout.EntryName(7): nil},
		Spare:      map[string][]string{pack("b"): {pack("c"), pack("d")}, pack("e"): nil},
		Hit:        map[holdfast.PointID]bool{"20260301-120000-00000001": true},
	}
}

// What is written is read again, and equal damage has equal bytes.
func TestDamage_RoundTrip(t *testing.T) {
	want := damage().Encode()
	d, err := packlist.ParseDamage(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Encode(); !bytes.Equal(got, want) {
		t.Errorf("%s\nbecame\n%s", want, got)
	}
	if others := d.Instead(slices.Sorted(maps.Keys(d.Names()))); len(others) != 3 {
		t.Errorf("instead: %v", others)
	}
	if d.Empty() || len(d.Names()) != 4 {
		t.Errorf("names %v", d.Names())
	}
	if !(packlist.Damage{}).Empty() {
		t.Error("the zero value is not empty")
	}
}

// A list that is not exactly of the form is damage, never half understood.
func TestDamage_Malformed(t *testing.T) {
	good := string(damage().Encode())
	for _, text := range []string{
		"", "\n", good[:len(good)-1], good + "\n", good + "lost nothing\n", good + "by " + layout.Name(layout.DataPack, layout.Hash{}) + "\n",
		strings.Replace(good, "damage list 1", "damage list 2", 1), strings.Replace(good, "repository ", "repository x", 1), good + "hit \n", good + "what\n",
	} {
		if _, err := packlist.ParseDamage([]byte(text)); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever bytes come, parsing ends without a panic, and what is taken is written the same way.
func FuzzParseDamage(f *testing.F) {
	f.Add(damage().Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := packlist.ParseDamage(data)
		if err != nil {
			return
		}
		again, err := packlist.ParseDamage(d.Encode())
		if err != nil || !bytes.Equal(again.Encode(), d.Encode()) {
			t.Errorf("%q: %v", data, err)
		}
	})
}
