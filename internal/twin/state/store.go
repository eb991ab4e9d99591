// Package state keeps the resource documents of the twin: what ARM would answer about every resource, and beside it what
// only the twin knows (which volume stands behind a disk, when a copy is complete).
//
// It promises serialised transactions that are kept or dropped as a whole, readers that see one moment and never wait for
// a writer's work, a stable order by key, and survival of a killed process: a transaction that returned is found again by
// the next Open. It survives the death of the process, not of the machine (nothing is synced to the medium), which is what
// a simulated cloud needs. It must never know what a document means; rules live in arm, compute and network.
//
// On disk there is one append-only journal of checksummed records. A torn tail is cut off at Open. When the journal has
// grown well beyond the live documents it is rewritten under the next generation's name, and the old one is removed.
package state

import (
	"iter"
	"sync"
	"time"

	"github.com/tidwall/btree"

	"github.com/holdfast-backup/holdfast"
)

// Document is one resource, or one record of the twin's own. Documents handed out by View and Tx are shared: whoever
// wants to change one takes a copy with Clone and puts it back.
type Document struct {
	ID       string    `json:"id"`               // with the casing it was created with
	Body     Object    `json:"body,omitempty"`   // what clients see
	Hidden   Object    `json:"hidden,omitempty"` // what only the twin knows
	Created  time.Time `json:"created"`          // for late lists
	Sequence uint64    `json:"sequence"`         // order of creation, given by Put
}

// Clone returns a copy that shares nothing with d.
func (d *Document) Clone() *Document {
	c := *d
	c.Body, c.Hidden = d.Body.Clone(), d.Hidden.Clone()
	return &c
}

// Key returns the form of the id under which equal ids are equal.
func (d *Document) Key() string { return Key(d.ID) }

// Key lower-cases an id and drops a trailing slash: ARM ids are case-insensitive.
func Key(id string) string { return holdfast.ResourceID(id).Key() }

// Store holds all documents in memory and journals every change. Safe for concurrent use.
type Store struct {
	writing sync.Mutex // held for the whole of an Update

	mu        sync.Mutex // guards the fields below for the moment of a swap or a look
	documents *btree.Map[string, *Document]

	journal  *journal // owned by the holder of writing
	sequence uint64   // owned by the holder of writing
}

// Open reads the documents kept in dir, which is made if it does not exist. One process at a time may have it open; the
// caller sees to that. Damage other than a torn tail is an error of KindCorrupt.
func Open(dir string) (*Store, error) {
	s := &Store{documents: new(btree.Map[string, *Document])}
	opened, err := openJournal(dir, s.replay)
	if err != nil {
		return nil, err
	}
	s.journal = opened
	if err := s.compactIfDue(); err != nil {
		_ = opened.close()
		return nil, err
	}
	return s, nil
}

// Close releases the journal. Later Updates fail; nothing is lost by not calling it.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.journal.close()
}

// Update runs change in a transaction of its own; transactions run one after another. When change returns nil all its
// puts and deletes are journalled and become visible at once, then the OnCommit hooks run. When it returns an error, or
// journalling fails, nothing has changed, the OnRollback hooks have run and the error is returned. change must not call
// Update.
func (s *Store) Update(change func(*Tx) error) error {
	hooks, err := s.transact(change)
	for _, hook := range hooks {
		hook()
	}
	return err
}

func (s *Store) transact(change func(*Tx) error) (hooks []func(), err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	tx := &Tx{View: s.View(), sequence: s.sequence}
	if err := change(tx); err != nil {
		return tx.rollback, err
	}
	if tx.empty() {
		return tx.commit, nil
	}
	if err := s.journal.append(tx.record()); err != nil {
		return tx.rollback, err
	}
	s.sequence = tx.sequence
	s.mu.Lock()
	s.documents = tx.documents
	s.mu.Unlock()
	_ = s.compactIfDue() // best effort: the old journal is whole, and the next Update tries again
	return tx.commit, nil
}

// View returns the documents as they are at this moment; later changes do not show in it.
func (s *Store) View() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &View{documents: s.documents.Copy()}
}

func (s *Store) replay(r record) {
	for _, d := range r.Put {
		s.documents.Set(d.Key(), d)
		s.sequence = max(s.sequence, d.Sequence)
	}
	for _, key := range r.Delete {
		s.documents.Delete(key)
	}
}

func (s *Store) compactIfDue() error {
	now := s.View()
	if !s.journal.overgrown(now.documents.Len()) {
		return nil
	}
	return s.journal.rewrite(now.Below(""))
}

// View is the state at one moment. Safe for use by one goroutine.
type View struct {
	documents *btree.Map[string, *Document]
}

// Get returns the document with that id in any casing, or nil. It is shared: do not change it.
func (v *View) Get(id string) *Document {
	d, _ := v.documents.Get(Key(id))
	return d
}

// Below yields the documents whose key begins with prefix, in byte order of keys. They are shared: do not change them.
func (v *View) Below(prefix string) iter.Seq[*Document] {
	return v.From(prefix, "")
}

// From is Below starting after the given key; "" starts at the beginning.
func (v *View) From(prefix, after string) iter.Seq[*Document] {
	return func(yield func(*Document) bool) {
		v.documents.Ascend(max(prefix, after), func(key string, d *Document) bool {
			if key == after {
				return true
			}
			return len(key) >= len(prefix) && key[:len(prefix)] == prefix && yield(d)
		})
	}
}

// Tx is a transaction: a View that sees its own changes.
type Tx struct {
	*View
	sequence         uint64
	put, deleted     []string // keys, in order, perhaps repeated
	commit, rollback []func()
}

// Put stores a document under its id; the transaction owns it from now on. A document that is new gets its Sequence.
func (t *Tx) Put(d *Document) {
	if d.Sequence == 0 {
		t.sequence++
		d.Sequence = t.sequence
	}
	t.documents.Set(d.Key(), d)
	t.put = append(t.put, d.Key())
}

// Delete removes the document; a missing one is no error.
func (t *Tx) Delete(id string) {
	if _, found := t.documents.Delete(Key(id)); found {
		t.deleted = append(t.deleted, Key(id))
	}
}

// OnCommit has hook run once the transaction is durable and visible.
func (t *Tx) OnCommit(hook func()) { t.commit = append(t.commit, hook) }

// OnRollback has hook run if the transaction is dropped: it undoes what was done outside the store.
func (t *Tx) OnRollback(hook func()) { t.rollback = append(t.rollback, hook) }

func (t *Tx) empty() bool { return len(t.put) == 0 && len(t.deleted) == 0 }

// record gives the final state of every touched key.
func (t *Tx) record() record {
	var r record
	seen := make(map[string]bool, len(t.put)+len(t.deleted))
	for _, keys := range [][]string{t.put, t.deleted} {
		for _, key := range keys {
			if seen[key] {
				continue
			}
			seen[key] = true
			if d, ok := t.documents.Get(key); ok {
				r.Put = append(r.Put, d)
				continue
			}
			r.Delete = append(r.Delete, key)
		}
	}
	return r
}
