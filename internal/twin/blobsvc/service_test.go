package blobsvc_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

const account = "shopvault"

// twin is a blob service with the containers plain and worm, over TLS and over plain HTTP.
type twin struct {
	t          *testing.T
	dir        string
	service    *blobsvc.Service
	clock      *clock.Manual
	tls, plain *httptest.Server
	decision   fault.Decision // what the fault engine says about every request
	credential *container.SharedKeyCredential
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	w := &twin{t: t, dir: t.TempDir(), clock: clock.NewManual(time.Unix(1_800_000_000, 0))}
	w.open()
	must(t, w.service.CreateAccount(account, ""))
	must(t, w.service.CreateContainer(account, "plain", false))
	must(t, w.service.CreateContainer(account, "worm", true))
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.service.Handler().ServeHTTP(rw, r.WithContext(fault.With(r.Context(), w.decision)))
	})
	w.tls, w.plain = httptest.NewTLSServer(handler), httptest.NewServer(handler)
	t.Cleanup(func() {
		w.tls.Close()
		w.plain.Close()
		must(t, w.service.Close())
	})
	key, err := w.service.AccountKey(account)
	must(t, err)
	w.credential, err = container.NewSharedKeyCredential(account, key)
	must(t, err)
	return w
}

// open opens the service in the folder, as a process does that starts.
func (w *twin) open() {
	w.t.Helper()
	var err error
	w.service, err = blobsvc.Open(blobsvc.Config{
		Dir: w.dir, Clock: w.clock, BaseURL: func() string { return w.tls.URL },
		Verify: func(r *http.Request, audiences ...string) error {
			if r.Header.Get("Authorization") != "Bearer "+token || !slices.Contains(audiences, "https://storage.azure.com/") {
				return errors.New("wrong token")
			}
			return nil
		},
	})
	must(w.t, err)
}

// restart opens the folder again as after a kill: the old service is not closed before.
func (w *twin) restart() {
	w.t.Helper()
	old := w.service
	w.open()
	must(w.t, old.Close())
}

func (w *twin) options() policy.ClientOptions {
	return policy.ClientOptions{Transport: w.tls.Client(), Retry: policy.RetryOptions{MaxRetries: -1}}
}

// container returns a client with the account's key over TLS.
func (w *twin) container(name string) *container.Client {
	w.t.Helper()
	client, err := container.NewClientWithSharedKeyCredential(w.tls.URL+"/"+account+"/"+name, w.credential, &container.ClientOptions{ClientOptions: w.options()})
	must(w.t, err)
	return client
}

func (w *twin) account() *service.Client {
	w.t.Helper()
	client, err := service.NewClientWithSharedKeyCredential(w.tls.URL+"/"+account, w.credential, &service.ClientOptions{ClientOptions: w.options()})
	must(w.t, err)
	return client
}

func (w *twin) put(client *container.Client, name, data string, options *blockblob.UploadOptions) blockblob.UploadResponse {
	w.t.Helper()
	response, err := client.NewBlockBlobClient(name).Upload(w.t.Context(), body(data), options)
	must(w.t, err)
	return response
}

func (w *twin) read(client *blob.Client) string {
	w.t.Helper()
	response, err := client.DownloadStream(w.t.Context(), nil)
	must(w.t, err)
	data, err := io.ReadAll(response.Body)
	must(w.t, errors.Join(err, response.Body.Close()))
	return string(data)
}

func body(data string) io.ReadSeekCloser { return streaming.NopCloser(strings.NewReader(data)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused proves that err is the service's refusal with that status and code.
func refused(t *testing.T, what string, err error, status int, code string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != status || response.ErrorCode != code {
		t.Errorf("%s: want %d %s, got %v", what, status, code, err)
	}
}

func createOnly() *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

// What was acknowledged is there after a kill, with all its properties; a line that the kill cut off is dropped, and so are
// contents that no record names.
func TestService_SurvivesKill(t *testing.T) {
	w := newTwin(t)
	client := w.container("worm")
	w.put(client, "a", "first", &blockblob.UploadOptions{Metadata: map[string]*string{"colour": to.Ptr("red")}})
	w.put(client, "a", "second", nil)
	w.put(client, "gone", "x", nil)
	_, err := client.NewBlobClient("gone").Delete(t.Context(), nil)
	must(t, err)
	_, err = client.NewBlockBlobClient("blocks").StageBlock(t.Context(), "YQ==", body("staged"), nil)
	must(t, err)
	before, err := client.NewBlobClient("a").GetProperties(t.Context(), nil)
	must(t, err)

	journal, err := os.OpenFile(filepath.Join(w.dir, "journal"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = journal.WriteString(`{"a":"shopvault","c":"plain","b":"half`)
	must(t, errors.Join(err, journal.Close()))
	orphan := filepath.Join(w.dir, "content", "ab", "abandoned")
	must(t, errors.Join(os.MkdirAll(filepath.Dir(orphan), 0o700), os.WriteFile(orphan, []byte("x"), 0o600)))
	w.restart()

	after, err := client.NewBlobClient("a").GetProperties(t.Context(), nil)
	must(t, err)
	if *after.ETag != *before.ETag || *after.VersionID != *before.VersionID || w.read(client.NewBlobClient("a")) != "second" {
		t.Errorf("after the kill: %v %v, before: %v %v", *after.ETag, *after.VersionID, *before.ETag, *before.VersionID)
	}
	if versions := w.names(client, container.ListBlobsInclude{Versions: true}); strings.Join(versions, " ") != "a a gone" {
		t.Errorf("versions after the kill: %v", versions)
	}
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a content that nobody names: %v", err)
	}
	_, err = client.NewBlockBlobClient("blocks").CommitBlockList(t.Context(), []string{"YQ=="}, nil)
	must(t, err)
	if got := w.read(client.NewBlobClient("blocks")); got != "staged" {
		t.Errorf("block staged before the kill: %q", got)
	}
	w.restart()
	if got := w.put(client, "b", "x", nil); *got.ETag == *after.ETag {
		t.Error("an ETag was given out twice")
	}
}

// A journal that is mostly history is rewritten at the start, and means the same.
func TestService_CompactsJournal(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	w.put(client, "kept", "x", nil)
	blobClient := client.NewBlobClient("kept")
	line := ""
	{
		data, err := os.ReadFile(filepath.Join(w.dir, "journal"))
		must(t, err)
		lines := strings.SplitAfter(strings.TrimSpace(string(data)), "\n")
		line = lines[len(lines)-1] + "\n"
	}
	journal, err := os.OpenFile(filepath.Join(w.dir, "journal"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = journal.WriteString(strings.Repeat(line, 11_000))
	must(t, errors.Join(err, journal.Close()))
	w.restart()
	info, err := os.Stat(filepath.Join(w.dir, "journal"))
	must(t, err)
	if info.Size() > int64(20*len(line)) {
		t.Errorf("the journal still has %d bytes", info.Size())
	}
	w.put(client, "later", "y", nil)
	w.restart()
	if got := w.read(blobClient) + w.read(client.NewBlobClient("later")); got != "xy" {
		t.Errorf("after two restarts: %q", got)
	}
}

// names lists all names, an entry per version.
func (w *twin) names(client *container.Client, include container.ListBlobsInclude) []string {
	w.t.Helper()
	var names []string
	pager := client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Include: include, MaxResults: to.Ptr(int32(2))})
	for pager.More() {
		page, err := pager.NextPage(w.t.Context())
		must(w.t, err)
		if len(page.Segment.BlobItems) > 2 {
			w.t.Errorf("a page of 2 has %d", len(page.Segment.BlobItems))
		}
		for _, item := range page.Segment.BlobItems {
			names = append(names, *item.Name)
		}
	}
	return names
}

// Conditions are judged with the codes that the platform uses.
func TestConditions(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	first := w.put(client, "a", "first", nil)
	blockClient, blobClient := client.NewBlockBlobClient("a"), client.NewBlobClient("a")
	upload := func(conditions blob.ModifiedAccessConditions) error {
		_, err := blockClient.Upload(t.Context(), body("x"), &blockblob.UploadOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &conditions}})
		return err
	}
	refused(t, "create-only put", upload(blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}), 409, "BlobAlreadyExists")
	_, err := blockClient.CommitBlockList(t.Context(), nil, &blockblob.CommitBlockListOptions{AccessConditions: createOnly()})
	refused(t, "create-only block list", err, 409, "BlobAlreadyExists")
	refused(t, "If-None-Match with the tag", upload(blob.ModifiedAccessConditions{IfNoneMatch: first.ETag}), 412, "ConditionNotMet")
	refused(t, "If-Match with another tag", upload(blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(`"0x1"`))}), 412, "ConditionNotMet")
	refused(t, "If-Modified-Since now", upload(blob.ModifiedAccessConditions{IfModifiedSince: first.LastModified}), 412, "ConditionNotMet")
	refused(t, "If-Unmodified-Since before", upload(blob.ModifiedAccessConditions{IfUnmodifiedSince: to.Ptr(first.LastModified.Add(-time.Minute))}), 412, "ConditionNotMet")
	must(t, upload(blob.ModifiedAccessConditions{IfMatch: first.ETag}))
	refused(t, "the old tag after a change", upload(blob.ModifiedAccessConditions{IfMatch: first.ETag}), 412, "ConditionNotMet")
	now, err := blobClient.GetProperties(t.Context(), nil)
	must(t, err)
	known, err := blobClient.DownloadStream(t.Context(), &blob.DownloadStreamOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: now.ETag}}})
	if err != nil || known.ErrorCode == nil || *known.ErrorCode != "ConditionNotMet" { // the SDK takes 304 for an answer
		t.Errorf("read of what is known: %v, %v", known.ErrorCode, err)
	}
	_, err = client.NewBlockBlobClient("none").Upload(t.Context(), body("x"), &blockblob.UploadOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: now.ETag}}})
	refused(t, "If-Match without a blob", err, 412, "ConditionNotMet")
	_, err = client.NewBlobClient("none").GetProperties(t.Context(), nil)
	refused(t, "missing blob", err, 404, "BlobNotFound")
	_, err = w.container("none").NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "missing container", err, 404, "ContainerNotFound")
}

// Ranges, checksums of ranges, and checksums of uploads.
func TestTransfer(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	blockClient, blobClient := client.NewBlockBlobClient("a"), client.NewBlobClient("a")
	w.put(client, "a", "0123456789", nil)
	for _, c := range []struct {
		offset, count int64
		want          string
	}{{0, 3, "012"}, {7, 0, "789"}, {8, 100, "89"}} {
		response, err := blobClient.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: c.offset, Count: c.count}, RangeGetContentMD5: to.Ptr(true)})
		must(t, err)
		data, err := io.ReadAll(response.Body)
		must(t, err)
		if string(data) != c.want || len(response.ContentMD5) != 16 || response.BlobContentMD5 == nil || bytes.Equal(response.ContentMD5, response.BlobContentMD5) {
			t.Errorf("range %d+%d: %q, MD5 %x of %x", c.offset, c.count, data, response.ContentMD5, response.BlobContentMD5)
		}
	}
	_, err := blobClient.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 10, Count: 1}})
	refused(t, "range behind the end", err, 416, "InvalidRange")
	_, err = blockClient.Upload(t.Context(), body("x"), &blockblob.UploadOptions{TransactionalValidation: blob.TransferValidationTypeMD5(make([]byte, 16))})
	refused(t, "wrong MD5", err, 400, "Md5Mismatch")
	_, err = blockClient.Upload(t.Context(), body("x"), &blockblob.UploadOptions{TransactionalValidation: blob.TransferValidationTypeCRC64(1)})
	refused(t, "wrong CRC64", err, 400, "Crc64Mismatch")
	_, err = blockClient.StageBlock(t.Context(), "YQ==", body("x"), &blockblob.StageBlockOptions{TransactionalValidation: blob.TransferValidationTypeCRC64(1)})
	refused(t, "wrong CRC64 of a block", err, 400, "Crc64Mismatch")
	_, err = blockClient.Upload(t.Context(), body("checked"), &blockblob.UploadOptions{TransactionalValidation: blob.TransferValidationTypeComputeCRC64()})
	must(t, err)
	if got := w.read(blobClient); got != "checked" {
		t.Errorf("after refused uploads: %q", got)
	}
}

// Blocks: staged ones are no blob, a list chooses among committed and uncommitted ones, and unknown ones are refused.
func TestBlocks(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain").NewBlockBlobClient("a")
	id := func(n int) string { return fmt.Sprintf("YmxvY2s%d", n) }
	for n, data := range []string{"zero-", "one-", "two-"} {
		_, err := client.StageBlock(t.Context(), id(n), body(data), nil)
		must(t, err)
	}
	_, err := client.GetProperties(t.Context(), nil)
	refused(t, "blob of staged blocks", err, 404, "BlobNotFound")
	_, err = client.CommitBlockList(t.Context(), []string{id(2), id(0)}, &blockblob.CommitBlockListOptions{AccessConditions: createOnly()})
	must(t, err)
	if got := w.read(client.BlobClient()); got != "two-zero-" {
		t.Errorf("committed: %q", got)
	}
	_, err = client.StageBlock(t.Context(), id(1), body("new-"), nil)
	must(t, err)
	_, err = client.CommitBlockList(t.Context(), []string{id(0), id(1), id(2), id(0)}, nil)
	must(t, err)
	if got := w.read(client.BlobClient()); got != "zero-new-two-zero-" {
		t.Errorf("committed again: %q", got)
	}
	list, err := client.GetBlockList(t.Context(), blockblob.BlockListTypeAll, nil)
	must(t, err)
	if len(list.CommittedBlocks) != 4 || len(list.UncommittedBlocks) != 0 || *list.CommittedBlocks[1].Name != id(1) || *list.CommittedBlocks[1].Size != 4 {
		t.Errorf("block list %+v", list.BlockList)
	}
	_, err = client.CommitBlockList(t.Context(), []string{id(7)}, nil)
	refused(t, "unknown block", err, 400, "InvalidBlockList")
	_, err = client.StageBlock(t.Context(), "YQ==", body("x"), nil)
	must(t, err)
	_, err = client.StageBlock(t.Context(), "YWFh", body("x"), nil)
	must(t, err)
	_, err = client.StageBlock(t.Context(), "YWFhYWFh", body("x"), nil)
	refused(t, "block id of another length", err, 400, "InvalidBlobOrBlock")
}

// The MD5 that comes with a block list is the blob's, which the service keeps and cannot check; rclone sends one always.
func TestBlocks_MD5OfTheBlob(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain").NewBlockBlobClient("a")
	_, err := client.StageBlock(t.Context(), "YQ==", body("content"), nil)
	must(t, err)
	sum := md5.Sum([]byte("content"))
	_, err = client.CommitBlockList(t.Context(), []string{"YQ=="}, &blockblob.CommitBlockListOptions{HTTPHeaders: &blob.HTTPHeaders{BlobContentMD5: sum[:]}})
	must(t, err)
	properties, err := client.GetProperties(t.Context(), nil)
	must(t, err)
	if !bytes.Equal(properties.ContentMD5, sum[:]) {
		t.Errorf("MD5 of the blob: %x", properties.ContentMD5)
	}
	_, err = client.Upload(t.Context(), body("other"), &blockblob.UploadOptions{HTTPHeaders: &blob.HTTPHeaders{BlobContentMD5: sum[:]}})
	refused(t, "blob with another content's MD5", err, 400, "Md5Mismatch")
}

// What the service does not carry out is refused, never taken silently.
func TestUnsupported(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	w.put(client, "a", "x", nil)
	_, err := client.NewBlobClient("a").CreateSnapshot(t.Context(), nil)
	refused(t, "snapshot", err, 501, "NotImplemented")
	_, err = client.NewPageBlobClient("p").Create(t.Context(), 512, nil)
	refused(t, "page blob", err, 501, "NotImplemented")
	_, err = client.NewBlobClient("a").SetTags(t.Context(), map[string]string{"a": "b"}, nil)
	refused(t, "tags", err, 501, "NotImplemented")
	_, err = client.NewBlockBlobClient("t").Upload(t.Context(), body("x"), &blockblob.UploadOptions{Tags: map[string]string{"a": "b"}})
	refused(t, "tags at upload", err, 400, "UnsupportedHeader")
	for header, want := range map[string]string{"x-ms-structured-body": "UnsupportedHeader", "x-ms-version": "InvalidHeaderValue"} {
		options := w.options()
		options.PerRetryPolicies = []policy.Policy{setHeader{header, "2031-01-01"}}
		odd, err := container.NewClientWithNoCredential(w.sas("plain", "racwdl", 0), &container.ClientOptions{ClientOptions: options})
		must(t, err)
		_, err = odd.NewBlockBlobClient("s").Upload(t.Context(), body("x"), nil)
		refused(t, header, err, 400, want)
	}
	if names := w.names(client, container.ListBlobsInclude{}); len(names) != 1 {
		t.Errorf("what was refused left %v", names)
	}
}

type setHeader struct{ name, value string }

func (s setHeader) Do(r *policy.Request) (*http.Response, error) {
	r.Raw().Header.Set(s.name, s.value)
	return r.Next()
}

// Accounts and containers are made once; the same again is no error, something else is.
func TestCreate(t *testing.T) {
	w := newTwin(t)
	must(t, w.service.CreateAccount(account, ""))
	must(t, w.service.CreateContainer(account, "worm", true))
	for what, err := range map[string]error{
		"other key":          w.service.CreateAccount(account, "b3RoZXI="),
		"other immutability": w.service.CreateContainer(account, "worm", false),
		"bad account":        w.service.CreateAccount("No", ""),
		"bad key":            w.service.CreateAccount("other", "%"),
		"bad container":      w.service.CreateContainer(account, "a--b", false),
		"no account":         w.service.CreateContainer("nobody", "abc", false),
		"shared key, nobody": w.service.AllowSharedKey("nobody", false),
	} {
		if kind := holdfast.KindOf(err); kind != holdfast.KindConflict && kind != holdfast.KindInvalid && kind != holdfast.KindNotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	client := w.account()
	_, err := client.CreateContainer(t.Context(), "made", nil)
	must(t, err)
	_, err = client.CreateContainer(t.Context(), "made", nil)
	refused(t, "container twice", err, 409, "ContainerAlreadyExists")
	var names []string
	pager := client.NewListContainersPager(&service.ListContainersOptions{MaxResults: to.Ptr(int32(1))})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		must(t, err)
		for _, item := range page.ContainerItems {
			names = append(names, fmt.Sprint(*item.Name, " ", *item.Properties.IsImmutableStorageWithVersioningEnabled))
		}
	}
	if strings.Join(names, ",") != "made false,plain false,worm true" {
		t.Errorf("containers: %v", names)
	}
	_, err = client.DeleteContainer(t.Context(), "made", nil)
	must(t, err)
	_, err = client.DeleteContainer(t.Context(), "made", nil)
	refused(t, "container deleted twice", err, 404, "ContainerNotFound")
}

// A put is made by exactly one of many, also under overwriting traffic beside it.
func TestRace_OneWinner(t *testing.T) {
	w := newTwin(t)
	client := w.container("plain")
	results := make(chan error)
	for i := range 16 {
		go func() {
			_, err := client.NewBlockBlobClient("a").Upload(context.WithoutCancel(t.Context()), body(fmt.Sprint(i)), &blockblob.UploadOptions{AccessConditions: createOnly()})
			results <- err
		}()
	}
	winners := 0
	for range 16 {
		if err := <-results; err == nil {
			winners++
		} else if !bloberror.HasCode(err, bloberror.BlobAlreadyExists) {
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d winners", winners)
	}
}
