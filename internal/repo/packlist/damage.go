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
	Lost       map[string][]string       // objects that visible points need, and the packs that hold a part of what is needed of them
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

// Knows reports whether an object is among Names.
func (d Damage) Knows(name string) bool {
	_, lost := d.Lost[name]
	_, spare := d.Spare[name]
	return lost || spare
}

// Instead returns what a pack list stands for besides the packs that it names, given what is damaged.
func (d Damage) Instead(packs []string) []string {
	var others []string
	for _, name := range packs {
		others = append(others, d.Lost[name]...)
		others = append(others, d.Spare[name]...)
	}
	return others
}

// Encode returns the list's bytes: equal damage encodes equally.
func (d Damage) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nsession %s\n", DamageLabel, d.Repository, d.Session)
	for _, name := range sortedKeys(d.Lost) {
		writeDamaged(&b, "lost", name, d.Lost[name])
	}
	for _, name := range sortedKeys(d.Spare) {
		writeDamaged(&b, "spare", name, d.Spare[name])
	}
	for _, id := range sortedKeys(d.Hit) {
		fmt.Fprintf(&b, "hit %s\n", id)
	}
	return b.Bytes()
}

func writeDamaged(b *bytes.Buffer, word, name string, packs []string) {
	fmt.Fprintf(b, "%s %s\n", word, name)
	for _, by := range slices.Sorted(slices.Values(packs)) {
		fmt.Fprintf(b, "by %s\n", by)
	}
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
	d := Damage{Lost: map[string][]string{}, Spare: map[string][]string{}, Hit: map[holdfast.PointID]bool{}}
	head, lines, err := header(data, DamageLabel)
	if err != nil {
		return Damage{}, err
	}
	d.Repository, d.Session = head.Repository, head.Session
	var of map[string][]string // that by lines belong to, and
	last := ""                 // under which name
	for _, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		kind, _ := layout.Parse(rest)
		switch {
		case word == "lost" && kind != layout.Foreign:
			of, last = d.Lost, rest
			of[last] = nil
		case word == "spare" && kind != layout.Foreign:
			of, last = d.Spare, rest
			of[last] = nil
		case word == "by" && of != nil && (kind == layout.DataPack || kind == layout.TreePack):
			of[last] = append(of[last], rest)
		case word == "hit" && rest != "":
			d.Hit[holdfast.PointID(rest)] = true
			of = nil
		default:
			return Damage{}, malformed("a damage list", line)
		}
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
