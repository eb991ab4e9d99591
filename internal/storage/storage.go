// Package storage opens what addresses of repositories lead to: a local folder, or a folder of a blob container.
//
// It promises that an address which is none is refused before anything is asked, and that a store comes with all that it can do beside
// keeping objects. It makes nothing but the connection, and knows nothing of what is kept.
package storage

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/azblob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Store is a store with what else it can do. The store is a field, so that nobody takes the whole for a store that can neither lock nor
// show versions.
type Store struct {
	Objects   blob.Store
	Local     *file.Store // nil for one that is not
	Remover   blob.Remover
	Locker    blob.Locker    // nil when it cannot lock
	Versioned blob.Versioned // nil when it keeps no versions
}

// Options say what to work with.
type Options struct {
	Azure func() (*azure.Client, error) // asked for containers alone
	Clock clock.Clock
}

// Open opens the store at an address: a folder, file:///FOLDER, or azblob://ACCOUNT/CONTAINER/FOLDER, with locks where the container has
// version-level immutability. Nothing is created.
func Open(ctx context.Context, address string, o Options) (Store, error) {
	where, err := Parse(address)
	if err != nil {
		return Store{}, err
	}
	if where.Folder == "" {
		return openContainer(ctx, where, o)
	}
	s, err := file.Open(where.Folder, file.Options{})
	if err != nil {
		return Store{}, err
	}
	return Store{Objects: s, Local: s, Remover: s.Remover()}, nil
}

func openContainer(ctx context.Context, where Location, o Options) (Store, error) {
	cloud, err := o.Azure()
	if err != nil {
		return Store{}, err
	}
	client, err := cloud.ContainerClient(where.Account, where.Container, azblob.ClientOptions)
	if err != nil {
		return Store{}, err
	}
	opened, err := azblob.Open(ctx, client, where.Prefix)
	if err != nil {
		return Store{}, err
	}
	// The SDK's client retries by itself.
	objects := wrap.Standard(opened.Store, wrap.Options{Clock: o.Clock, Attempts: 1})
	return Store{Objects: objects, Remover: opened.Remover, Locker: opened.Locker, Versioned: opened.Versioned}, nil
}

// Location is an address that was read.
type Location struct {
	Folder                     string // of a local store; "" of one on Blob storage
	Account, Container, Prefix string // of one on Blob storage
}

// Parse reads an address. It is KindInvalid when it is none.
func Parse(address string) (Location, error) {
	refuse := func(why string) (Location, error) {
		return Location{}, holdfast.Errorf(holdfast.KindInvalid, "the repository address %q %s", address, why).WithField("repo").
			WithHint("write a folder, file:///FOLDER, or azblob://ACCOUNT/CONTAINER/FOLDER")
	}
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return Location{Folder: filepath.Clean(address)}, nil
	}
	switch scheme {
	case "file":
		path, err := url.PathUnescape(strings.TrimPrefix(rest, "localhost"))
		if err != nil || !filepath.IsAbs(path) {
			return refuse("does not name an absolute folder")
		}
		return Location{Folder: filepath.Clean(path)}, nil
	case "azblob":
		parts := strings.SplitN(strings.Trim(rest, "/"), "/", 3)
		if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
			return refuse("does not name an account and a container")
		}
		where := Location{Account: parts[0], Container: parts[1]}
		if len(parts) == 3 {
			where.Prefix = parts[2]
		}
		return where, nil
	}
	return refuse("has a scheme that is not known")
}

// logFolder shows that a repository is there; keysFolder holds what an interrupted making of one left.
const logFolder, keysFolder = "log/", "keys/"

// HoldsRepository reports whether a repository is in a store.
func HoldsRepository(ctx context.Context, objects blob.Store) (bool, error) {
	for _, err := range objects.List(ctx, logFolder) {
		return err == nil, err
	}
	return false, nil
}

// MustBeEmpty refuses a store with other things than a repository in it: they would be taken for damage, and for parts of a backup.
func MustBeEmpty(ctx context.Context, objects blob.Store) error {
	if there, err := HoldsRepository(ctx, objects); err != nil || there {
		return err
	}
	for object, err := range objects.List(ctx, "") {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(object.Name, keysFolder) {
			return holdfast.Errorf(holdfast.KindInvalid, "%s is not empty: %s is there", objects.URL(), object.Name).WithField("repo").
				WithHint("name an empty folder, or one that does not exist yet")
		}
	}
	return nil
}
