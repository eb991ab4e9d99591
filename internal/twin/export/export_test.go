package export_test

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

type pageblobRange = blob.HTTPRange

func collect(t testing.TB, listing iter.Seq2[holdfast.Extent, error]) []holdfast.Extent {
	t.Helper()
	var extents []holdfast.Extent
	for e, err := range listing {
		if err != nil {
			t.Fatal(err)
		}
		extents = append(extents, e)
	}
	return extents
}

// TestEndpoint_SDKReads_SeeDiskAndFooter proves that Microsoft's client finds properties, all page ranges over several
// pages of a listing, and exactly the disk's bytes with a VHD footer behind them.
func TestEndpoint_SDKReads_SeeDiskAndFooter(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(8 * mib)
	want := make([]byte, 8*mib)
	for i := range int64(128) {
		copy(want[i*64*kib:], pattern(4*kib, byte(i)))
		b.write(disk, i*64*kib, pattern(4*kib, byte(i)))
	}
	frozen := b.snapshot(disk)
	client := b.sdk(b.read(frozen))

	properties, err := client.GetProperties(t.Context(), nil)
	b.must(err)
	if *properties.ContentLength != 8*mib+512 || *properties.BlobType != blob.BlobTypePageBlob || properties.ETag == nil || properties.LastModified == nil {
		t.Errorf("properties are %+v", properties)
	}
	extents, pages := b.sdkExtents(client, "", pageblobRange{}, 50)
	listed := append(collect(t, b.volumes.Allocated(frozen, holdfast.Extent{})), holdfast.Extent{Offset: 8 * mib, Length: 512})
	if !slices.Equal(extents, listed) || pages != 3 {
		t.Errorf("%d pages with %d ranges: %v", pages, len(extents), extents)
	}

	download, err := client.DownloadStream(t.Context(), nil)
	b.must(err)
	content, err := io.ReadAll(download.Body)
	b.must(err)
	b.must(download.Body.Close())
	if !bytes.Equal(content[:8*mib], want) {
		t.Error("other bytes than the disk's")
	}
	footer, err := vhd.Parse(content[8*mib:])
	if err != nil || footer.Size != 8*mib {
		t.Errorf("footer %+v: %v", footer, err)
	}

	part, err := client.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: pageblobRange{Offset: 64*kib + 1, Count: 5000}})
	b.must(err)
	content, err = io.ReadAll(part.Body)
	b.must(err)
	if !bytes.Equal(content, want[64*kib+1:64*kib+5001]) || *part.ContentRange != fmt.Sprintf("bytes %d-%d/%d", 64*kib+1, 64*kib+5000, 8*mib+512) {
		t.Errorf("a range of %d bytes came back, %s", len(content), *part.ContentRange)
	}
}

// TestEndpoint_SDKDiff_EqualsTheVolumes proves that a diff through the SDK, paged and windowed, is what the volumes say,
// and that changed and cleared ranges come interleaved in the XML.
func TestEndpoint_SDKDiff_EqualsTheVolumes(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(8 * mib)
	b.write(disk, 0, pattern(4*mib, 1))
	older := b.snapshot(disk)
	for i := range int64(60) {
		b.write(disk, i*32*kib, pattern(512, 9))
		b.must(b.volumes.Zero(disk, i*32*kib+8*kib, 4*kib))
	}
	newer := b.snapshot(disk)
	b.write(disk, 7*mib, pattern(512, 3)) // after the snapshot: in no diff
	olderURL, newerURL := b.read(older), b.read(newer)
	client := b.sdk(newerURL)

	extents, pages := b.sdkExtents(client, olderURL, pageblobRange{}, 50)
	want := collect(t, b.volumes.Diff(older, newer, holdfast.Extent{}))
	if len(want) != 120 || !slices.Equal(extents, want) || pages != 3 {
		t.Errorf("%d pages, %d ranges, want %d", pages, len(extents), len(want))
	}
	window := holdfast.Extent{Offset: 32*kib + 8*kib + 512, Length: 100 * kib}
	extents, _ = b.sdkExtents(client, olderURL, pageblobRange{Offset: window.Offset, Count: window.Length}, 2)
	if want := collect(t, b.volumes.Diff(older, newer, window)); len(want) != 7 || !slices.Equal(extents, want) {
		t.Errorf("in a window: %v, want %v", extents, want)
	}

	raw := b.do("GET", and(newerURL, "comp=pagelist"), nil, "x-ms-previous-snapshot-url", olderURL)
	kinds := regexp.MustCompile(`<(Page|Clear)Range>`).FindAllString(string(raw.body), -1)
	if len(kinds) != 120 || kinds[0] != "<PageRange>" || kinds[1] != "<ClearRange>" || kinds[2] != "<PageRange>" {
		t.Errorf("ranges are not interleaved: %v", kinds)
	}
	same := b.do("GET", and(newerURL, "comp=pagelist"), nil, "x-ms-previous-snapshot-url", newerURL)
	if same.status != http.StatusOK || strings.Contains(string(same.body), "Range>") {
		t.Errorf("a snapshot differs from itself: %s", same.body)
	}
}

// TestEndpoint_SDKUpload_FillsDiskAndFooter proves the way of a restore: pages written and cleared, read back through the
// same grant, the footer kept for validation and its disk free of it.
func TestEndpoint_SDKUpload_FillsDiskAndFooter(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(20 * mib)
	url := b.upload(disk)
	client := b.sdk(url)
	put := func(off int64, data []byte) {
		t.Helper()
		_, err := client.UploadPages(t.Context(), streaming.NopCloser(bytes.NewReader(data)), pageblobRange{Offset: off, Count: int64(len(data))}, nil)
		b.must(err)
	}
	if _, ok := b.service.UploadFooter(disk); ok {
		t.Error("a footer before any was written")
	}
	if extents, _ := b.sdkExtents(client, "", pageblobRange{}, 50); len(extents) != 0 {
		t.Errorf("a fresh upload lists %v", extents)
	}

	image := pattern(4*mib, 5)
	footer := vhd.Footer(20*mib, [16]byte{1}, b.clock.Now())
	put(16*mib, image)
	put(0, image)
	put(20*mib, footer[:])
	_, err := client.ClearPages(t.Context(), pageblobRange{Offset: mib, Count: 2 * mib}, nil)
	b.must(err)
	clear(image[mib : 3*mib])

	got, ok := b.service.UploadFooter(disk)
	if !ok || !bytes.Equal(got, footer[:]) {
		t.Errorf("the footer is %x, %v", got, ok)
	}
	extents, _ := b.sdkExtents(client, "", pageblobRange{}, 50)
	want := []holdfast.Extent{{Length: mib}, {Offset: 3 * mib, Length: mib}, {Offset: 16 * mib, Length: 4*mib + 512}}
	if !slices.Equal(extents, want) {
		t.Errorf("ranges %v, want %v", extents, want)
	}
	download, err := client.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: pageblobRange{Offset: 0, Count: 4 * mib}})
	b.must(err)
	content, err := io.ReadAll(download.Body)
	b.must(err)
	if !bytes.Equal(content, image) {
		t.Error("other bytes than written")
	}
	b.restart()
	if got, ok := b.service.UploadFooter(disk); !ok || !bytes.Equal(got, footer[:]) {
		t.Error("the footer did not survive a restart")
	}

	both := append(pattern(512, 8), make([]byte, 512)...) // the last page of the disk and the footer in one write
	put(20*mib-512, both)
	if got, ok := b.service.UploadFooter(disk); !ok || !bytes.Equal(got, both[512:]) {
		t.Error("a write across the end of the disk did not reach the footer")
	}
	_, err = client.ClearPages(t.Context(), pageblobRange{Offset: 20*mib - 512, Count: 1024}, nil)
	b.must(err)
	if _, ok := b.service.UploadFooter(disk); ok {
		t.Error("a cleared footer is still there")
	}
}

// TestEndpoint_Refusals_AreThePlatforms proves the status and code of each refusal, in the header and in the XML.
func TestEndpoint_Refusals_AreThePlatforms(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(20 * mib)
	frozen := b.snapshot(disk)
	read, write := b.read(frozen), b.upload(disk)
	pages := func(n int64) io.Reader { return bytes.NewReader(make([]byte, n)) }
	list, page := and(read, "comp=pagelist"), and(write, "comp=page")
	update := []string{"x-ms-page-write", "update", "x-ms-range"}

	for name, row := range map[string]struct {
		method, url string
		body        io.Reader
		headers     []string
		status      int
		code        string
	}{
		"If-Match":              {"GET", read, nil, []string{"If-Match", "*"}, 400, "ConditionHeadersNotSupported"},
		"If-None-Match":         {"GET", read, nil, []string{"If-None-Match", "*"}, 400, "ConditionHeadersNotSupported"},
		"If-Modified-Since":     {"HEAD", read, nil, []string{"If-Modified-Since", "Mon, 04 May 2026 12:00:00 GMT"}, 400, "ConditionHeadersNotSupported"},
		"If-Unmodified-Since":   {"GET", list, nil, []string{"If-Unmodified-Since", "Mon, 04 May 2026 12:00:00 GMT"}, 400, "ConditionHeadersNotSupported"},
		"newer version":         {"GET", read, nil, []string{"x-ms-version", "2026-06-06"}, 400, "InvalidHeaderValue"},
		"no version":            {"GET", read, nil, []string{"x-ms-version", "latest"}, 400, "InvalidHeaderValue"},
		"HEAD newer version":    {"HEAD", read, nil, []string{"x-ms-version", "2026-06-06"}, 400, "InvalidHeaderValue"},
		"range behind the end":  {"GET", read, nil, []string{"x-ms-range", "bytes=20972032-20972033"}, 416, "InvalidRange"},
		"list behind the end":   {"GET", list, nil, []string{"x-ms-range", "bytes=20972032-20972543"}, 416, "InvalidRange"},
		"range backwards":       {"GET", read, nil, []string{"x-ms-range", "bytes=9-8"}, 400, "InvalidHeaderValue"},
		"range of the end":      {"GET", read, nil, []string{"Range", "bytes=-512"}, 400, "InvalidHeaderValue"},
		"range in lines":        {"GET", read, nil, []string{"Range", "lines=0-5"}, 400, "InvalidHeaderValue"},
		"large hash":            {"GET", read, nil, []string{"x-ms-range-get-content-md5", "true", "x-ms-range", "bytes=0-4194304"}, 400, "OutOfRangeInput"},
		"maxresults 0":          {"GET", and(list, "maxresults=0"), nil, nil, 400, "OutOfRangeQueryParameterValue"},
		"foreign marker":        {"GET", and(list, "marker=abc"), nil, nil, 400, "InvalidQueryParameterValue"},
		"prevsnapshot":          {"GET", and(list, "prevsnapshot=2026-05-04T12:00:00.0000000Z"), nil, nil, 400, "InvalidQueryParameterValue"},
		"create":                {"PUT", write, nil, []string{"x-ms-blob-type", "PageBlob", "x-ms-blob-content-length", "512"}, 403, "AuthorizationPermissionMismatch"},
		"delete":                {"DELETE", write, nil, nil, 403, "AuthorizationPermissionMismatch"},
		"set metadata":          {"PUT", and(write, "comp=metadata"), nil, nil, 403, "AuthorizationPermissionMismatch"},
		"take a snapshot":       {"PUT", and(write, "comp=snapshot"), nil, nil, 403, "AuthorizationPermissionMismatch"},
		"post":                  {"POST", write, nil, nil, 405, "UnsupportedHttpVerb"},
		"write a snapshot":      {"PUT", and(read, "comp=page"), pages(512), append(update, "bytes=0-511"), 403, "AuthorizationPermissionMismatch"},
		"write without a range": {"PUT", page, pages(512), update[:2], 400, "MissingRequiredHeader"},
		"write without a mode":  {"PUT", page, pages(512), update[2:2], 400, "MissingRequiredHeader"},
		"write half a page":     {"PUT", page, pages(256), append(update, "bytes=0-255"), 416, "InvalidPageRange"},
		"write askew":           {"PUT", page, pages(512), append(update, "bytes=256-767"), 416, "InvalidPageRange"},
		"write behind the end":  {"PUT", page, pages(1024), append(update, "bytes=20971520-20972543"), 416, "InvalidPageRange"},
		"write too much":        {"PUT", page, pages(4*mib + 512), append(update, "bytes=0-4194815"), 413, "RequestBodyTooLarge"},
		"write another length":  {"PUT", page, pages(1024), append(update, "bytes=0-511"), 400, "InvalidHeaderValue"},
		"write a stream":        {"PUT", page, io.MultiReader(pages(512)), append(update, "bytes=0-511"), 411, "MissingContentLengthHeader"},
		"write sideways":        {"PUT", page, pages(512), []string{"x-ms-page-write", "sideways", "x-ms-range", "bytes=0-511"}, 400, "InvalidHeaderValue"},
		"clear behind the end":  {"PUT", page, nil, []string{"x-ms-page-write", "clear", "x-ms-range", "bytes=0-20972543"}, 416, "InvalidPageRange"},
		"write framed":          {"PUT", page, pages(512), append(update, "bytes=0-511", "x-ms-structured-body", "XSM/1.0; properties=crc64"), 400, "UnsupportedHeader"},
		"copy from a URL":       {"PUT", page, nil, append(update, "bytes=0-511", "x-ms-copy-source", read), 400, "UnsupportedHeader"},
		"write conditionally":   {"PUT", page, pages(512), append(update, "bytes=0-511", "x-ms-if-sequence-number-le", "0"), 400, "ConditionHeadersNotSupported"},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.TB = t
			got := inner.do(row.method, row.url, row.body, slices.Clone(row.headers)...)
			inner.want(got, row.status, row.code)
			if got.header.Get("x-ms-request-id") == "" || got.header.Get("ETag") != "" {
				t.Errorf("headers are %v", got.header)
			}
		})
	}
	if found := collect(t, b.volumes.Allocated(disk, holdfast.Extent{})); len(found) != 0 {
		t.Errorf("a refused write left %v", found)
	}
}

// TestEndpoint_ContentMD5_IsIgnoredOnWrite proves the platform's behaviour: a wrong hash does no harm.
func TestEndpoint_ContentMD5_IsIgnoredOnWrite(t *testing.T) {
	b := newBench(t, nil)
	url := b.upload(b.create(mib))
	got := b.do("PUT", and(url, "comp=page"), bytes.NewReader(pattern(512, 1)),
		"x-ms-page-write", "update", "Range", "bytes=0-511", "Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==")
	b.want(got, http.StatusCreated, "")
	if got.header.Get("Content-MD5") != "" || got.header.Get("ETag") == "" {
		t.Errorf("headers are %v", got.header)
	}
}

// TestEndpoint_Ranges_AreServedAsAsked proves the forms of a range, x-ms-range going before Range, and the end's clipping.
func TestEndpoint_Ranges_AreServedAsAsked(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(64 * kib)
	b.write(disk, 0, pattern(64*kib, 1))
	url := b.read(b.snapshot(disk))
	whole := b.do("GET", url, nil)
	if whole.status != http.StatusOK || len(whole.body) != int(64*kib+512) || whole.header.Get("x-ms-version") != version {
		t.Fatalf("the whole blob: %d, %d bytes, version %s", whole.status, len(whole.body), whole.header.Get("x-ms-version"))
	}
	for _, row := range []struct {
		headers     []string
		first, last int64
	}{
		{[]string{"Range", "bytes=0-0"}, 0, 0},
		{[]string{"Range", "bytes=0-0", "x-ms-range", "bytes=5-6"}, 5, 6},
		{[]string{"x-ms-range", "bytes=65000-"}, 65000, 66047},
		{[]string{"x-ms-range", "bytes=65535-99999999"}, 65535, 66047},
		{[]string{"x-ms-range", "bytes=65536-66047"}, 65536, 66047},
		{[]string{"x-ms-range", "bytes=66047-66047", "x-ms-range-get-content-md5", "true"}, 66047, 66047},
	} {
		got := b.do("GET", url, nil, row.headers...)
		wantRange := fmt.Sprintf("bytes %d-%d/66048", row.first, row.last)
		if got.status != http.StatusPartialContent || got.header.Get("Content-Range") != wantRange || !bytes.Equal(got.body, whole.body[row.first:row.last+1]) {
			t.Errorf("%v: %d, %s, %d bytes", row.headers, got.status, got.header.Get("Content-Range"), len(got.body))
		}
		if hashed := got.header.Get("Content-MD5") != ""; hashed != (len(row.headers) == 4 && row.first == 66047) {
			t.Errorf("%v: hash %q", row.headers, got.header.Get("Content-MD5"))
		}
	}
}

// TestEndpoint_PagingByVersion proves that before 2020-10-02 a list comes whole, and after it by pages of at most 10,000.
func TestEndpoint_PagingByVersion(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(32 * mib)
	const ranges = 10_010
	for i := range int64(ranges) {
		b.write(disk, i*1024, pattern(512, 1))
	}
	list := and(b.read(b.snapshot(disk)), "comp=pagelist")
	count := func(a answer) int { return strings.Count(string(a.body), "<PageRange>") }

	old := b.do("GET", and(list, "maxresults=5"), nil, "x-ms-version", "2019-12-12")
	if count(old) != ranges+1 || strings.Contains(string(old.body), "NextMarker") {
		t.Errorf("the old version lists %d ranges", count(old))
	}
	b.want(b.do("GET", and(list, "marker=x"), nil, "x-ms-version", "2019-12-12"), 400, "InvalidQueryParameterValue")
	for _, url := range []string{list, and(list, "maxresults=50000")} {
		first := b.do("GET", url, nil)
		marker := regexp.MustCompile(`<NextMarker>(.+)</NextMarker>`).FindSubmatch(first.body)
		if count(first) != 10_000 || marker == nil {
			t.Fatalf("the first page has %d ranges, marker %q", count(first), marker)
		}
		second := b.do("GET", and(url, "marker="+string(marker[1])), nil)
		if count(second) != 11 || !strings.Contains(string(second.body), "<NextMarker></NextMarker>") {
			t.Errorf("the second page has %d ranges", count(second))
		}
	}
}

// TestEndpoint_32TiB_ListsAndReadsItsEnd proves 64-bit arithmetic up to the footer of the largest ordinary disk.
func TestEndpoint_32TiB_ListsAndReadsItsEnd(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(32 * tib)
	b.write(disk, 32*tib-mib, pattern(mib, 1))
	client := b.sdk(b.read(b.snapshot(disk)))
	extents, _ := b.sdkExtents(client, "", pageblobRange{Offset: 31 * tib}, 50)
	if want := []holdfast.Extent{{Offset: 32*tib - mib, Length: mib + 512}}; !slices.Equal(extents, want) {
		t.Errorf("ranges %v", extents)
	}
	download, err := client.DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: pageblobRange{Offset: 32*tib - 512, Count: 1024}})
	b.must(err)
	content, err := io.ReadAll(download.Body)
	b.must(err)
	if footer, err := vhd.Parse(content[512:]); err != nil || footer.Size != 32*tib || !bytes.Equal(content[:512], pattern(512, 1)) {
		t.Errorf("footer %+v: %v", footer, err)
	}
}

// TestEndpoint_DiffRefusals_AreThePlatforms proves when there is no diff.
func TestEndpoint_DiffRefusals_AreThePlatforms(t *testing.T) {
	b := newBench(t, nil)
	disk, other := b.create(mib), b.create(mib)
	first, second, foreign := b.snapshot(disk), b.snapshot(disk), b.snapshot(other)
	firstURL, secondURL, diskURL := b.read(first), b.read(second), b.read(disk)
	gone := b.snapshot(disk)
	goneURL := b.read(gone)
	_, err := b.service.Revoke(snapshotID + string(gone))
	b.must(err)
	deleted := b.snapshot(disk)
	deletedURL := b.read(deleted)
	b.must(b.volumes.Delete(deleted))

	large := b.create(4 * tib)
	before := b.snapshot(large)
	b.must(b.volumes.Resize(large, 4*tib+mib))
	after := b.snapshot(large)
	grown := b.create(mib)
	small := b.snapshot(grown)
	b.must(b.volumes.Resize(grown, 2*mib))
	bigger := b.snapshot(grown)

	otherFamily := readOptions(second)
	otherFamily.Resource, otherFamily.Family = otherFamily.Resource+"-moved", "renewed"
	movedURL, _, err := b.service.Grant(otherFamily)
	b.must(err)

	for name, row := range map[string]struct {
		url, previous, version string
		status                 int
		code                   string
	}{
		"newer":           {firstURL, secondURL, version, 400, "PreviousSnapshotCannotBeNewer"},
		"another disk":    {secondURL, b.read(foreign), version, 409, "PreviousSnapshotOperationNotSupported"},
		"a live disk":     {secondURL, diskURL, version, 409, "PreviousSnapshotOperationNotSupported"},
		"of a live disk":  {diskURL, firstURL, version, 409, "PreviousSnapshotOperationNotSupported"},
		"renewed family":  {movedURL, firstURL, version, 409, "PreviousSnapshotOperationNotSupported"},
		"across 4 TiB":    {b.read(after), b.read(before), version, 409, "PreviousSnapshotOperationNotSupported"},
		"resized":         {b.read(bigger), b.read(small), version, 200, ""},
		"unknown":         {secondURL, strings.Replace(firstURL, "/md-", "/md-x", 1), version, 409, "PreviousSnapshotNotFound"},
		"deleted":         {secondURL, deletedURL, version, 409, "PreviousSnapshotNotFound"},
		"revoked":         {secondURL, goneURL, version, 403, "AuthenticationFailed"},
		"forged":          {secondURL, strings.Replace(firstURL, "sig=", "sig=AAAA", 1), version, 403, "AuthenticationFailed"},
		"no URL":          {secondURL, "2026-05-04T12:00:00Z", version, 400, "InvalidHeaderValue"},
		"an old version":  {secondURL, firstURL, "2018-11-09", 409, "FeatureVersionMismatch"},
		"the SAS version": {secondURL, firstURL, "2018-03-28", 409, "FeatureVersionMismatch"},
		"oldest possible": {secondURL, firstURL, "2019-04-19", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.TB = t
			got := inner.do("GET", and(row.url, "comp=pagelist"), nil, "x-ms-previous-snapshot-url", row.previous, "x-ms-version", row.version)
			inner.want(got, row.status, row.code)
		})
	}
	when := "2026-05-04T12:00:00.0000000Z"
	pager := b.sdk(secondURL).NewGetPageRangesDiffPager(&pageblob.GetPageRangesDiffOptions{PrevSnapshot: &when})
	_, err = pager.NextPage(t.Context())
	wantCode(t, err, 400, "InvalidQueryParameterValue")
}

// TestEndpoint_SnapshotIdentity_IsStable proves that ETag, Last-Modified and footer of a snapshot stay the same over time,
// grants and restarts, that all footers of a family are equal, and that writing changes a disk's ETag.
func TestEndpoint_SnapshotIdentity_IsStable(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(mib)
	first, second := b.snapshot(disk), b.snapshot(disk)
	get := func(url string) answer { return b.do("GET", url, nil, "x-ms-range", "bytes=1048576-1049087") }
	before := get(b.read(first))
	b.clock.Advance(90 * time.Minute)
	b.restart()
	after, sibling := get(b.read(first)), get(b.read(second))
	if before.header.Get("ETag") == "" || before.header.Get("ETag") != after.header.Get("ETag") ||
		before.header.Get("Last-Modified") != after.header.Get("Last-Modified") || !bytes.Equal(before.body, after.body) {
		t.Errorf("before %v, after %v", before.header, after.header)
	}
	if !bytes.Equal(before.body, sibling.body) || before.header.Get("ETag") == sibling.header.Get("ETag") {
		t.Error("siblings have different footers or the same ETag")
	}
	url := b.upload(disk)
	old := b.do("HEAD", url, nil)
	put := b.do("PUT", and(url, "comp=page"), bytes.NewReader(pattern(512, 1)), "x-ms-page-write", "update", "x-ms-range", "bytes=0-511")
	if tag := b.do("HEAD", url, nil).header.Get("ETag"); tag != put.header.Get("ETag") || tag == old.header.Get("ETag") {
		t.Errorf("ETag before %s, of the write %s, after %s", old.header.Get("ETag"), put.header.Get("ETag"), tag)
	}
}

// BenchmarkRead4MiB measures 4 MiB reads over loopback, eight at a time.
func BenchmarkRead4MiB(b *testing.B) {
	bed := newBench(b, nil)
	disk := bed.create(64 * mib)
	bed.write(disk, 0, pattern(64*mib, 1))
	url := bed.read(bed.snapshot(disk))
	bed.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
	b.SetBytes(4 * mib)
	b.SetParallelism(4)
	b.RunParallel(func(run *testing.PB) {
		buffer := make([]byte, 4*mib)
		for run.Next() {
			request, err := http.NewRequestWithContext(b.Context(), "GET", url, nil)
			if err != nil {
				b.Fatal(err)
			}
			request.Header.Set("x-ms-version", version)
			request.Header.Set("x-ms-range", "bytes=4194304-8388607")
			response, err := bed.client.Do(request)
			if err != nil {
				b.Error(err)
				return
			}
			_, err = io.ReadFull(response.Body, buffer)
			if err != nil {
				b.Error(err)
			}
			_ = response.Body.Close()
		}
	})
}
