package export_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	tib = int64(1) << 40

	version    = "2020-10-02"
	snapshotID = "/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/snapshots/"
)

// bench is an endpoint with volumes, on a clock that stands still.
type bench struct {
	testing.TB
	clock   *clock.Manual
	volumes *vdisk.Store
	service *export.Service
	config  export.Config
	client  *http.Client
	handler http.Handler // what the server calls; replaced by a restart
}

func newBench(t testing.TB, adjust func(*export.Config)) *bench {
	t.Helper()
	b := &bench{TB: t, clock: clock.NewManual(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))}
	volumes, err := vdisk.Open(t.TempDir())
	b.must(err)
	t.Cleanup(func() { _ = volumes.Close() })
	b.volumes = volumes
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	b.client = server.Client()
	b.config = export.Config{Dir: t.TempDir(), Volumes: volumes, Clock: b.clock, BaseURL: func() string { return server.URL }}
	if adjust != nil {
		adjust(&b.config)
	}
	b.restart()
	return b
}

// restart opens the service anew on the same directory.
func (b *bench) restart() {
	b.Helper()
	service, err := export.Open(b.config)
	b.must(err)
	b.service, b.handler = service, service.Handler()
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) create(size int64) vdisk.ID {
	b.Helper()
	v, err := b.volumes.Create(size)
	b.must(err)
	return v.ID
}

func (b *bench) write(id vdisk.ID, off int64, data []byte) {
	b.Helper()
	_, err := b.volumes.WriteAt(id, data, off)
	b.must(err)
}

func (b *bench) snapshot(id vdisk.ID) vdisk.ID {
	b.Helper()
	v, err := b.volumes.Snapshot(id)
	b.must(err)
	return v.ID
}

// read grants reading for an hour, the resource being named after the volume.
func (b *bench) read(id vdisk.ID) string {
	b.Helper()
	url, _, err := b.service.Grant(readOptions(id))
	b.must(err)
	return url
}

func readOptions(id vdisk.ID) export.GrantOptions {
	return export.GrantOptions{Resource: snapshotID + string(id), Volume: id, Access: export.Read, Duration: time.Hour}
}

func (b *bench) upload(id vdisk.ID) string {
	b.Helper()
	url, _, err := b.service.Grant(export.GrantOptions{
		Resource: snapshotID + string(id), Volume: id, Access: export.Write, Duration: time.Hour, Upload: true,
	})
	b.must(err)
	return url
}

// sdk returns Microsoft's client, pinned to a service version that disks accept and without retries.
func (b *bench) sdk(url string) *pageblob.Client {
	b.Helper()
	client, err := pageblob.NewClientWithNoCredential(url, &pageblob.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: b.client, PerCallPolicies: []policy.Policy{pinnedVersion{}}, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	b.must(err)
	return client
}

type pinnedVersion struct{}

func (pinnedVersion) Do(r *policy.Request) (*http.Response, error) {
	r.Raw().Header.Set("x-ms-version", version)
	return r.Next()
}

// sdkExtents follows a listing of Microsoft's client to its end and sorts its two lists into one.
func (b *bench) sdkExtents(client *pageblob.Client, previousURL string, window pageblobRange, perPage int32) (extents []holdfast.Extent, pages int) {
	b.Helper()
	add := func(list pageblob.PageList) {
		for _, r := range list.PageRange {
			extents = append(extents, holdfast.Extent{Offset: *r.Start, Length: *r.End + 1 - *r.Start})
		}
		for _, r := range list.ClearRange {
			extents = append(extents, holdfast.Extent{Offset: *r.Start, Length: *r.End + 1 - *r.Start, Zero: true})
		}
		pages++
	}
	if previousURL == "" {
		pager := client.NewGetPageRangesPager(&pageblob.GetPageRangesOptions{MaxResults: &perPage, Range: window})
		for pager.More() {
			page, err := pager.NextPage(b.Context())
			b.must(err)
			add(page.PageList)
		}
	} else {
		pager := client.NewGetPageRangesDiffPager(&pageblob.GetPageRangesDiffOptions{MaxResults: &perPage, Range: window, PrevSnapshotURL: &previousURL})
		for pager.More() {
			page, err := pager.NextPage(b.Context())
			b.must(err)
			add(page.PageList)
		}
	}
	slices.SortFunc(extents, func(a, b holdfast.Extent) int { return int(a.Offset/512 - b.Offset/512) })
	return extents, pages
}

// answer is what a plain HTTP request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// code returns the error code, after checking that header and body agree on it.
func (a answer) code(t testing.TB) string {
	t.Helper()
	code := a.header.Get("x-ms-error-code")
	if len(a.body) == 0 || code == "" {
		return code
	}
	var body struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}
	if err := xml.Unmarshal(a.body, &body); err != nil || body.Code != code || body.Message == "" {
		t.Errorf("the body %q does not fit the code %s: %v", a.body, code, err)
	}
	return code
}

// do sends a request with the service version, unless headers say otherwise. Headers come as name, value pairs.
func (b *bench) do(method, url string, body io.Reader, headers ...string) answer {
	b.Helper()
	return b.doContext(b.Context(), method, url, body, headers...)
}

func (b *bench) doContext(ctx context.Context, method, url string, body io.Reader, headers ...string) answer {
	b.Helper()
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	b.must(err)
	request.Header.Set("x-ms-version", version)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := b.client.Do(request)
	b.must(err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	b.must(err)
	return answer{response.StatusCode, response.Header, content}
}

func (b *bench) want(a answer, status int, code string) {
	b.Helper()
	if a.status != status || a.code(b) != code {
		b.Errorf("got %d %s, want %d %s; body %.300s", a.status, a.code(b), status, code, a.body)
	}
}

func wantCode(t testing.TB, err error, status int, code string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != status || response.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func pattern(length int64, seed byte) []byte {
	return bytes.Repeat([]byte{seed, seed + 1, seed + 2, seed + 3}, int(length/4))
}

// and adds query parameters to a URL.
func and(url string, parameters ...string) string { return url + "&" + strings.Join(parameters, "&") }
