// Package blobsvc is the twin's Blob service: the block-blob part of Azure Storage over real HTTP, path-style
// (/account/container/blob), for tests and demonstrations of Holdfast.
//
// It promises what the product relies on and what emulators get wrong: create-only puts of which exactly one wins, versions
// and version-level immutability that really refuse, leases, tiers with a rehydration that takes its time, SAS of every
// sort with signatures recomputed, and state that survives a kill of the process once a write was acknowledged. What it does
// not carry out it refuses with an error code; it never pretends. It must never be reachable from other machines, and holds
// nothing of value: there is no sync to the disk, so a crash of the machine may lose what was written.
//
// Rules come from the REST reference of Blob Storage up to service version 2026-06-06; a comment says so where we had to
// choose ourselves.
package blobsvc

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/access"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/disk"
)

// Defaults of Config.
const (
	DefaultNewestVersion = "2026-06-06"
	defaultStandard      = 15 * time.Hour // the platform's upper bound
	defaultHigh          = time.Hour
)

// Config is what a Service needs.
type Config struct {
	Dir   string      // where the state lives; created when missing
	Clock clock.Clock // nil means the system's
	// Verify checks the bearer token of a request against the audiences. nil: no bearer token is accepted.
	Verify func(r *http.Request, audiences ...string) error
	// BaseURL returns the address under which clients reach the service, such as https://127.0.0.1:4433, without a slash at
	// its end. It is shown in lists, and copy sources are looked up below it.
	BaseURL func() string
	// How long a blob takes to leave the archive; 0 means the platform's 15 hours and one hour.
	RehydrateStandard, RehydrateHigh time.Duration
	NewestVersion                    string // newest x-ms-version that is known; "" means DefaultNewestVersion
}

// Service is the blob service of any number of storage accounts. Safe for concurrent use.
type Service struct {
	cfg     Config
	content disk.Content

	mu       sync.RWMutex
	accounts map[string]*account // guarded by mu; the records below are replaced, never changed
	journal  *disk.Journal       // guarded by mu
	stamp    int64               // guarded by mu: the last version id given out, in 100 ns since 1970
}

// Open reads the state in cfg.Dir, or begins an empty one. Only one Service may use a folder at a time.
func Open(cfg Config) (*Service, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.BaseURL == nil {
		cfg.BaseURL = func() string { return "" }
	}
	if cfg.RehydrateStandard == 0 {
		cfg.RehydrateStandard = defaultStandard
	}
	if cfg.RehydrateHigh == 0 {
		cfg.RehydrateHigh = defaultHigh
	}
	if cfg.NewestVersion == "" {
		cfg.NewestVersion = DefaultNewestVersion
	}
	s := &Service{cfg: cfg, content: disk.Content{Dir: filepath.Join(cfg.Dir, "content")}, accounts: map[string]*account{}}
	if err := os.MkdirAll(s.content.Dir, 0o700); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the blob service cannot use the folder %s", cfg.Dir)
	}
	j, err := disk.OpenJournal(filepath.Join(cfg.Dir, "journal"), s.replay)
	if err != nil {
		return nil, err
	}
	s.journal = j
	if err := s.tidy(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the use of the folder. Requests that come later fail.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.Close()
}

// Handler returns the service as an http.Handler. It wants the request's path as the client sent it: a ServeMux that
// cleans paths must not stand before it.
func (s *Service) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// CreateAccount makes a storage account with the given key, base64 of 64 bytes as Azure's are; "" makes a random one. An
// account that exists stays as it is; asking for another key is KindConflict.
func (s *Service) CreateAccount(name, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[name]; a != nil {
		if key != "" && key != a.Key {
			return holdfast.Errorf(holdfast.KindConflict, "storage account %s exists with another key", name)
		}
		return nil
	}
	if !validAccountName(name) {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a storage account's name", name).
			WithHint("use 3 to 24 lower-case letters and digits")
	}
	if key == "" {
		key = randomKey()
	}
	if _, err := base64.StdEncoding.DecodeString(key); err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "the key of storage account %s is not base64", name)
	}
	return s.saveAccount(name, access.Account{Key: key, DelegationSecret: randomKey(), SharedKey: true})
}

// AccountKey returns the account's key, KindNotFound when there is no such account.
func (s *Service) AccountKey(name string) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.accounts[name]
	if a == nil {
		return "", holdfast.Errorf(holdfast.KindNotFound, "no storage account %s", name)
	}
	return a.Key, nil
}

// AllowSharedKey says whether the account accepts its key: requests signed with it, and SAS made with it. New accounts do.
func (s *Service) AllowSharedKey(name string, allowed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[name]
	if a == nil {
		return holdfast.Errorf(holdfast.KindNotFound, "no storage account %s", name)
	}
	next := a.Account
	next.SharedKey = allowed
	return s.saveAccount(name, next)
}

// CreateContainer makes a container; with versionImmutability it keeps versions and can lock them. A container that exists
// with the same setting stays as it is; with another one it is KindConflict.
func (s *Service) CreateContainer(accountName, name string, versionImmutability bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[accountName]
	if a == nil {
		return holdfast.Errorf(holdfast.KindNotFound, "no storage account %s", accountName)
	}
	if c := a.containers[name]; c != nil {
		if c.VersionImmutability != versionImmutability {
			return holdfast.Errorf(holdfast.KindConflict, "container %s exists with another immutability setting", name)
		}
		return nil
	}
	if !validContainerName(name) {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a container's name", name).
			WithHint("use 3 to 63 lower-case letters, digits and single hyphens")
	}
	return s.saveContainer(accountName, name, &containerRecord{VersionImmutability: versionImmutability, Stamp: s.nextStamp()})
}

func randomKey() string {
	key := make([]byte, 64)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	return base64.StdEncoding.EncodeToString(key)
}

func validAccountName(name string) bool {
	if len(name) < 3 || len(name) > 24 {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func validContainerName(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	previous := '-'
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || previous == '-') {
			return false
		}
		previous = c
	}
	return previous != '-'
}
