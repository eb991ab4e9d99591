package blobtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/blob"
)

// pattern returns n bytes that depend on the seed and differ everywhere, so that a shifted or mixed-up read shows.
func pattern(seed byte, n int) []byte {
	data := make([]byte, n+8)
	state := uint64(seed) + 1
	for i := 0; i < n; i += 8 {
		state = state*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(data[i:], state^state>>29)
	}
	return data[:n:n]
}

func (r *run) putAndCompare(ctx context.Context, name string, data []byte) error {
	if err := r.store.Put(ctx, name, data, blob.PutOptions{}); err != nil {
		return err
	}
	return r.compare(ctx, name, data)
}

// compare proves that the object has exactly these bytes, by Stat and by Read.
func (r *run) compare(ctx context.Context, name string, want []byte) error {
	info, err := r.store.Stat(ctx, name)
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if info.Name != name || info.Size != int64(len(want)) {
		return fmt.Errorf("stat of %q (%d bytes) returns %q with %d bytes", name, len(want), info.Name, info.Size)
	}
	return compareBytes(ctx, func(ctx context.Context, offset int64, p []byte) (int, error) {
		return r.store.Read(ctx, name, offset, p)
	}, want)
}

func compareBytes(ctx context.Context, read func(context.Context, int64, []byte) (int, error), want []byte) error {
	got := make([]byte, len(want)+1)
	n, err := read(ctx, 0, got)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(got[:n], want) {
		return fmt.Errorf("read returns other bytes (%d) than were put (%d)", n, len(want))
	}
	return nil
}

// listTries bounds how often a list that may be late is asked again.
const listTries = 5

// compareList proves that the list has exactly these names. A list may miss recent changes, so it is asked again a few
// times; order is never forgiven.
func (r *run) compareList(ctx context.Context, prefix string, want []string) error {
	var err error
	for range listTries {
		var got []string
		for info, listErr := range r.store.List(ctx, prefix) {
			if listErr != nil {
				return fmt.Errorf("list: %w", listErr)
			}
			if len(got) > 0 && info.Name <= got[len(got)-1] {
				return fmt.Errorf("list yields %q after %q", info.Name, got[len(got)-1])
			}
			got = append(got, info.Name)
		}
		if err = sameNames(got, want); err == nil {
			return nil
		}
	}
	return err
}

func sameNames(got, want []string) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("list yields %q where %q belongs", got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("list yields %d names of %d", len(got), len(want))
	}
	return nil
}

// parallel calls do for 0 … n-1, a few at a time, and returns the first error.
func parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelPuts)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
