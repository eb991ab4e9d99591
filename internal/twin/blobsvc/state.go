package blobsvc

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/access"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/lease"
)

// account is a storage account with its containers. The record is replaced as a whole.
type account struct {
	access.Account
	containers map[string]*container
}

// container is a container with its blobs in byte order of names.
type container struct {
	*containerRecord
	blobs *btree.Map[string, *blobRecord]
}

type containerRecord struct {
	VersionImmutability bool              `json:"versionImmutability,omitempty"`
	Stamp               int64             `json:"stamp"` // of the last change
	Metadata            map[string]string `json:"metadata,omitempty"`
	Lease               lease.Lease       `json:"lease,omitzero"`
}

// blobRecord is everything about one blob name. Records and the versions in them are never changed once they are in the
// state: a handler clones, changes the clone, and saves it.
type blobRecord struct {
	Versions []*version  `json:"versions,omitempty"` // oldest first; a container without versions has at most one
	Current  bool        `json:"current,omitempty"`  // the last version is the current one
	Blocks   []block     `json:"blocks,omitempty"`   // uncommitted, in order of arrival
	Lease    lease.Lease `json:"lease,omitzero"`
}

// version is one version of a blob's content and properties.
type version struct {
	Stamp    int64             `json:"stamp"`   // of its creation, in 100 ns since 1970: the version id
	Changed  int64             `json:"changed"` // of its last change: the ETag
	Created  int64             `json:"created"` // when the blob was first created: x-ms-creation-time
	Size     int64             `json:"size"`
	File     string            `json:"file"` // name in the content folder
	MD5      []byte            `json:"md5,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"` // Content-Type and the like
	Metadata map[string]string `json:"metadata,omitempty"`
	Blocks   []block           `json:"blocks,omitempty"` // when it was committed from blocks
	Tier     tier              `json:"tier,omitzero"`
	Policy   policy            `json:"policy,omitzero"`
	Hold     bool              `json:"hold,omitempty"` // legal hold
	Copy     copyState         `json:"copy,omitzero"`
}

type block struct {
	ID   string `json:"id"` // base64, as the client sent it
	Size int64  `json:"size"`
	File string `json:"file,omitempty"` // of an uncommitted block
}

// entry is a line of the journal. A nil value of a container or blob says that it is gone.
type entry struct {
	Account         string           `json:"a"`
	Container       string           `json:"c,omitempty"`
	Blob            string           `json:"b,omitempty"`
	AccountRecord   *access.Account  `json:"account,omitempty"`
	ContainerRecord *containerRecord `json:"container,omitempty"`
	BlobRecord      *blobRecord      `json:"blob,omitempty"`
	Block           *block           `json:"block,omitempty"` // one more uncommitted block of the blob, instead of its whole record
}

// replay applies a line of the journal, and says whether it replaced or removed an older one.
func (s *Service) replay(line []byte) (replaced bool, err error) {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return false, err
	}
	return s.apply(e)
}

func (s *Service) apply(e entry) (replaced bool, err error) {
	a := s.accounts[e.Account]
	if e.Container == "" {
		if e.AccountRecord == nil {
			return false, fmt.Errorf("entry of account %q has no record", e.Account)
		}
		if a == nil {
			a = &account{containers: map[string]*container{}}
			s.accounts[e.Account] = a
		}
		a.Account = *e.AccountRecord
		return false, nil
	}
	if a == nil {
		return false, fmt.Errorf("entry of unknown account %q", e.Account)
	}
	c := a.containers[e.Container]
	switch {
	case e.Blob == "" && e.ContainerRecord == nil:
		delete(a.containers, e.Container)
		return true, nil
	case e.Blob == "":
		s.stamp = max(s.stamp, e.ContainerRecord.Stamp)
		if c == nil {
			c = &container{blobs: btree.NewMap[string, *blobRecord](0)}
		}
		// A new value, so that whoever holds the old one keeps a consistent record.
		a.containers[e.Container] = &container{containerRecord: e.ContainerRecord, blobs: c.blobs}
		return false, nil
	case c == nil:
		return false, fmt.Errorf("entry of unknown container %q", e.Container)
	case e.Block != nil:
		old, _ := c.blobs.Get(e.Blob)
		next := old.clone()
		next.addBlock(*e.Block)
		c.blobs.Set(e.Blob, next)
		return false, nil
	case e.BlobRecord == nil:
		c.blobs.Delete(e.Blob)
		return true, nil
	}
	for _, v := range e.BlobRecord.Versions {
		s.stamp = max(s.stamp, v.Stamp, v.Changed)
	}
	_, replaced = c.blobs.Set(e.Blob, e.BlobRecord)
	return replaced, nil
}

// save makes an entry durable against the end of the process, then visible. s.mu is held for writing, as for all savers.
func (s *Service) save(e entry) error {
	if err := s.journal.Append(e); err != nil {
		return err
	}
	_, err := s.apply(e)
	return err
}

func (s *Service) saveAccount(name string, record access.Account) error {
	return s.save(entry{Account: name, AccountRecord: &record})
}

func (s *Service) saveContainer(accountName, name string, record *containerRecord) error {
	return s.save(entry{Account: accountName, Container: name, ContainerRecord: record})
}

// saveBlob replaces a blob's record; one without versions and blocks removes the name. Content files that the old record
// used and the new one does not are removed.
func (s *Service) saveBlob(t target, old, next *blobRecord) error {
	e := entry{Account: t.account, Container: t.container, Blob: t.blob, BlobRecord: next}
	if next != nil && len(next.Versions) == 0 && len(next.Blocks) == 0 {
		e.BlobRecord = nil
	}
	if err := s.save(e); err != nil {
		return err
	}
	kept := map[string]bool{}
	next.eachFile(func(file string) { kept[file] = true })
	old.eachFile(func(file string) {
		if !kept[file] {
			s.content.Remove(file)
		}
	})
	return nil
}

// nextStamp returns a time that no version had before. s.mu is held for writing.
func (s *Service) nextStamp() int64 {
	s.stamp = max(s.stamp+1, s.cfg.Clock.Now().UnixNano()/100)
	return s.stamp
}

// tidy removes content files that no record names: uploads that were cut off, and what a killed process left. It also
// shortens a journal that is mostly history.
func (s *Service) tidy() error {
	known := map[string]bool{}
	for _, a := range s.accounts {
		for _, c := range a.containers {
			c.blobs.Scan(func(_ string, b *blobRecord) bool {
				b.eachFile(func(file string) { known[file] = true })
				return true
			})
		}
	}
	if err := s.content.Retain(known); err != nil {
		return err
	}
	return s.journal.Compact(s.entries())
}

// entries yields the state as the shortest journal that makes it.
func (s *Service) entries() iter.Seq[any] {
	return func(yield func(any) bool) {
		for accountName, a := range s.accounts {
			if !yield(entry{Account: accountName, AccountRecord: &a.Account}) {
				return
			}
			for containerName, c := range a.containers {
				if !yield(entry{Account: accountName, Container: containerName, ContainerRecord: c.containerRecord}) {
					return
				}
				c.blobs.Scan(func(name string, b *blobRecord) bool {
					return yield(entry{Account: accountName, Container: containerName, Blob: name, BlobRecord: b})
				})
			}
		}
	}
}

// clone returns a copy whose fields and slices may be changed; the versions in it may not.
func (b *blobRecord) clone() *blobRecord {
	if b == nil {
		return &blobRecord{}
	}
	c := *b
	c.Versions, c.Blocks = slices.Clone(b.Versions), slices.Clone(b.Blocks)
	return &c
}

// current returns the current version, nil when there is none.
func (b *blobRecord) current() *version {
	if b == nil || !b.Current {
		return nil
	}
	return b.Versions[len(b.Versions)-1]
}

// find returns the version with that id, or the current one for "".
func (b *blobRecord) find(id string) (v *version, isCurrent bool) {
	if b == nil {
		return nil, false
	}
	if id == "" {
		return b.current(), true
	}
	for _, v := range b.Versions {
		if v.id() == id {
			return v, v == b.current()
		}
	}
	return nil, false
}

// replace puts next in the place of old.
func (b *blobRecord) replace(old, next *version) {
	b.Versions[slices.Index(b.Versions, old)] = next
}

// push makes v the current version. Where versions are kept, the one before stays.
func (b *blobRecord) push(v *version, versioned bool) {
	if !versioned {
		b.Versions = nil
	}
	b.Versions = append(b.Versions, v)
	b.Current = true
}

// addBlock adds an uncommitted block, in the place of one with the same id.
func (b *blobRecord) addBlock(next block) {
	b.Blocks = slices.DeleteFunc(b.Blocks, func(old block) bool { return old.ID == next.ID })
	b.Blocks = append(b.Blocks, next)
}

func (b *blobRecord) eachFile(visit func(file string)) {
	if b == nil {
		return
	}
	for _, v := range b.Versions {
		visit(v.File)
	}
	for _, block := range b.Blocks {
		visit(block.File)
	}
}

func (v *version) id() string           { return stampTime(v.Stamp).Format("2006-01-02T15:04:05.0000000Z") }
func (v *version) etag() string         { return etag(v.Changed) }
func (v *version) modified() time.Time  { return stampTime(v.Changed).Truncate(time.Second) }
func (c *containerRecord) etag() string { return etag(c.Stamp) }
func stampTime(stamp int64) time.Time   { return time.Unix(0, stamp*100).UTC() }
func etag(stamp int64) string           { return fmt.Sprintf("\"0x%X\"", stamp) }
func httpTime(t time.Time) string       { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }
