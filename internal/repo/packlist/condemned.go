package packlist

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
)

// Condemned are the packs that condemnation lists name. Each list is read once, as long as it is asked for. Safe for concurrent use.
type Condemned struct {
	source Source
	log    *slog.Logger

	mu    sync.Mutex
	lists map[string]map[string]bool // by the name of a list; guarded by mu
}

// NewCondemned returns one that knows no list yet.
func NewCondemned(source Source, log *slog.Logger) *Condemned {
	return &Condemned{source: source, log: log, lists: map[string]map[string]bool{}}
}

// Packs returns the packs that some lists name, and forgets all others. For a list that is damaged it takes whatever gone knows.
func (c *Condemned) Packs(ctx context.Context, lists []string, gone func(ctx context.Context) (Gone, error)) (map[string]bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.lists, func(list string, _ map[string]bool) bool { return !slices.Contains(lists, list) })
	if err := c.read(ctx, lists, gone); err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, list := range lists {
		maps.Copy(all, c.lists[list])
	}
	return all, nil
}

// listsAtOnce bounds the condemnation lists that are read at the same time. On a store that locks there may be one for each day of a lock.
const listsAtOnce = 16

// read reads the lists that are not known yet. c.mu is held.
func (c *Condemned) read(ctx context.Context, lists []string, gone func(ctx context.Context) (Gone, error)) error {
	unknown := slices.DeleteFunc(slices.Clone(lists), func(list string) bool { return c.lists[list] != nil })
	read := make([]map[string]bool, len(unknown))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listsAtOnce)
	for i, list := range unknown {
		g.Go(func() (err error) {
			read[i], err = c.by(gctx, list, gone)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, list := range unknown {
		c.lists[list] = read[i]
	}
	return nil
}

// by returns the packs that a list condemned.
func (c *Condemned) by(ctx context.Context, list string, gone func(ctx context.Context) (Gone, error)) (map[string]bool, error) {
	names := map[string]bool{}
	data, err := c.source(ctx, list)
	if err == nil {
		var condemnation Condemnation
		if condemnation, err = ParseCondemnation(data); err == nil {
			for _, name := range condemnation.Names {
				names[name] = true
			}
			return names, nil
		}
	}
	if !holdfast.IsKind(err, holdfast.KindCorrupt) { // as a missing one is
		return nil, err
	}
	all, goneErr := gone(ctx)
	if goneErr != nil {
		return nil, err
	}
	c.log.WarnContext(ctx, "a condemnation list is damaged; the next collection does without it", "object", list, "error", err)
	for name := range all {
		names[name] = true
	}
	return names, nil
}
