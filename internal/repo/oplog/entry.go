// Package oplog is the numbered, authenticated log of a repository: the one place where order is decided
// (doc/format.md §6).
//
// Entries are read by direct reads and appended with put-if-absent, so whoever appends entry n has read all entries before
// it. Fold turns entries into a State; it works without a key, which only checks who wrote them. Nothing rests on clocks or
// listings.
package oplog

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/ledger"
)

// Kind is the kind of an entry.
type Kind string

// The kinds of entry; doc/format.md §6.3 says what each means and when it is allowed.
const (
	Genesis    Kind = "genesis"
	Keys       Kind = "keys"
	Owner      Kind = "owner"
	Begin      Kind = "begin"
	Publish    Kind = "publish"
	Abandon    Kind = "abandon"
	Settle     Kind = "settle"
	Remove     Kind = "remove"
	Annotate   Kind = "annotate"
	Index      Kind = "index"
	Condemn    Kind = "condemn"
	Swept      Kind = "swept"
	Checkpoint Kind = "checkpoint"
	Proofs     Kind = "proof"
)

// Entry is one line of the log. Each kind uses the fields that the format page lists for it.
type Entry struct {
	Holdfast   int               `json:"holdfast"` // version of the entry's form
	N          uint64            `json:"n"`
	Repository keys.RepositoryID `json:"repository"`
	Previous   string            `json:"previous"`
	Time       time.Time         `json:"time"`
	Writer     string            `json:"writer"`
	Generation uint32            `json:"generation"`
	Checkpoint uint64            `json:"checkpoint"`
	Kind       Kind              `json:"kind"`

	Format  int      `json:"format,omitempty"`
	*Shape           // genesis
	Slots   []string `json:"slots,omitempty"`
	KeyRing string   `json:"keyRing,omitempty"`
	// LeastGeneration ends the use of older generations: entries after this one must have been written with it or a newer one.
	LeastGeneration uint32 `json:"leastGeneration,omitempty"`

	Owner string `json:"owner,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`

	Session  *holdfast.SessionID `json:"session,omitempty"`
	Subject  string              `json:"subject,omitempty"`
	Parents  []holdfast.PointID  `json:"parents,omitempty"`
	Point    holdfast.PointID    `json:"point,omitempty"`
	Points   []holdfast.PointID  `json:"points,omitempty"`
	Manifest string              `json:"manifest,omitempty"`
	List     string              `json:"list,omitempty"`
	Added    []string            `json:"added,omitempty"`
	Dropped  []string            `json:"dropped,omitempty"`
	About    []RunAbout          `json:"about,omitempty"` // of the runs in Added, in that order
	State    string              `json:"state,omitempty"`
	Sealed   []byte              `json:"sealed,omitempty"`

	Proof *Proof `json:"proof,omitempty"`

	// Private is what is to be sealed: Append makes Sealed of it with the generation that the entry gets. Never stored.
	Private []byte `json:"-"`

	LockUntil time.Time `json:"-"` // how long the entry has to be locked at birth; zero for not at all
}

// sealContext binds the private part to the point, where the entry has one, or to the session.
func (e Entry) sealContext() string {
	subject := string(e.Point)
	if subject == "" && e.Session != nil {
		subject = e.Session.String()
	}
	return SealContext(e.Kind, subject)
}

// Proof says what was read and found right, and what damage is known from now on (doc/format.md §6.6).
type Proof struct {
	Level    int            `json:"level"`
	Ranges   []ledger.Range `json:"ranges,omitempty"` // none: only what damage is known has changed
	Seen     uint64         `json:"seen"`             // number of the first entry that was not looked at
	Began    time.Time      `json:"began"`            // when reading began; for people and plans
	Objects  int64          `json:"objects"`
	Bytes    int64          `json:"bytes"`
	Requests int64          `json:"requests"`         // made to the store
	Damage   string         `json:"damage,omitempty"` // the damage list in force from this entry on; none when nothing is damaged
}

// Shape is the parameters' place in the genesis entry.
type Shape = layout.Parameters

// SealContext binds the sealed part of an entry to what it belongs to: its point where it has one, or its session.
func SealContext(kind Kind, subject string) string { return string(kind) + "|" + subject }

const entryVersion = 1

// encode returns the stored bytes of an entry.
func encode(e Entry, ring *keys.Ring) ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	mac, err := ring.LogMAC(e.Generation, line)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(line)
	fmt.Fprintf(&b, "\nmac %x\n", mac)
	sum := sha256.Sum256(b.Bytes())
	fmt.Fprintf(&b, "sum %x\n", sum)
	return b.Bytes(), nil
}

// parsed is an entry with what authenticates it.
type parsed struct {
	Entry
	line []byte
	mac  []byte
	hash string // of the stored bytes, in hex
}

// entryForm is what says whether an entry can be understood.
type entryForm struct {
	Holdfast int  `json:"holdfast"`
	Format   int  `json:"format"`
	Kind     Kind `json:"kind"`
}

const (
	macLineSize = len("mac ") + 2*sha256.Size + 1
	sumLineSize = len("sum ") + 2*sha256.Size + 1
)

// parse reads stored bytes as entry n. Everything that a flipped bit could change is KindCorrupt; an entry of a newer
// version is KindInvalid, and comes with what authenticates it.
func parse(stored []byte, n uint64) (parsed, error) {
	line, mac, err := split(stored)
	if err != nil {
		return parsed{}, holdfast.Errorf(holdfast.KindCorrupt, "log entry %d %v", n, err)
	}
	p := parsed{line: line, mac: mac, hash: layout.Hash(sha256.Sum256(stored)).String()}
	unreadable := json.Unmarshal(line, &p.Entry)
	version := entryForm{p.Holdfast, p.Format, p.Kind}
	if unreadable != nil { // a newer version may give fields other types
		if err := json.Unmarshal(line, &version); err != nil {
			return parsed{}, holdfast.Errorf(holdfast.KindCorrupt, "log entry %d is not JSON", n)
		}
	}
	if version.Holdfast != entryVersion || version.Format > layout.FormatVersion || !known(version.Kind) {
		p.N = n
		return p, newer(n, version.Kind)
	}
	if unreadable != nil {
		return parsed{}, holdfast.Errorf(holdfast.KindCorrupt, "log entry %d: %v", n, unreadable)
	}
	if p.N != n {
		return parsed{}, holdfast.Errorf(holdfast.KindCorrupt, "log entry %d says that it is number %d", n, p.N)
	}
	return p, nil
}

// Check returns an error unless stored bytes prove themselves as entry n.
func Check(stored []byte, n uint64) error {
	_, err := parse(stored, n)
	return err
}

// ProvesItself returns an error unless stored bytes have the form, number and checksum of entry n. One of a newer version has
// them too.
func ProvesItself(stored []byte, n uint64) error {
	err := Check(stored, n)
	if holdfast.IsKind(err, holdfast.KindInvalid) {
		return nil
	}
	return err
}

func newer(n uint64, kind Kind) error {
	return holdfast.Errorf(holdfast.KindInvalid, "log entry %d (%q) was written by a newer version of Holdfast", n, kind).
		WithHint("open the repository with a version that knows its format; this one knows format %d", layout.FormatVersion)
}

// split checks the form and the checksum of an entry's three lines.
func split(stored []byte) (line, mac []byte, err error) {
	end := len(stored) - macLineSize - sumLineSize
	if end < 2 || stored[end-1] != '\n' || bytes.IndexByte(stored[:end-1], '\n') >= 0 {
		return nil, nil, fmt.Errorf("does not have the form of an entry")
	}
	macLine, sumLine := stored[end:end+macLineSize], stored[end+macLineSize:]
	mac, macErr := unhex(macLine, "mac ")
	sum, sumErr := unhex(sumLine, "sum ")
	if macErr != nil || sumErr != nil {
		return nil, nil, fmt.Errorf("does not have the form of an entry")
	}
	if want := sha256.Sum256(stored[:end+macLineSize]); !bytes.Equal(want[:], sum) {
		return nil, nil, fmt.Errorf("does not match its checksum")
	}
	return stored[:end-1], mac, nil
}

// unhex reads "LABEL <64 lower-case hex digits>\n".
func unhex(line []byte, label string) ([]byte, error) {
	digits, ok := bytes.CutPrefix(line, []byte(label))
	if !ok || len(digits) != 2*sha256.Size+1 || digits[2*sha256.Size] != '\n' || !bytes.Equal(bytes.ToLower(digits), digits) {
		return nil, fmt.Errorf("malformed")
	}
	value := make([]byte, sha256.Size)
	_, err := hex.Decode(value, digits[:2*sha256.Size])
	return value, err
}

func known(k Kind) bool {
	switch k {
	case Genesis, Keys, Owner, Begin, Publish, Abandon, Settle, Remove, Annotate, Index, Condemn, Swept, Checkpoint, Proofs:
		return true
	}
	return false
}

// parseWith is parse for who may have a key: an entry that was not written with it is KindCorrupt, also where it says that it
// is of a newer version.
func parseWith(ring *keys.Ring, stored []byte, n uint64) (parsed, error) {
	p, err := parse(stored, n)
	if ring == nil || err != nil && !holdfast.IsKind(err, holdfast.KindInvalid) {
		return p, err
	}
	if strange := p.authenticate(ring); strange != nil {
		return p, strange
	}
	return p, err
}

// IsStrange reports whether bytes have the form and checksum of entry n and were not written with the key: no accident makes
// such bytes.
func IsStrange(ring *keys.Ring, stored []byte, n uint64) bool {
	_, formErr := parse(stored, n)
	_, err := parseWith(ring, stored, n)
	return (formErr == nil || holdfast.IsKind(formErr, holdfast.KindInvalid)) && holdfast.IsKind(err, holdfast.KindCorrupt)
}

// authenticate checks an entry's MAC.
func (p parsed) authenticate(ring *keys.Ring) error {
	want, err := ring.LogMAC(p.Generation, p.line)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, p.mac) {
		return holdfast.Errorf(holdfast.KindCorrupt, "log entry %d was not written with this repository's key", p.N)
	}
	return nil
}
