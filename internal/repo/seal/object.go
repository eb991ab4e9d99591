package seal

import (
	"context"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Object is a sealed object whose directory has been read.
type Object struct {
	Header Header
	Opener *Opener
	Frames []Frame
	Extra  []byte // what follows the frame records in the directory
}

// OpenObject reads header, trailer and directory of an object in the store. Damage is KindCorrupt and names the object; a
// missing one is blob.ErrNotFound.
func OpenObject(ctx context.Context, store blob.Reader, name string, ring *keys.Ring, codec *Codec, limit int64) (*Object, error) {
	info, err := store.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	if info.Size > limit {
		return nil, Damaged(name, corrupt("it has %d bytes, more than %d", info.Size, limit))
	}
	header, opener, err := ReadHeader(ctx, store, name, ring, codec)
	if err != nil {
		return nil, err
	}
	var end [TrailerSize]byte
	if n, err := store.Read(ctx, name, max(0, info.Size-TrailerSize), end[:]); err != nil || n < len(end) {
		return nil, ShortRead(name, info.Size-TrailerSize, err)
	}
	trailer, err := ParseTrailer(end[:], info.Size)
	if err != nil {
		return nil, Damaged(name, err)
	}
	stored := make([]byte, trailer.Stored)
	if n, err := store.Read(ctx, name, trailer.Directory, stored); err != nil || n < len(stored) {
		return nil, ShortRead(name, trailer.Directory, err)
	}
	frames, extra, err := opener.Directory(stored, trailer, ItemsOf(header.Kind))
	if err != nil {
		return nil, Damaged(name, err)
	}
	return &Object{Header: header, Opener: opener, Frames: frames, Extra: extra}, nil
}

// Reading is what OpenSized needs to know.
type Reading struct {
	Store blob.Reader
	Name  string
	Size  int64 // bytes of the object, as a log entry states it
	Ring  *keys.Ring
	Codec *Codec
}

// Sizes of the reads of OpenSized.
const (
	wholeBytesMax = 128 << 10 // objects up to that are read at once
	tailBytes     = 32 << 10  // of others so much of the end, where most directories fit
)

// OpenSized is OpenObject for an object whose size is known. Small objects are read at once, and then their bytes are returned too;
// others in two reads, or three when the directory is long.
func OpenSized(ctx context.Context, in Reading) (object *Object, whole []byte, err error) {
	if in.Size < HeaderSize+Overhead+TrailerSize || in.Size > layout.IndexRunBytesMax {
		return nil, nil, Damaged(in.Name, corrupt("it is said to have %d bytes", in.Size))
	}
	if in.Size <= wholeBytesMax {
		whole := make([]byte, in.Size+1) // a longer object is not the one that is meant
		n, err := in.Store.Read(ctx, in.Name, 0, whole)
		if err != nil || int64(n) != in.Size {
			return nil, nil, ShortRead(in.Name, in.Size, err)
		}
		object, err := ParseObject(in.Name, whole[:n], in.Ring, in.Codec)
		return object, whole[:n], err
	}
	header, opener, err := ReadHeader(ctx, in.Store, in.Name, in.Ring, in.Codec)
	if err != nil {
		return nil, nil, err
	}
	end := make([]byte, tailBytes)
	if n, err := in.Store.Read(ctx, in.Name, in.Size-tailBytes, end); err != nil || n < len(end) {
		return nil, nil, ShortRead(in.Name, in.Size-tailBytes, err)
	}
	trailer, err := ParseTrailer(end[tailBytes-TrailerSize:], in.Size)
	if err != nil {
		return nil, nil, Damaged(in.Name, err)
	}
	stored := end[max(0, tailBytes-TrailerSize-trailer.Stored) : tailBytes-TrailerSize]
	if trailer.Stored > len(stored) {
		stored = make([]byte, trailer.Stored)
		if n, err := in.Store.Read(ctx, in.Name, trailer.Directory, stored); err != nil || n < len(stored) {
			return nil, nil, ShortRead(in.Name, trailer.Directory, err)
		}
	}
	frames, extra, err := opener.Directory(stored, trailer, ItemsOf(header.Kind))
	if err != nil {
		return nil, nil, Damaged(in.Name, err)
	}
	return &Object{Header: header, Opener: opener, Frames: frames, Extra: extra}, nil, nil
}

// ParseObject is OpenObject for an object whose bytes are all in memory; they are left as they are.
func ParseObject(name string, data []byte, ring *keys.Ring, codec *Codec) (*Object, error) {
	if len(data) < HeaderSize+TrailerSize {
		return nil, Damaged(name, corrupt("it is too short to be a sealed object"))
	}
	header, err := ParseHeader(data)
	if err != nil {
		return nil, Damaged(name, err)
	}
	opener, err := NewOpener(ring, header, codec)
	if err != nil {
		return nil, Damaged(name, err)
	}
	trailer, err := ParseTrailer(data[len(data)-TrailerSize:], int64(len(data)))
	if err != nil {
		return nil, Damaged(name, err)
	}
	stored := append([]byte(nil), data[trailer.Directory:trailer.Directory+int64(trailer.Stored)]...)
	frames, extra, err := opener.Directory(stored, trailer, ItemsOf(header.Kind))
	if err != nil {
		return nil, Damaged(name, err)
	}
	return &Object{Header: header, Opener: opener, Frames: frames, Extra: extra}, nil
}

// ReadHeader reads the header of an object in the store and prepares to open its frames.
func ReadHeader(ctx context.Context, store blob.Reader, name string, ring *keys.Ring, codec *Codec) (Header, *Opener, error) {
	var b [HeaderSize]byte
	if n, err := store.Read(ctx, name, 0, b[:]); err != nil || n < len(b) {
		return Header{}, nil, ShortRead(name, 0, err)
	}
	header, err := ParseHeader(b[:])
	if err != nil {
		return Header{}, nil, Damaged(name, err)
	}
	opener, err := NewOpener(ring, header, codec)
	if err != nil {
		return Header{}, nil, Damaged(name, err)
	}
	return header, opener, nil
}

// Damaged names the object that an error of this package belongs to.
func Damaged(name string, err error) error {
	return holdfast.Wrap(holdfast.KindCorrupt, err, "%s is damaged", name)
}

// ShortRead is the error for an object that ends before it should; err, if any, is what the store said.
func ShortRead(name string, offset int64, err error) error {
	if err != nil {
		return err
	}
	return holdfast.Errorf(holdfast.KindCorrupt, "%s ends before offset %d is read", name, offset)
}
