package blobsvc

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/disk"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// The platform's limits (REST reference, "Scalability targets for Blob storage").
const (
	putBytesMax      = 5000 << 20
	blockBytesMax    = 4000 << 20
	blockIDBytesMax  = 64
	blocksMax        = 50_000
	uncommittedMax   = 100_000
	checksumMD5Bytes = 16
	checksumCRCBytes = 8
)

// putBlob is Put Blob of a block blob, and the front door of the copies.
func (s *Service) putBlob(c *call) error {
	if c.r.Header.Get("x-ms-copy-source") != "" {
		return s.copyBlob(c)
	}
	if kind := c.r.Header.Get("x-ms-blob-type"); kind == "" {
		return refusal.MissingHeader("x-ms-blob-type")
	} else if kind == "PageBlob" || kind == "AppendBlob" {
		return errNotImplemented
	} else if kind != "BlockBlob" {
		return refusal.InvalidHeader("x-ms-blob-type")
	}
	content, err := s.receiveWhole(c)
	if err != nil {
		return err
	}
	v := &version{Size: content.Size, File: content.File, MD5: content.MD5, Headers: c.contentHeaders(true)}
	if err := s.create(c, v, nil); err != nil {
		s.content.Remove(content.File)
		return err
	}
	header := c.w.Header()
	header.Set("Content-MD5", base64.StdEncoding.EncodeToString(content.MD5))
	if content.CRC != nil {
		header.Set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(content.CRC))
	}
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// receiveWhole is receive for a body that is the whole blob, which the blob's own MD5 speaks of. Other operations keep that
// header without checking it (REST reference, "Put Block List").
func (s *Service) receiveWhole(c *call) (disk.Stored, error) {
	want, err := c.checksum("x-ms-blob-content-md5", "InvalidMd5", checksumMD5Bytes)
	if err != nil {
		return disk.Stored{}, err
	}
	content, err := s.receive(c, putBytesMax)
	if err == nil && want != nil && !bytes.Equal(want, content.MD5) {
		s.content.Remove(content.File)
		return disk.Stored{}, errMD5Mismatch
	}
	return content, err
}

// receive stores the request's body and compares it with the checksums that came with it. What fails leaves no file.
func (s *Service) receive(c *call, bytesMax int64) (disk.Stored, error) {
	if c.r.ContentLength < 0 {
		return disk.Stored{}, refuse(http.StatusLengthRequired, "MissingContentLengthHeader", "Content-Length is required.")
	}
	if c.r.ContentLength > bytesMax {
		return disk.Stored{}, refuse(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The body is larger than the operation allows.")
	}
	wantMD5, err := c.checksum("Content-MD5", "InvalidMd5", checksumMD5Bytes)
	if err != nil {
		return disk.Stored{}, err
	}
	wantCRC, err := c.checksum("x-ms-content-crc64", "InvalidHeaderValue", checksumCRCBytes)
	if err != nil {
		return disk.Stored{}, err
	}
	content, err := s.content.Create(c.r.Body, wantCRC != nil)
	if err != nil {
		return disk.Stored{}, err
	}
	switch {
	case content.Size != c.r.ContentLength:
		err = refuse(http.StatusBadRequest, "InvalidInput", "The body ended early.")
	case wantMD5 != nil && !bytes.Equal(wantMD5, content.MD5):
		err = errMD5Mismatch
	case wantCRC != nil && !bytes.Equal(wantCRC, content.CRC):
		err = refuse(http.StatusBadRequest, "Crc64Mismatch", "The CRC64 of the body is not the one in the header.")
	}
	if err != nil {
		s.content.Remove(content.File)
		return disk.Stored{}, err
	}
	return content, nil
}

// checksum reads a header with a base64 checksum; nil when there is none.
func (c *call) checksum(name, code string, length int) ([]byte, error) {
	text := c.r.Header.Get(name)
	if text == "" {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sum) != length {
		return nil, refuse(http.StatusBadRequest, code, "Header "+name+" is no checksum.")
	}
	return sum, nil
}

// create makes v the blob's current version with everything that the request's headers say, and sets the answer's
// headers. complete, when given, finishes v under the lock. After an error v's file belongs to nobody.
func (s *Service) create(c *call, v *version, complete func(old *blobRecord) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, old, err := s.blob(c.target)
	if err != nil {
		return err
	}
	if err := c.mayCreate(old); err != nil {
		return err
	}
	if v.Metadata == nil {
		if v.Metadata, err = c.metadata(); err != nil {
			return err
		}
	}
	if v.Tier.Name == "" {
		if v.Tier, err = c.tierAtBirth(); err != nil {
			return err
		}
	}
	if v.Policy, v.Hold, err = c.policyAtBirth(cont); err != nil {
		return err
	}
	if complete != nil {
		if err := complete(old); err != nil {
			return err
		}
	}
	v.Stamp = s.nextStamp()
	v.Changed, v.Created = v.Stamp, v.Stamp
	next := old.clone()
	next.push(v, cont.VersionImmutability)
	next.Blocks, next.Lease = nil, next.Lease.AfterWrite(c.now)
	if err := s.saveBlob(c.target, old, next); err != nil {
		return err
	}
	c.answerWrite(cont, v)
	return nil
}

// mayCreate judges conditions, lease and a SAS without the right to overwrite.
func (c *call) mayCreate(old *blobRecord) error {
	cond, err := c.conditions()
	if err != nil {
		return err
	}
	v := old.current()
	if err := cond.forCreate(v); err != nil {
		return err
	}
	if v == nil {
		return nil
	}
	if c.grant.createOnly() {
		return refuse(http.StatusForbidden, "UnauthorizedBlobOverwrite", "The SAS permits to create blobs, not to overwrite them.")
	}
	return old.Lease.ForWrite(c.r.Header.Get("x-ms-lease-id"), "Blob", c.now)
}

// answerWrite sets the headers that every change of a blob answers with.
func (c *call) answerWrite(cont *container, v *version) {
	c.answerTag(v.etag(), v.modified())
	c.w.Header().Set("x-ms-request-server-encrypted", "true")
	if cont.VersionImmutability {
		c.w.Header().Set("x-ms-version-id", v.id())
	}
}

// putBlock is Put Block.
func (s *Service) putBlock(c *call) error {
	id := c.q.Get("blockid")
	raw, err := base64.StdEncoding.DecodeString(id)
	if err != nil || len(raw) == 0 || len(raw) > blockIDBytesMax {
		return refuse(http.StatusBadRequest, "InvalidQueryParameterValue", "The block id is not base64 of 1 to 64 bytes.")
	}
	if c.r.Header.Get("x-ms-copy-source") != "" {
		return errNotImplemented
	}
	if c.r.ContentLength == 0 { // a blob may be empty, a block may not (Azurite issue 329)
		return refusal.InvalidHeader("Content-Length")
	}
	content, err := s.receive(c, blockBytesMax)
	if err != nil {
		return err
	}
	if err := s.addBlock(c, block{ID: id, Size: content.Size, File: content.File}); err != nil {
		s.content.Remove(content.File)
		return err
	}
	header := c.w.Header()
	header.Set("Content-MD5", base64.StdEncoding.EncodeToString(content.MD5))
	if content.CRC != nil {
		header.Set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(content.CRC))
	}
	header.Set("x-ms-request-server-encrypted", "true")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Service) addBlock(c *call, added block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, old, err := s.blob(c.target)
	if err != nil {
		return err
	}
	var present []block
	if old != nil {
		present = old.Blocks
		if old.current() != nil {
			if err := old.Lease.ForWrite(c.r.Header.Get("x-ms-lease-id"), "Blob", c.now); err != nil {
				return err
			}
		}
	}
	if len(present) >= uncommittedMax {
		return refuse(http.StatusConflict, "BlockCountExceedsLimit", "There are too many uncommitted blocks.")
	}
	replaced := ""
	for _, b := range present {
		if len(b.ID) != len(added.ID) {
			return refuse(http.StatusBadRequest, "InvalidBlobOrBlock", "All block ids of a blob must have the same length.")
		}
		if b.ID == added.ID {
			replaced = b.File
		}
	}
	if err := s.save(entry{Account: c.account, Container: c.container, Blob: c.blob, Block: &added}); err != nil {
		return err
	}
	if replaced != "" {
		s.content.Remove(replaced)
	}
	return nil
}

// putBlockList is Put Block List.
func (s *Service) putBlockList(c *call) error {
	var list struct {
		XMLName xml.Name `xml:"BlockList"`
		Items   []struct {
			XMLName xml.Name
			ID      string `xml:",chardata"`
		} `xml:",any"`
	}
	raw, err := s.body(c)
	if err != nil {
		return err
	}
	if err := decodeXML(bytes.NewReader(raw), &list); err != nil {
		return err
	}
	if len(list.Items) > blocksMax {
		return refuse(http.StatusBadRequest, "BlockListTooLong", "A blob has at most 50,000 blocks.")
	}
	v := &version{Headers: c.contentHeaders(false)}
	if v.MD5, err = c.checksum("x-ms-blob-content-md5", "InvalidMd5", checksumMD5Bytes); err != nil {
		return err
	}
	err = s.create(c, v, func(old *blobRecord) error {
		chosen := make([]piece, 0, len(list.Items))
		for _, item := range list.Items {
			if !slices.Contains([]string{"Committed", "Uncommitted", "Latest"}, item.XMLName.Local) {
				return refuse(http.StatusBadRequest, "UnsupportedXmlNode", "A block list has elements Committed, Uncommitted and Latest.")
			}
			p, found := old.findBlock(item.XMLName.Local, strings.TrimSpace(item.ID))
			if !found {
				return refuse(http.StatusBadRequest, "InvalidBlockList", "A block of the list does not exist.")
			}
			chosen = append(chosen, p)
		}
		return s.assemble(v, chosen)
	})
	if err != nil {
		if v.File != "" {
			s.content.Remove(v.File)
		}
		return err
	}
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// body reads a small body and compares it with its checksums.
func (s *Service) body(c *call) ([]byte, error) {
	content, err := s.receive(c, xmlBytesMax)
	if err != nil {
		return nil, err
	}
	defer s.content.Remove(content.File)
	f, err := s.content.Open(content.File)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	return io.ReadAll(f)
}

// piece is a block with the place of its bytes.
type piece struct {
	block
	offset int64 // in the file
}

// findBlock looks a block up where the element's name says: Committed, Uncommitted, or Latest for both in reverse.
func (b *blobRecord) findBlock(where, id string) (piece, bool) {
	if b == nil {
		return piece{}, false
	}
	if where == "Uncommitted" || where == "Latest" {
		if i := slices.IndexFunc(b.Blocks, func(u block) bool { return u.ID == id }); i >= 0 {
			return piece{block: b.Blocks[i]}, true
		}
	}
	v := b.current()
	if v == nil || where != "Committed" && where != "Latest" {
		return piece{}, false
	}
	offset := int64(0)
	for _, committed := range v.Blocks {
		if committed.ID == id {
			return piece{block{ID: id, Size: committed.Size, File: v.File}, offset}, true
		}
		offset += committed.Size
	}
	return piece{}, false
}

// assemble writes the pieces into one file, which becomes the content of v.
func (s *Service) assemble(v *version, pieces []piece) error {
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := s.copyPieces(writer, pieces)
		_ = writer.CloseWithError(err) // documented to return nil
		done <- err
	}()
	content, err := s.content.Create(reader, false)
	_ = reader.CloseWithError(err) // documented to return nil; ends the copying when create failed
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	v.File, v.Size = content.File, content.Size
	for _, p := range pieces {
		v.Blocks = append(v.Blocks, block{ID: p.ID, Size: p.Size})
	}
	return nil
}

func (s *Service) copyPieces(w io.Writer, pieces []piece) error {
	for _, p := range pieces {
		f, err := s.content.Open(p.File)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, io.NewSectionReader(f, p.offset, p.Size))
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// getBlockList is Get Block List.
func (s *Service) getBlockList(c *call) error {
	s.mu.RLock()
	_, b, err := s.blob(c.target)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	if b == nil || b.current() == nil && len(b.Blocks) == 0 {
		return errBlobNotFound
	}
	type item struct {
		Name string
		Size int64
	}
	type items struct{ Block []item }
	var document struct {
		XMLName           xml.Name `xml:"BlockList"`
		CommittedBlocks   *items   `xml:",omitempty"`
		UncommittedBlocks *items   `xml:",omitempty"`
	}
	list := func(blocks []block) *items {
		all := &items{}
		for _, block := range blocks {
			all.Block = append(all.Block, item{block.ID, block.Size})
		}
		return all
	}
	which := strings.ToLower(c.q.Get("blocklisttype"))
	var committed []block
	if v := b.current(); v != nil {
		committed = v.Blocks
		c.answerTag(v.etag(), v.modified())
		c.w.Header().Set("x-ms-blob-content-length", formatInt(v.Size))
	}
	if which == "" || which == "committed" || which == "all" {
		document.CommittedBlocks = list(committed)
	}
	if which == "uncommitted" || which == "all" {
		document.UncommittedBlocks = list(b.Blocks)
	}
	writeXML(c.w, http.StatusOK, document)
	return nil
}
