package keyvault

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// vault is what the twin keeps of a vault.
type vault struct {
	Name          string   `json:"name"`
	Permissions   []string `json:"permissions"` // of the twin's application
	RetentionDays int      `json:"retentionDays"`
}

// key is what the twin keeps of a key.
type key struct {
	Name     string    `json:"name"`
	Versions []version `json:"versions"` // oldest first, at least one
	Deleted  *deletion `json:"deleted,omitempty"`
	// BusyUntil ends the time in which a key that was recovered is not found yet. Unix milliseconds.
	BusyUntil int64 `json:"busyUntil,omitempty"`
}

// version is one version of a key. Times are Unix seconds, 0 for none.
type version struct {
	ID         string            `json:"id"`
	Private    []byte            `json:"private"` // PKCS #1
	Enabled    bool              `json:"enabled"`
	NotBefore  int64             `json:"notBefore,omitempty"`
	Expires    int64             `json:"expires,omitempty"`
	Created    int64             `json:"created"`
	Updated    int64             `json:"updated"`
	Operations []string          `json:"operations"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// deletion says since when a key is deleted.
type deletion struct {
	At        int64 `json:"at"`        // Unix seconds
	Purge     int64 `json:"purge"`     // when it goes for good, Unix seconds
	BusyUntil int64 `json:"busyUntil"` // until when it is neither there nor deleted, Unix milliseconds
}

func (k *key) newest() *version { return &k.Versions[len(k.Versions)-1] }

// version returns the version of that id, "" for the newest, nil when there is none.
func (k *key) version(id string) *version {
	if id == "" {
		return k.newest()
	}
	i := slices.IndexFunc(k.Versions, func(v version) bool { return strings.EqualFold(v.ID, id) })
	if i < 0 {
		return nil
	}
	return &k.Versions[i]
}

func (k *key) delete(now time.Time, retentionDays int, settle time.Duration) {
	k.Deleted = &deletion{At: now.Unix(), Purge: now.AddDate(0, 0, retentionDays).Unix(), BusyUntil: now.Add(settle).UnixMilli()}
}

// busy reports whether a deletion or a recovery is under way.
func (k *key) busy(now time.Time) bool {
	until := k.BusyUntil
	if k.Deleted != nil {
		until = k.Deleted.BusyUntil
	}
	return now.UnixMilli() < until
}

func vaultID(name string) string { return "keyvault/" + name }

func keyID(vault, name string) string { return vaultID(vault) + "/keys/" + name }

// content is the member of a document's hidden part that holds what it is about.
const content = "content"

func put(tx *state.Tx, id string, value any, now time.Time) error {
	text, err := json.Marshal(value)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "%s cannot be kept", id)
	}
	doc := &state.Document{ID: id, Hidden: state.Object{}, Created: now}
	doc.Hidden.Set(content, string(text))
	tx.Put(doc)
	return nil
}

func read(view *state.View, id string, into any) (bool, error) {
	doc := view.Get(id)
	if doc == nil {
		return false, nil
	}
	if err := json.Unmarshal([]byte(doc.Hidden.Text(content)), into); err != nil {
		return false, holdfast.Wrap(holdfast.KindCorrupt, err, "%s cannot be read", id)
	}
	return true, nil
}

func vaultOf(view *state.View, name string) (vault, error) {
	var v vault
	found, err := read(view, vaultID(name), &v)
	if err == nil && !found {
		err = vaultNotFound(name)
	}
	return v, err
}

// keyOf returns a key, deleted or not, nil when there is none. One whose time is over is purged for whoever looks.
func keyOf(view *state.View, vault, name string) (*key, error) {
	k := new(key)
	found, err := read(view, keyID(vault, name), k)
	if err != nil || !found {
		return nil, err
	}
	return k, nil
}

// keysOf returns the keys of a vault in order of their names.
func keysOf(view *state.View, vault string) ([]*key, error) {
	var all []*key
	for doc := range view.Below(strings.ToLower(vaultID(vault)) + "/keys/") {
		k := new(key)
		if _, err := read(view, doc.ID, k); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}
