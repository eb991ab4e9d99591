package blob

import (
	"context"

	"github.com/holdfast-backup/holdfast"
)

// firstRead is what ReadAll asks for before it knows the size: most small objects come in one request.
const firstRead = 32 << 10

// ReadAll returns a whole object of at most limit bytes. A missing object is ErrNotFound, a larger one KindCorrupt.
func ReadAll(ctx context.Context, store Reader, name string, limit int64) ([]byte, error) {
	return ReadInto(ctx, store, name, nil, limit)
}

// ReadInto is ReadAll into buffer's memory, where the object fits. Who reads many large objects gives the same buffer again.
func ReadInto(ctx context.Context, store Reader, name string, buffer []byte, limit int64) ([]byte, error) {
	data := buffer[:cap(buffer)]
	if len(data) < firstRead {
		data = make([]byte, firstRead)
	}
	data = data[:min(int64(len(data)), limit+1)]
	n, err := store.Read(ctx, name, 0, data)
	if err != nil || n < len(data) {
		return data[:n], err
	}
	info, err := store.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if info.Size > limit {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s has %d bytes, more than the %d that it may have", name, info.Size, limit)
	}
	data = append(data, make([]byte, max(0, info.Size-int64(n)))...)
	more, err := store.Read(ctx, name, int64(n), data[n:])
	return data[:n+more], err
}
