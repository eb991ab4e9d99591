package azblob

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// Opened is a store with what its container can do.
type Opened struct {
	Store     blob.Store
	Remover   blob.Remover
	Locker    blob.Locker    // nil when the container cannot lock
	Versioned blob.Versioned // nil when the account keeps no versions
}

// Open asks the service what a container can do and returns the store of that kind: a WORM where it has version-level
// immutability, a Versioned where the account keeps versions, else a plain Store.
func Open(ctx context.Context, client *container.Client, folder string) (Opened, error) {
	locks, err := HasVersionImmutability(ctx, client)
	if err != nil {
		return Opened{}, err
	}
	if locks {
		s, err := NewWORM(client, folder)
		if err != nil {
			return Opened{}, err
		}
		return Opened{Store: s, Remover: s.Remover(), Locker: s, Versioned: s}, nil
	}
	plain, err := New(client, folder)
	if err != nil {
		return Opened{}, err
	}
	versions, err := plain.KeepsVersions(ctx)
	if err != nil {
		return Opened{}, err
	}
	if !versions {
		return Opened{Store: plain, Remover: plain.Remover()}, nil
	}
	s := &Versioned{plain}
	return Opened{Store: s, Remover: s.Remover(), Versioned: s}, nil
}
