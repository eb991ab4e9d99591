package main

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// rootOfFile computes the root of what a file holds, from its bytes up (§7): it knows nothing of how they came there.
func rootOfFile(ctx context.Context, k *keys, s shape, file *os.File) ([32]byte, error) {
	b := &builder{keys: k, fanOut: int64(s.FanOut)}
	const chunksAtOnce = 16
	content := make([]byte, chunksAtOnce*s.ChunkSize)
	for first := int64(0); first < s.chunks; {
		if err := context.Cause(ctx); err != nil {
			return [32]byte{}, err
		}
		data, err := nextData(file, first*int64(s.ChunkSize))
		if err != nil {
			return [32]byte{}, err
		}
		if first = data / int64(s.ChunkSize); first >= s.chunks {
			break
		}
		offset, length := s.extent(first, chunksAtOnce)
		if _, err := io.ReadFull(io.NewSectionReader(file, offset, length), content[:length]); err != nil {
			return [32]byte{}, err
		}
		for i, id := range chunkIDs(k, content[:length], s.ChunkSize) {
			if id != nil {
				b.add(0, first+int64(i), *id)
			}
		}
		first += chunksAtOnce
	}
	return k.rootOf(s.size, s.parameters, b.top(s.height)), nil
}

// nextData returns the first offset from which on a file may hold data. Only Linux is asked; elsewhere holes are read.
func nextData(file *os.File, offset int64) (int64, error) {
	const seekData = 3 // SEEK_DATA of lseek(2)
	if runtime.GOOS != "linux" {
		return offset, nil
	}
	data, err := file.Seek(offset, seekData)
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, syscall.ENXIO): // nothing but a hole up to the end
		return math.MaxInt64, nil
	case errors.Is(err, syscall.EINVAL): // the filesystem does not say
		return offset, nil
	default:
		return 0, err
	}
}

// chunkIDs computes the ids of neighbouring chunks at once; nil for chunks of zeros.
func chunkIDs(k *keys, content []byte, chunkSize int) []*[32]byte {
	ids := make([]*[32]byte, (len(content)+chunkSize-1)/chunkSize)
	var hashing sync.WaitGroup
	for i := range ids {
		hashing.Go(func() {
			if chunk := content[i*chunkSize : min((i+1)*chunkSize, len(content))]; !allZero(chunk) {
				id := k.chunkID(chunk)
				ids[i] = &id
			}
		})
	}
	hashing.Wait()
	return ids
}

// builder makes the ids of nodes from the ids of chunks that come in order. Of each level it holds one node.
type builder struct {
	keys   *keys
	fanOut int64
	levels []building
}

// building is a node to which children may still come.
type building struct {
	number int64 // which node of its level
	bitmap []byte
	ids    []byte
}

// add puts child number n of all children of a level into its node.
func (b *builder) add(level int, n int64, id [32]byte) {
	for len(b.levels) <= level {
		b.levels = append(b.levels, building{bitmap: make([]byte, b.fanOut/8)})
	}
	if len(b.levels[level].ids) > 0 && b.levels[level].number != n/b.fanOut {
		b.finish(level)
	}
	open := &b.levels[level]
	open.number = n / b.fanOut
	open.bitmap[n%b.fanOut/8] |= 1 << (n % 8)
	open.ids = append(open.ids, id[:]...)
}

// finish gives a level's node to the level above.
func (b *builder) finish(level int) {
	done := b.levels[level]
	b.levels[level] = building{bitmap: make([]byte, b.fanOut/8)}
	b.add(level+1, done.number, b.keys.nodeID(byte(level), done.bitmap, done.ids))
}

// top returns the id of the only node of the highest level; zeros when no chunk came.
func (b *builder) top(height int) (id [32]byte) {
	for level := range height {
		if level < len(b.levels) && len(b.levels[level].ids) > 0 {
			b.finish(level)
		}
	}
	if len(b.levels) > height {
		copy(id[:], b.levels[height].ids)
	}
	return id
}
