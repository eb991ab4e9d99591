package diskdata

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-backup/holdfast"
)

// ReadAt fills p with the bytes at offset; the range lies inside the disk. What arrived before a connection broke is not
// fetched again.
func (b *Blob) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if offset < 0 || offset+int64(len(p)) > b.config.SizeBytes {
		return holdfast.Errorf(holdfast.KindInternal, "read of %d bytes at %d is outside %s", len(p), offset, b.config.Name)
	}
	filled := 0
	return b.try(ctx, "read "+b.config.Name, func(ctx context.Context, g grant) (bool, error) {
		n, err := fetch(ctx, g, p[filled:], offset+int64(filled))
		filled += n
		return n > 0, err
	})
}

// fetch reads one range and returns how many bytes of it arrived.
func fetch(ctx context.Context, g grant, p []byte, offset int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	response, err := g.client.DownloadStream(ctx, &blob.DownloadStreamOptions{
		Range: blob.HTTPRange{Offset: offset, Count: int64(len(p))},
	})
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	// A server or proxy that overlooks the range would hand us the wrong bytes.
	if response.ContentRange == nil || !strings.HasPrefix(*response.ContentRange, fmt.Sprintf("bytes %d-", offset)) {
		return 0, holdfast.Errorf(holdfast.KindUnavailable, "the endpoint did not answer with the range that was asked for")
	}
	n, err := io.ReadFull(response.Body, p)
	if err != nil {
		return n, fmt.Errorf("%w: %d of %d bytes", errShortBody, n, len(p))
	}
	return n, nil
}

// WriteAt writes p at offset. Both are multiples of 512; the footer's 512 bytes after the disk's end may be written too.
func (b *Blob) WriteAt(ctx context.Context, p []byte, offset int64) error {
	if offset%512 != 0 || len(p)%512 != 0 || offset < 0 || offset+int64(len(p)) > b.config.SizeBytes+512 {
		return holdfast.Errorf(holdfast.KindInternal, "write of %d bytes at %d does not fit %s", len(p), offset, b.config.Name)
	}
	for len(p) > 0 {
		part := p[:min(len(p), writeBytesMax)]
		err := b.try(ctx, "write "+b.config.Name, func(ctx context.Context, g grant) (bool, error) {
			body := streaming.NopCloser(bytes.NewReader(part))
			_, err := g.client.UploadPages(ctx, body, blob.HTTPRange{Offset: offset, Count: int64(len(part))}, nil)
			return false, err
		})
		if err != nil {
			return err
		}
		p, offset = p[len(part):], offset+int64(len(part))
	}
	return nil
}
