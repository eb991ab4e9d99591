package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// rules returns all checks in the order in which they run: the ones that everything else rests on come first.
func rules() []rule {
	return []rule{
		{"read-back", "an object that was put is there at once, with its size and bytes", (*run).readBack},
		{"missing", "a missing object is reported as missing", (*run).missing},
		{"exists", "a second put is refused and changes nothing", (*run).exists},
		{"race", "of 16 puts of one name at once exactly one succeeds, and its bytes stay", (*run).race},
		{"ranges", "reads return exactly the bytes asked for, fewer only at the end", (*run).ranges},
		{"empty", "an empty object can be put and read", (*run).empty},
		{"large", "a large object can be put and read", (*run).large},
		{"names", "all characters that names may have come back as they were", (*run).names},
		{"not-kept", "the caller may use its buffer again once put has returned", (*run).notKept},
		{"concurrent-readers", "many readers at once read right", (*run).concurrentReaders},
		{"cancelled", "a cancelled put leaves the whole object or none", (*run).cancelled},
		{"list", "lists are complete by prefix, in byte order, over several pages", (*run).list},
		{"remove", "a removed object is gone, removing it again is no error, and its name can be used again", (*run).remove},
		{"lock-refused", "a store without locks refuses to pretend", (*run).lockRefused},
		{"lock-at-birth", "an object locked at birth cannot be removed before its time, and can after", (*run).lockAtBirth},
		{"lock-extend", "extending a lock lengthens it and never shortens it", (*run).lockExtend},
		{"versions", "after an overwrite by others the first bytes are still there", (*run).versions},
	}
}

func (r *run) readBack(ctx context.Context) error {
	return r.putAndCompare(ctx, r.name("read-back"), pattern(1, 100_003))
}

func (r *run) missing(ctx context.Context) error {
	name := r.Prefix + "/missing"
	if _, err := r.store.Stat(ctx, name); !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("stat of a missing object: %w", unexpected(err))
	}
	if n, err := r.store.Read(ctx, name, 0, make([]byte, 10)); !errors.Is(err, blob.ErrNotFound) || n != 0 {
		return fmt.Errorf("read of a missing object: %d bytes, %w", n, unexpected(err))
	}
	if n, err := r.store.Read(ctx, name, 0, nil); !errors.Is(err, blob.ErrNotFound) || n != 0 {
		return fmt.Errorf("read of no bytes of a missing object: %d bytes, %w", n, unexpected(err))
	}
	for info, err := range r.store.List(ctx, name) {
		return fmt.Errorf("list of a missing name yields %q, %w", info.Name, unexpected(err))
	}
	return nil
}

func (r *run) exists(ctx context.Context) error {
	name, first := r.name("exists"), pattern(2, 5000)
	if err := r.store.Put(ctx, name, first, blob.PutOptions{}); err != nil {
		return err
	}
	for _, second := range [][]byte{pattern(3, 5000), pattern(3, 10), nil, first} {
		if err := r.store.Put(ctx, name, second, blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
			return fmt.Errorf("second put of a name: %w", unexpected(err))
		}
	}
	return r.compare(ctx, name, first)
}

func (r *run) race(ctx context.Context) error {
	for round := range 4 {
		name := r.name("race-%d", round)
		var winners atomic.Int32
		var winner atomic.Int32
		start := make(chan struct{})
		group, groupCtx := errgroup.WithContext(ctx)
		for i := range parallelPuts {
			data := pattern(byte(i), 50_000+i)
			group.Go(func() error {
				<-start
				err := r.store.Put(groupCtx, name, data, blob.PutOptions{})
				if err == nil {
					winners.Add(1)
					winner.Store(int32(i))
				} else if !errors.Is(err, blob.ErrExists) {
					return err
				}
				return nil
			})
		}
		close(start)
		if err := group.Wait(); err != nil {
			return fmt.Errorf("put in a race: %w", err)
		}
		if n := winners.Load(); n != 1 {
			return fmt.Errorf("%d of %d puts at once succeeded", n, parallelPuts)
		}
		won := int(winner.Load())
		if err := r.compare(ctx, name, pattern(byte(won), 50_000+won)); err != nil {
			return fmt.Errorf("winner of a race: %w", err)
		}
	}
	return nil
}

func (r *run) ranges(ctx context.Context) error {
	const size = 10_000
	name, data := r.name("ranges"), pattern(4, size)
	if err := r.store.Put(ctx, name, data, blob.PutOptions{}); err != nil {
		return err
	}
	for _, c := range []struct{ offset, length, want int }{
		{0, 1, 1},
		{0, size, size},
		{0, size + 100, size},
		{1, 4096, 4096},
		{4097, 512, 512},
		{size - 1, 1, 1},
		{size - 1, 10, 1},
		{size, 10, 0},
		{size + 1, 10, 0},
		{size * 100, 1, 0},
		{5, 0, 0},
		{size, 0, 0},
	} {
		p := bytes.Repeat([]byte{0xEE}, c.length+1)
		n, err := r.store.Read(ctx, name, int64(c.offset), p[:c.length])
		if err != nil || n != c.want {
			return fmt.Errorf("read of %d bytes at %d of an object of %d: %d bytes, %w", c.length, c.offset, size, n, unexpected(err))
		}
		if n > 0 && !bytes.Equal(p[:n], data[c.offset:c.offset+n]) {
			return fmt.Errorf("read of %d bytes at %d returns wrong bytes", c.length, c.offset)
		}
		if p[c.length] != 0xEE {
			return fmt.Errorf("read of %d bytes at %d writes past the buffer", c.length, c.offset)
		}
	}
	return nil
}

func (r *run) empty(ctx context.Context) error {
	return r.putAndCompare(ctx, r.name("empty"), nil)
}

func (r *run) large(ctx context.Context) error {
	return r.putAndCompare(ctx, r.name("large"), pattern(5, r.LargeBytes))
}

func (r *run) names(ctx context.Context) error {
	want := []string{
		"names/-", "names/--x-/-", "names/0", "names/a-b/x", "names/a.b", "names/a.b.c/d.e", "names/a/b/c/d/e/f/g/h", "names/a_b",
		"names/abcdefghijklmnopqrstuvwxyz0123456789", "names/z/" + string(bytes.Repeat([]byte("l"), blob.SegmentBytesMax)),
	}
	for i, name := range want {
		if err := r.putAndCompare(ctx, r.name("%s", name), pattern(byte(i), 10+i)); err != nil {
			return fmt.Errorf("name %q: %w", name, err)
		}
		want[i] = r.Prefix + "/" + name
	}
	slices.Sort(want)
	if err := r.compareList(ctx, r.Prefix+"/names/", want); err != nil {
		return err
	}
	return r.compareList(ctx, r.Prefix+"/names/a", slices.DeleteFunc(want, func(name string) bool {
		return !bytes.HasPrefix([]byte(name), []byte(r.Prefix+"/names/a"))
	}))
}

func (r *run) notKept(ctx context.Context) error {
	name, data := r.name("not-kept"), pattern(6, 70_000)
	if err := r.store.Put(ctx, name, data, blob.PutOptions{}); err != nil {
		return err
	}
	clear(data)
	return r.compare(ctx, name, pattern(6, 70_000))
}

func (r *run) concurrentReaders(ctx context.Context) error {
	const size = 1 << 20
	name, data := r.name("concurrent"), pattern(7, size)
	if err := r.store.Put(ctx, name, data, blob.PutOptions{}); err != nil {
		return err
	}
	return parallel(ctx, 8*parallelPuts, func(ctx context.Context, i int) error {
		offset := i * 7919 % size
		p := make([]byte, 20_000)
		n, err := r.store.Read(ctx, name, int64(offset), p)
		if err != nil {
			return err
		}
		if want := data[offset:min(offset+len(p), size)]; !bytes.Equal(p[:n], want) {
			return fmt.Errorf("one of many readers at once got wrong bytes at %d", offset)
		}
		return nil
	})
}

func (r *run) cancelled(ctx context.Context) error {
	dead, cancel := context.WithCancel(ctx)
	cancel()
	data := pattern(8, 3<<20)
	if err := r.store.Put(dead, r.name("cancelled-before"), data, blob.PutOptions{}); err == nil {
		return errors.New("put with a cancelled context succeeds")
	}
	if _, err := r.store.Stat(ctx, r.Prefix+"/cancelled-before"); !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("after a put that was cancelled before it began: %w", unexpected(err))
	}
	name := r.name("cancelled-during")
	during, cancelDuring := context.WithCancel(ctx)
	group := new(errgroup.Group)
	var putErr error
	group.Go(func() error {
		putErr = r.store.Put(during, name, data, blob.PutOptions{})
		return nil
	})
	cancelDuring()
	_ = group.Wait() // its function returns no error; putErr is judged below
	_, err := r.store.Stat(ctx, name)
	switch {
	case err == nil:
		return r.compare(ctx, name, data)
	case errors.Is(err, blob.ErrNotFound) && putErr != nil:
		return nil
	case errors.Is(err, blob.ErrNotFound):
		return errors.New("a put that succeeded while it was cancelled left nothing")
	}
	return err
}

func (r *run) list(ctx context.Context) error {
	want := make([]string, r.ListCount)
	for i := range want {
		want[i] = r.name("list/%02x/%06d", i%7, i)
	}
	err := parallel(ctx, len(want), func(ctx context.Context, i int) error {
		return r.store.Put(ctx, want[i], pattern(byte(i), i%5), blob.PutOptions{})
	})
	if err != nil {
		return err
	}
	slices.Sort(want)
	if err := r.compareList(ctx, r.Prefix+"/list/", want); err != nil {
		return err
	}
	folder := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return name[len(r.Prefix)+6:len(r.Prefix)+8] != "03" })
	if err := r.compareList(ctx, r.Prefix+"/list/03/", folder); err != nil {
		return err
	}
	return r.stopEarly(ctx)
}

// stopEarly proves that a consumer may leave a list.
func (r *run) stopEarly(ctx context.Context) error {
	seen := 0
	for _, err := range r.store.List(ctx, r.Prefix+"/list/") {
		if err != nil {
			return err
		}
		if seen++; seen == 3 {
			break
		}
	}
	return nil
}

func (r *run) remove(ctx context.Context) error {
	if r.Remover == nil {
		return skip{"no right to remove"}
	}
	name := r.name("remove")
	for round := range 2 {
		if err := r.putAndCompare(ctx, name, pattern(byte(9+round), 100+round)); err != nil {
			return err
		}
		for range 2 {
			if err := r.Remover.Remove(ctx, name); err != nil {
				return fmt.Errorf("remove: %w", err)
			}
			if _, err := r.store.Stat(ctx, name); !errors.Is(err, blob.ErrNotFound) {
				return fmt.Errorf("stat of a removed object: %w", unexpected(err))
			}
		}
	}
	return nil
}

func (r *run) lockRefused(ctx context.Context) error {
	if r.Locker != nil {
		return skip{"the store locks objects"}
	}
	name := r.name("lock-refused")
	err := r.store.Put(ctx, name, []byte("x"), blob.PutOptions{LockUntil: r.Clock.Now().Add(r.LockFor)})
	if !holdfast.IsKind(err, holdfast.KindInvalid) {
		return fmt.Errorf("put with a lock on a store without locks: %w", unexpected(err))
	}
	if _, err := r.store.Stat(ctx, name); !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("after a put that was refused: %w", unexpected(err))
	}
	return nil
}

// unexpected describes an error, or its absence, that a check did not want.
func unexpected(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return fmt.Errorf("unexpected: %w", err)
}
