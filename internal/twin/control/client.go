package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
)

// The files of a twin's folder that Dial reads.
const (
	AccessFile = "control.json" // address and token; readable by its owner alone
	CAFile     = "ca.pem"
)

// Access is the content of AccessFile.
type Access struct {
	URL   string `json:"url"` // such as https://127.0.0.1:4433
	Token string `json:"token"`
}

// Client speaks to a running twin. Safe for concurrent use.
type Client struct {
	access Access
	http   *http.Client
}

// Dial prepares a client for the twin that serves dir. No connection is made yet. KindUnavailable means that the folder
// shows no twin.
func Dial(dir string) (*Client, error) {
	data, err := os.ReadFile(filepath.Join(dir, AccessFile))
	if err != nil {
		return nil, unreachable(err, dir)
	}
	var access Access
	if err := json.Unmarshal(data, &access); err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "%s cannot be read", filepath.Join(dir, AccessFile)).WithHint("start the twin again")
	}
	ca, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, unreachable(err, dir)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "%s holds no certificate", filepath.Join(dir, CAFile)).WithHint("start the twin again")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: false}
	return &Client{access: access, http: &http.Client{Transport: transport}}, nil
}

func unreachable(err error, where string) error {
	return holdfast.Wrap(holdfast.KindUnavailable, err, "no twin answers for %s", where).
		WithHint("start one with: holdfast twin serve --dir DIR, and wait until it prints ready")
}

// Close releases idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Write puts length bytes of content into the disk at offset, as its guest would. After an error a part may have been
// written.
func (c *Client) Write(ctx context.Context, diskID string, offset int64, content io.Reader, length int64) error {
	query := url.Values{"disk": {diskID}, "offset": {strconv.FormatInt(offset, 10)}}
	request, err := c.request(ctx, http.MethodPost, "disk/write", query, content)
	if err != nil {
		return err
	}
	if request.ContentLength = length; length == 0 {
		request.Body = http.NoBody
	}
	return c.do(request, nil)
}

// Zero makes a range of the disk read as zeros, as a guest's discard would.
func (c *Client) Zero(ctx context.Context, diskID string, offset, length int64) error {
	return c.call(ctx, http.MethodPost, "disk/zero", url.Values{
		"disk": {diskID}, "offset": {strconv.FormatInt(offset, 10)}, "length": {strconv.FormatInt(length, 10)},
	}, nil, nil)
}

// Resize grows the disk.
func (c *Client) Resize(ctx context.Context, diskID string, sizeGiB int64) error {
	return c.call(ctx, http.MethodPost, "disk/resize", url.Values{"disk": {diskID}, "sizeGiB": {strconv.FormatInt(sizeGiB, 10)}}, nil, nil)
}

// ReadFile puts the content of the disk or snapshot into a sparse raw file of exactly the disk's size, which it returns.
// The file appears under its name only when it is complete; one that is there is replaced.
func (c *Client) ReadFile(ctx context.Context, diskID, file string) (size int64, err error) {
	part, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the file %s cannot be made", file)
	}
	defer func() {
		if err != nil {
			_ = part.Close()
			_ = os.Remove(part.Name())
		}
	}()
	if size, err = c.Read(ctx, diskID, part); err != nil {
		return 0, err
	}
	for _, step := range []func() error{
		func() error { return part.Truncate(size) },
		part.Close,
		func() error { return os.Rename(part.Name(), file) },
	} {
		if err := step(); err != nil {
			return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the file %s cannot be completed", file)
		}
	}
	return size, nil
}

// Read writes what is allocated on the disk or snapshot into target, at the same offsets, and returns the disk's size.
// Everything else of the disk is zeros. After an error target holds a part.
func (c *Client) Read(ctx context.Context, diskID string, target io.WriterAt) (size int64, err error) {
	request, err := c.request(ctx, http.MethodGet, "disk/read", url.Values{"disk": {diskID}}, nil)
	if err != nil {
		return 0, err
	}
	response, err := c.send(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if size, err = strconv.ParseInt(response.Header.Get(sizeHeader), 10, 64); err != nil {
		return 0, holdfast.Wrap(holdfast.KindInternal, err, "the twin did not tell the size of the disk")
	}
	header, content := make([]byte, frameHeader), make([]byte, chunkBytes)
	for {
		if _, err := io.ReadFull(response.Body, header); err != nil {
			return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the disk's content broke off")
		}
		offset, length := int64(binary.BigEndian.Uint64(header)), int64(binary.BigEndian.Uint64(header[8:]))
		if length == 0 && offset == size {
			return size, nil
		}
		if length < 1 || length > chunkBytes || offset < 0 || offset > size-length {
			return 0, holdfast.Errorf(holdfast.KindInternal, "the twin sent a piece of %d bytes at %d of a disk of %d bytes", length, offset, size)
		}
		if _, err := io.ReadFull(response.Body, content[:length]); err != nil {
			return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the disk's content broke off")
		}
		if _, err := target.WriteAt(content[:length], offset); err != nil {
			return 0, holdfast.Wrap(holdfast.KindUnavailable, err, "the disk's content cannot be written")
		}
	}
}

// Resources lists every resource that exists, in the order of their ids.
func (c *Client) Resources(ctx context.Context) ([]Resource, error) {
	var resources []Resource
	err := c.call(ctx, http.MethodGet, "resources", nil, nil, &resources)
	return resources, err
}

// Delete removes a resource as an administrator would, past locks.
func (c *Client) Delete(ctx context.Context, resourceID string) error {
	return c.call(ctx, http.MethodDelete, "resource", url.Values{"id": {resourceID}}, nil, nil)
}

// Frozen returns the mount points of a machine's guest that are frozen, or will be when so much time has passed.
func (c *Client) Frozen(ctx context.Context, machineID string, ahead time.Duration) ([]string, error) {
	var frozen []string
	err := c.call(ctx, http.MethodGet, "guest/frozen", url.Values{"vm": {machineID}, "inMs": {strconv.FormatInt(ahead.Milliseconds(), 10)}}, nil, &frozen)
	return frozen, err
}

// Faults returns the plan in force.
func (c *Client) Faults(ctx context.Context) (fault.Plan, error) {
	var plan fault.Plan
	err := c.call(ctx, http.MethodGet, "faults", nil, nil, &plan)
	return plan, err
}

// SetFaults replaces the plan; the empty plan ends all faults.
func (c *Client) SetFaults(ctx context.Context, plan fault.Plan) error {
	return c.call(ctx, http.MethodPut, "faults", nil, plan, nil)
}

// FaultCounts returns how often each rule was matched and fired.
func (c *Client) FaultCounts(ctx context.Context) ([]fault.Count, error) {
	var counts []fault.Count
	err := c.call(ctx, http.MethodGet, "faults/counts", nil, nil, &counts)
	return counts, err
}

// Calls returns the calls that came after mark.
func (c *Client) Calls(ctx context.Context, mark int64) (Transcript, error) {
	var transcript Transcript
	err := c.call(ctx, http.MethodGet, "calls", url.Values{"since": {strconv.FormatInt(mark, 10)}}, nil, &transcript)
	return transcript, err
}

// Apply changes settings.
func (c *Client) Apply(ctx context.Context, settings Settings) error {
	return c.call(ctx, http.MethodPut, "settings", nil, settings, nil)
}

// ChangeKey changes a key of a vault as an administrator would, past permissions.
func (c *Client) ChangeKey(ctx context.Context, vault, key string, change keyvault.Change) error {
	return c.call(ctx, http.MethodPost, "vault/key", url.Values{"vault": {vault}, "key": {key}, "do": {string(change)}}, nil, nil)
}

// Permit sets what the twin's application may do in a vault.
func (c *Client) Permit(ctx context.Context, vault string, permissions []string) error {
	return c.call(ctx, http.MethodPut, "vault/permissions", url.Values{"vault": {vault}}, permissions, nil)
}

func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return holdfast.Wrap(holdfast.KindInternal, err, "the request cannot be written")
		}
		content = bytes.NewReader(encoded)
	}
	request, err := c.request(ctx, method, path, query, content)
	if err != nil {
		return err
	}
	return c.do(request, into)
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.access.URL+Prefix+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the twin's address %s cannot be used", c.access.URL)
	}
	request.Header.Set("Authorization", "Bearer "+c.access.Token)
	return request, nil
}

// do sends the request and decodes the answer into the value, nil meaning that it does not matter.
func (c *Client) do(request *http.Request, into any) error {
	response, err := c.send(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if into == nil {
		_, err = io.Copy(io.Discard, response.Body)
	} else {
		err = json.NewDecoder(response.Body).Decode(into)
	}
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's answer broke off")
	}
	return nil
}

// send returns a successful response, or the twin's error.
func (c *Client) send(request *http.Request) (*http.Response, error) {
	response, err := c.http.Do(request)
	if err != nil {
		if cause := context.Cause(request.Context()); cause != nil {
			return nil, cause
		}
		return nil, unreachable(err, c.access.URL)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(response.Body, requestBytesMax))
	var body wireError
	if err != nil || json.Unmarshal(text, &body) != nil || body.Error.Kind == "" {
		return nil, holdfast.Errorf(holdfast.KindInternal, "the twin answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return nil, &holdfast.Error{Kind: body.Error.Kind, Message: body.Error.Message, Hint: body.Error.Hint, Field: body.Error.Field}
}

// WriteAccess keeps the access for Dial. The file appears whole or not at all, for its owner alone.
func WriteAccess(dir string, access Access) error {
	text, err := json.Marshal(access)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "the control access cannot be written")
	}
	return WritePrivately(filepath.Join(dir, AccessFile), append(text, '\n'))
}

// RemoveAccess says that no twin serves dir any longer.
func RemoveAccess(dir string) error {
	if err := os.Remove(filepath.Join(dir, AccessFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the control access cannot be removed")
	}
	return nil
}

// WritePrivately replaces a file with content that only its owner can read; readers see the old content or the new.
func WritePrivately(file string, content []byte) error {
	staged, err := os.CreateTemp(filepath.Dir(file), fmt.Sprintf(".%s.*", filepath.Base(file))) // mode 0600
	if err != nil {
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the file %s cannot be written", file)
	}
	_, err = staged.Write(content)
	if err = errors.Join(err, staged.Close()); err == nil {
		err = os.Rename(staged.Name(), file)
	}
	if err != nil {
		_ = os.Remove(staged.Name())
		return holdfast.Wrap(holdfast.KindUnavailable, err, "the file %s cannot be written", file)
	}
	return nil
}
