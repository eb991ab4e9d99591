// Package discover keeps the inventory in the store as the cloud is: machines that appeared, that changed, and that are gone.
//
// It promises that a machine which a listing lacks is not taken for deleted: a direct read has to say so, and until then it stays as it
// was seen last. What policies could notice raises the counter by which the scheduler knows; a look that finds nothing new does not.
package discover

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Cloud is what is asked.
type Cloud interface {
	// Inventory lists the machines.
	Inventory(ctx context.Context) (holdfast.Inventory, error)
	// Exists reads one machine directly.
	Exists(ctx context.Context, vm holdfast.ResourceID) (bool, error)
}

// Config says what to work with. All fields are required.
type Config struct {
	Database *database.DB
	Cloud    Cloud
	Clock    clock.Clock
	Log      *slog.Logger
}

// Discovery looks at the cloud.
type Discovery struct{ config Config }

// New makes it.
func New(config Config) *Discovery { return &Discovery{config} }

// Found is what a look came to.
type Found struct {
	Machines int // that are there
	New      int
	Changed  int
	Gone     int // confirmed by direct reads
	Missing  int // that the listing lacks and a direct read finds
}

// Look asks the cloud and writes down what is there.
func (d *Discovery) Look(ctx context.Context) (Found, error) {
	inventory, err := d.config.Cloud.Inventory(ctx)
	if err != nil {
		return Found{}, err
	}
	var known []store.Machine
	err = d.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		known, err = store.Machines(ctx, q, store.AllEver)
		return err
	})
	if err != nil {
		return Found{}, err
	}
	gone, err := d.confirm(ctx, known, inventory)
	if err != nil {
		return Found{}, err
	}
	l := look{at: d.config.Clock.Now().UTC().Truncate(time.Millisecond), known: byID(known), gone: gone, found: Found{Machines: len(inventory.VMs)}}
	err = d.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error { return l.write(ctx, tx, inventory) })
	return l.found, err
}

func byID(machines []store.Machine) map[string]store.Machine {
	all := make(map[string]store.Machine, len(machines))
	for _, m := range machines {
		all[m.ID.Key()] = m
	}
	return all
}

// confirm reads the machines that the listing lacks, and returns whether each is gone.
func (d *Discovery) confirm(ctx context.Context, known []store.Machine, inventory holdfast.Inventory) (map[string]bool, error) {
	listed := map[string]bool{}
	for _, vm := range inventory.VMs {
		listed[vm.ID.Key()] = true
	}
	gone := map[string]bool{}
	for _, m := range known {
		if listed[m.ID.Key()] || !m.Gone.IsZero() {
			continue
		}
		exists, err := d.config.Cloud.Exists(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		gone[m.ID.Key()] = !exists
	}
	return gone, nil
}

// look is one under way.
type look struct {
	at    time.Time
	known map[string]store.Machine
	gone  map[string]bool // of the machines that the listing lacks
	found Found
}

// write writes down what changed, and that all that is there was seen.
func (l *look) write(ctx context.Context, tx database.Tx, inventory holdfast.Inventory) error {
	l.found.New, l.found.Changed, l.found.Gone, l.found.Missing = 0, 0, 0, 0 // the transaction may be run again
	for _, vm := range inventory.VMs {
		m, seen := l.known[vm.ID.Key()]
		switch {
		case !seen:
			l.found.New++
			m = store.Machine{FirstSeen: l.at}
		case !m.Gone.IsZero() || !store.SameMachine(m.InventoryVM, vm):
			l.found.Changed++
		default:
			continue
		}
		m.InventoryVM, m.LastSeen, m.Gone = vm, l.at, time.Time{}
		if err := store.PutMachine(ctx, tx, m); err != nil {
			return err
		}
	}
	for id, gone := range l.gone {
		if !gone {
			l.found.Missing++
			continue
		}
		l.found.Gone++
		m := l.known[id]
		m.Gone = l.at
		if err := store.PutMachine(ctx, tx, m); err != nil {
			return err
		}
	}
	if l.found.New+l.found.Changed+l.found.Gone > 0 {
		if _, err := store.Count(ctx, tx, store.CounterMachines); err != nil {
			return err
		}
	}
	return store.Seen(ctx, tx, l.at)
}
