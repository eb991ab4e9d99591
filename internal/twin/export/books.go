package export

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// sasVersion is the signed version in the URLs, as the platform's disk SAS carry an old one.
const sasVersion = "2018-03-28"

// books is what the service remembers; the exported fields are what DIR/grants.json holds.
type books struct {
	path string

	Secret   []byte                  `json:"secret"` // signs the URLs
	Grants   map[string]Grant        `json:"grants"` // by ID
	Blobs    map[vdisk.ID]blobRecord `json:"blobs"`
	Families map[string]time.Time    `json:"families"` // when each was first seen: the time in its footers

	paths      map[string]vdisk.ID // the Blobs' paths
	pruneAbove int                 // number of Blobs above which those of deleted volumes are dropped
}

// blobRecord is what is kept of a volume that was ever granted.
type blobRecord struct {
	Path      string    `json:"path"`               // of the URL
	Family    string    `json:"family"`             // gives the footer's identity, so that it is equal throughout a family
	FirstSeen time.Time `json:"firstSeen"`          // a snapshot's Last-Modified
	Uploaded  []byte    `json:"uploaded,omitempty"` // the footer that an upload wrote

	written  time.Time // last write since the start
	revision uint64    // changes with each write
}

// blobRecordsMin is how many records are kept before the first pruning.
const blobRecordsMin = 256

func openBooks(dir string) (books, error) {
	b := books{
		path: filepath.Join(dir, "grants.json"), pruneAbove: blobRecordsMin,
		paths:  map[string]vdisk.ID{},
		Grants: map[string]Grant{}, Blobs: map[vdisk.ID]blobRecord{}, Families: map[string]time.Time{},
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return books{}, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot make the folder of the disk grants")
	}
	text, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		b.Secret = random(32)
		return b, b.save()
	}
	if err != nil {
		return books{}, holdfast.Wrap(holdfast.KindUnavailable, err, "cannot read the disk grants")
	}
	if err := json.Unmarshal(text, &b); err != nil || len(b.Secret) == 0 {
		return books{}, holdfast.Wrap(holdfast.KindCorrupt, err, "the file of disk grants %s is damaged", b.path)
	}
	for id, record := range b.Blobs {
		b.paths[record.Path] = id
	}
	return b, nil
}

func random(length int) []byte {
	b := make([]byte, length)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

func (b *books) save() error {
	text, err := json.Marshal(b)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "cannot encode the disk grants")
	}
	fresh := b.path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot write the disk grants")
	}
	if err := os.Rename(fresh, b.path); err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "cannot replace the disk grants")
	}
	return nil
}

func (b *books) dropExpired(now time.Time) {
	for id, g := range b.Grants {
		if !g.activeAt(now) {
			delete(b.Grants, id)
		}
	}
}

// same returns a grant that differs from g only in its ID and end.
func (b *books) same(g Grant) (Grant, bool) {
	for _, held := range b.Grants {
		g.ID, g.Expires = held.ID, held.Expires
		if held == g {
			return held, true
		}
	}
	return Grant{}, false
}

// othersOfFamily counts the other resources of g's family that have a grant.
func (b *books) othersOfFamily(g Grant) int {
	others := map[string]bool{}
	for _, held := range b.Grants {
		if held.Family == g.Family && held.Resource != g.Resource {
			others[held.Resource] = true
		}
	}
	return len(others)
}

// recordOf returns what is kept of g's volume, beginning with it now when it is new.
func (b *books) recordOf(g Grant, now time.Time, volumes *vdisk.Store) (blobRecord, error) {
	if record, known := b.Blobs[g.Volume]; known {
		return record, nil
	}
	volume, err := volumes.Stat(g.Volume)
	if err != nil {
		return blobRecord{}, err
	}
	b.prune(volumes)
	if _, known := b.Families[volume.Family]; !known {
		b.Families[volume.Family] = now.Round(0)
	}
	name := base32.StdEncoding.WithPadding(base32.NoPadding)
	record := blobRecord{
		Path:      "/md-" + strings.ToLower(name.EncodeToString(random(8))) + "/" + strings.ToLower(name.EncodeToString(random(8))) + "/abcd",
		Family:    volume.Family,
		FirstSeen: now.Round(0),
	}
	b.Blobs[g.Volume] = record
	b.paths[record.Path] = g.Volume
	return record, nil
}

// prune forgets deleted volumes when many records have gathered.
func (b *books) prune(volumes *vdisk.Store) {
	if len(b.Blobs) < b.pruneAbove {
		return
	}
	families := map[string]time.Time{}
	for id, record := range b.Blobs {
		if _, err := volumes.Stat(id); holdfast.IsKind(err, holdfast.KindNotFound) {
			delete(b.Blobs, id)
			delete(b.paths, record.Path)
			continue
		}
		families[record.Family] = b.Families[record.Family]
	}
	b.Families = families
	b.pruneAbove = max(2*len(b.Blobs), blobRecordsMin)
}

// sign returns the query of a SAS URL.
func (b *books) sign(path, grantID string) string {
	signature := base64.StdEncoding.EncodeToString(b.signature(path, grantID))
	return "sv=" + sasVersion + "&sr=b&si=" + grantID + "&sig=" + url.QueryEscape(signature)
}

func (b *books) signature(path, grantID string) []byte {
	mac := hmac.New(sha256.New, b.Secret)
	mac.Write([]byte(strings.Join([]string{path, sasVersion, "b", grantID}, "\n")))
	return mac.Sum(nil)
}

// signed returns the grant that a SAS URL's path and query were signed for, when it is active.
func (b *books) signed(path string, query url.Values, now time.Time) (Grant, bool) {
	signature, err := base64.StdEncoding.DecodeString(query.Get("sig"))
	id := query.Get("si")
	if err != nil || query.Get("sv") != sasVersion || query.Get("sr") != "b" || !hmac.Equal(signature, b.signature(path, id)) {
		return Grant{}, false
	}
	g, known := b.Grants[id]
	return g, known && g.activeAt(now) && b.Blobs[g.Volume].Path == path
}
