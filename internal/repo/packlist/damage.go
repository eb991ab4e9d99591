package packlist

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// DamageLabel begins a damage list.
const DamageLabel = "holdfast damage list 1"

// Damage is what is known to be damaged (doc/format.md §10). The zero value says: nothing.
type Damage struct {
	Repository keys.RepositoryID
	Session    holdfast.SessionID        // of the proof; only its entry names the list first
	Lost       map[string]bool           // objects that visible points need
	Spare      map[string][]string       // damaged objects that nothing needs any more, and the packs that hold what was needed
	Hit        map[holdfast.PointID]bool // damaged restore points
}

// Empty reports whether there is nothing to say.
func (d Damage) Empty() bool { return len(d.Lost) == 0 && len(d.Spare) == 0 && len(d.Hit) == 0 }

// Names returns the objects that nothing is to be taken from, whether they are needed or not.
func (d Damage) Names() map[string]bool {
	names := map[string]bool{}
	for name := range d.Lost {
		names[name] = true
	}
	for name := range d.Spare {
		names[name] = true
	}
	return names
}

// Encode returns the list's bytes: equal damage encodes equally.
func (d Damage) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nsession %s\n", DamageLabel, d.Repository, d.Session)
	for _, name := range sortedKeys(d.Lost) {
		fmt.Fprintf(&b, "lost %s\n", name)
	}
	for _, name := range sortedKeys(d.Spare) {
		fmt.Fprintf(&b, "spare %s\n", name)
		for _, by := range slices.Sorted(slices.Values(d.Spare[name])) {
			fmt.Fprintf(&b, "by %s\n", by)
		}
	}
	for _, id := range sortedKeys(d.Hit) {
		fmt.Fprintf(&b, "hit %s\n", id)
	}
	return b.Bytes()
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// ParseDamage reads a damage list. Anything malformed is KindCorrupt.
func ParseDamage(data []byte) (Damage, error) {
	d := Damage{Lost: map[string]bool{}, Spare: map[string][]string{}, Hit: map[holdfast.PointID]bool{}}
	head, lines, err := header(data, DamageLabel)
	if err != nil {
		return Damage{}, err
	}
	d.Repository, d.Session = head.Repository, head.Session
	spare := "" // that by lines belong to
	for _, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		kind, _ := layout.Parse(rest)
		switch {
		case word == "lost" && kind != layout.Foreign:
			d.Lost[rest] = true
		case word == "spare" && kind != layout.Foreign:
			d.Spare[rest], spare = nil, rest
			continue
		case word == "by" && spare != "" && (kind == layout.DataPack || kind == layout.TreePack):
			d.Spare[spare] = append(d.Spare[spare], rest)
			continue
		case word == "hit" && rest != "":
			d.Hit[holdfast.PointID(rest)] = true
		default:
			return Damage{}, malformed("a damage list", line)
		}
		spare = ""
	}
	return d, nil
}

// Damage reads the damage list in force; name is "" when there is none, which is no damage.
func (s Source) Damage(ctx context.Context, name string) (Damage, error) {
	if name == "" {
		return Damage{}, nil
	}
	data, err := s(ctx, name)
	if err != nil {
		return Damage{}, err
	}
	return ParseDamage(data)
}
