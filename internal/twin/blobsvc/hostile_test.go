package blobsvc_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

// raw sends a request to the container over plain HTTP with a SAS that permits everything, unless the query says otherwise.
func (w *twin) raw(method, path, query, content string, headers ...string) (int, string, string) {
	w.t.Helper()
	address := w.plain.URL + path + "?" + query
	request, err := http.NewRequestWithContext(w.t.Context(), method, address, strings.NewReader(content))
	must(w.t, err)
	request.Header.Set("x-ms-version", "2026-06-06")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := w.plain.Client().Do(request)
	must(w.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	must(w.t, err)
	return response.StatusCode, response.Header.Get("x-ms-error-code"), string(answer)
}

// accountSAS is a query that permits everything on everything.
func (w *twin) accountSAS() string {
	w.t.Helper()
	query, err := sas.AccountSignatureValues{Permissions: "rwdlacx", ResourceTypes: "sco", ExpiryTime: w.clock.Now().Add(time.Hour)}.SignWithSharedKey(w.credential)
	must(w.t, err)
	return query.Encode()
}

// TestSAS_Tampered: no field of a SAS can be changed, added, doubled or taken away.
func TestSAS_Tampered(t *testing.T) {
	w := newTwin(t)
	w.put(w.container("plain"), "f/a", "secret", nil)
	w.put(w.container("worm"), "f/a", "secret", nil)
	start := w.clock.Now().Add(-time.Hour)
	container, err := sas.BlobSignatureValues{ContainerName: "plain", Permissions: "r", StartTime: start, ExpiryTime: w.clock.Now().Add(time.Hour), Protocol: sas.ProtocolHTTPSandHTTP}.SignWithSharedKey(w.credential)
	must(t, err)
	wide, err := sas.AccountSignatureValues{Permissions: "r", ResourceTypes: "o", StartTime: start, ExpiryTime: w.clock.Now().Add(time.Hour)}.SignWithSharedKey(w.credential)
	must(t, err)
	for kind, encoded := range map[string]string{"container": container.Encode(), "account": wide.Encode()} {
		if status, code, _ := w.raw("GET", "/"+account+"/plain/f/a", encoded, ""); status != 200 {
			t.Fatalf("the %s SAS itself: %d %s", kind, status, code)
		}
		whole, err := url.ParseQuery(encoded)
		must(t, err)
		check := func(what string, query url.Values) {
			t.Helper()
			if status, code, _ := w.raw("GET", "/"+account+"/plain/f/a", query.Encode(), ""); status < 400 || status >= 500 {
				t.Errorf("%s SAS with %s: %d %s", kind, what, status, code)
			}
		}
		change := func(name, value string) url.Values {
			query := url.Values{}
			for other := range whole {
				query.Set(other, whole.Get(other))
			}
			query.Set(name, value)
			return query
		}
		for name := range whole {
			for _, value := range []string{"", "x", "rwdl", "9999-12-31T23:59:59Z", "2021-12-02", "\u0000", whole.Get(name) + " "} {
				if value != whole.Get(name) {
					check(fmt.Sprintf("%s=%q", name, value), change(name, value))
				}
			}
			without := change(name, "")
			without.Del(name)
			check("no "+name, without)
			doubled := change(name, "x")
			doubled.Add(name, whole.Get(name))
			check("two "+name, doubled)
		}
		for name, value := range map[string]string{"si": "policy", "ss": "b", "srt": "sco", "sip": "127.0.0.1", "ses": "scope", "skoid": "x", "rscc": "no-cache"} {
			if whole.Has(name) || kind == "account" && (name == "si" || name == "rscc" || name == "skoid") { // an account's SAS has no such field
				continue
			}
			check("an added "+name, change(name, value))
		}
	}
	if status, code, _ := w.raw("GET", "/"+account+"/worm/f/a", container.Encode(), ""); status != 403 {
		t.Errorf("another container: %d %s", status, code)
	}
	if status, code, _ := w.raw("GET", "/"+account+"/plain/../worm/f/a", container.Encode(), ""); status != 404 {
		t.Errorf("another container by a path upwards: %d %s", status, code) // the name is taken as it stands, and no such blob exists
	}
}

// TestHostile_Requests: ranges, blocks, names and parameters that make no sense are refused with a code, and leave nothing.
func TestHostile_Requests(t *testing.T) {
	w := newTwin(t)
	w.put(w.container("plain"), "a", "0123456789", nil)
	all, blob := w.accountSAS(), "/"+account+"/plain/a"
	block := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		name, method, path, query, content string
		headers                            []string
		status                             int
		code                               string
	}{
		{"a range backwards", "GET", blob, "", "", []string{"x-ms-range", "bytes=5-2"}, 400, "InvalidHeaderValue"},
		{"a negative range", "GET", blob, "", "", []string{"x-ms-range", "bytes=-5"}, 400, "InvalidHeaderValue"},
		{"two ranges", "GET", blob, "", "", []string{"Range", "bytes=0-1,4-5"}, 400, "InvalidHeaderValue"},
		{"words for a range", "GET", blob, "", "", []string{"x-ms-range", "bytes=a-b"}, 400, "InvalidHeaderValue"},
		{"a range beyond numbers", "GET", blob, "", "", []string{"x-ms-range", "bytes=99999999999999999999-"}, 400, "InvalidHeaderValue"},
		{"a range behind the end", "GET", blob, "", "", []string{"x-ms-range", "bytes=10-"}, 416, "InvalidRange"},
		{"the largest end", "GET", blob, "", "", []string{"x-ms-range", "bytes=8-9223372036854775807"}, 206, ""},
		{"a block id that is none", "PUT", blob, "comp=block&blockid=%21", "x", nil, 400, "InvalidQueryParameterValue"},
		{"a long block id", "PUT", blob, "comp=block&blockid=" + url.QueryEscape(block(make([]byte, 65))), "x", nil, 400, "InvalidQueryParameterValue"},
		{"an empty block", "PUT", blob, "comp=block&blockid=YQ==", "", nil, 400, "InvalidHeaderValue"},
		{"a list that is no XML", "PUT", blob, "comp=blocklist", "{}", nil, 400, "InvalidXmlDocument"},
		{"half a list", "PUT", blob, "comp=blocklist", "<BlockList><Latest>", nil, 400, "InvalidXmlDocument"},
		{"a list of unknown blocks", "PUT", blob, "comp=blocklist", "<BlockList><Latest>YQ==</Latest></BlockList>", nil, 400, "InvalidBlockList"},
		{"a list with an unknown element", "PUT", blob, "comp=blocklist", "<BlockList><Newest>YQ==</Newest></BlockList>", nil, 400, "UnsupportedXmlNode"},
		{"a list of another name", "PUT", blob, "comp=blocklist", "<Blocks><Latest>YQ==</Latest></Blocks>", nil, 400, "InvalidXmlDocument"},
		{"a list of 50,001 blocks", "PUT", blob, "comp=blocklist", "<BlockList>" + strings.Repeat("<Latest>YQ==</Latest>", 50_001) + "</BlockList>", nil, 400, "BlockListTooLong"},
		{"an entity in a list", "PUT", blob, "comp=blocklist", `<!DOCTYPE b [<!ENTITY e "x">]><BlockList><Latest>&e;</Latest></BlockList>`, nil, 400, "InvalidXmlDocument"},
		{"no type", "PUT", blob, "", "x", nil, 400, "MissingRequiredHeader"},
		{"an append blob", "PUT", blob, "", "", []string{"x-ms-blob-type", "AppendBlob"}, 501, "NotImplemented"},
		{"a page blob", "PUT", blob, "", "", []string{"x-ms-blob-type", "PageBlob", "x-ms-blob-content-length", "512"}, 501, "NotImplemented"},
		{"an append", "PUT", blob, "comp=appendblock", "x", nil, 501, "NotImplemented"},
		{"a page", "PUT", blob, "comp=page", strings.Repeat("x", 512), []string{"x-ms-page-write", "update", "x-ms-range", "bytes=0-511"}, 501, "NotImplemented"},
		{"a blob of a bogus type", "PUT", blob, "", "x", []string{"x-ms-blob-type", "StoneBlob"}, 400, "InvalidHeaderValue"},
		{"a wrong checksum's form", "PUT", blob, "", "x", []string{"x-ms-blob-type", "BlockBlob", "Content-MD5", "!"}, 400, "InvalidMd5"},
		{"a bogus tier", "PUT", blob, "comp=tier", "", []string{"x-ms-access-tier", "Lava"}, 400, "InvalidHeaderValue"},
		{"9 KiB of metadata", "PUT", blob, "", "x", []string{"x-ms-blob-type", "BlockBlob", "x-ms-meta-a", strings.Repeat("x", 9<<10)}, 400, "MetadataTooLarge"},
		{"a lease for a year", "PUT", blob, "comp=lease", "", []string{"x-ms-lease-action", "acquire", "x-ms-lease-duration", "31536000"}, 400, "InvalidHeaderValue"},
		{"a lease id that is none", "PUT", blob, "comp=lease", "", []string{"x-ms-lease-action", "acquire", "x-ms-lease-duration", "15", "x-ms-proposed-lease-id", "me"}, 400, "InvalidHeaderValue"},
		{"an unknown comp", "GET", blob, "comp=tea", "", nil, 501, "NotImplemented"},
		{"a version to come", "GET", blob, "", "", []string{"x-ms-version", "2099-01-01"}, 400, "InvalidHeaderValue"},
		{"no version of a blob", "GET", blob, "versionid=now", "", nil, 404, "BlobNotFound"},
		{"zero results", "GET", "/" + account + "/plain", "restype=container&comp=list&maxresults=0", "", nil, 400, "OutOfRangeQueryParameterValue"},
		{"a marker that is none", "GET", "/" + account + "/plain", "restype=container&comp=list&marker=%21", "", nil, 400, "InvalidQueryParameterValue"},
		{"an unknown include", "GET", "/" + account + "/plain", "restype=container&comp=list&include=tea", "", nil, 400, "InvalidQueryParameterValue"},
		{"a NUL in a name", "PUT", blob + "%00", "", "x", []string{"x-ms-blob-type", "BlockBlob"}, 400, "InvalidResourceName"},
		{"a name that is no UTF-8", "PUT", blob + "%ff", "", "x", []string{"x-ms-blob-type", "BlockBlob"}, 400, "InvalidResourceName"},
		{"1,025 letters", "PUT", blob + strings.Repeat("é", 1024), "", "x", []string{"x-ms-blob-type", "BlockBlob"}, 400, "InvalidResourceName"},
		{"a container in capitals", "PUT", "/" + account + "/UPPER", "restype=container", "", nil, 400, "InvalidResourceName"},
		{"an account of nobody", "GET", "/nobody/plain/a", "", "", nil, 404, "ResourceNotFound"},
	} {
		status, code, answer := w.raw(c.method, c.path, all+"&"+c.query, c.content, c.headers...)
		if status != c.status || code != c.code {
			t.Errorf("%s: %d %s %.300q, want %d %s", c.name, status, code, answer, c.status, c.code)
		}
	}
	for _, name := range []string{"/..", "/../../journal", "/" + strings.Repeat("é", 1022), "/ü 💾+%25&'\"<>#?", "/a//b", "/a/"} {
		escaped := blob + (&url.URL{Path: name}).EscapedPath()
		if status, code, _ := w.raw("PUT", escaped, all, "odd", "x-ms-blob-type", "BlockBlob"); status != 201 {
			t.Errorf("%q: %d %s", name, status, code)
		}
		if status, code, got := w.raw("GET", escaped, all, ""); status != 200 || got != "odd" {
			t.Errorf("%q read back: %d %s %q", name, status, code, got)
		}
	}
	if got := w.read(w.container("plain").NewBlobClient("a")); got != "0123456789" {
		t.Errorf("after all that: %q", got)
	}
	w.restart()
	w.wantNoStrays(7)
}

// wantNoStrays fails unless the content folder holds that many files.
func (w *twin) wantNoStrays(want int) {
	w.t.Helper()
	count := 0
	must(w.t, filepath.WalkDir(filepath.Join(w.dir, "content"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			count++
		}
		return err
	}))
	if count != want {
		w.t.Errorf("%d content files, want %d", count, want)
	}
}

// TestHostile_ManyAtOneName: puts, blocks, deletions, copies, tiers, leases and reads of one blob by 16 clients at once; every
// read is whole, every answer a known one, and no content is left that no blob has.
func TestHostile_ManyAtOneName(t *testing.T) {
	w := newTwin(t)
	all, blob := w.accountSAS(), "/"+account+"/plain/a"
	known := map[int]bool{200: true, 201: true, 202: true, 400: true, 404: true, 409: true, 412: true}
	var working sync.WaitGroup
	for client := range 16 {
		working.Go(func() {
			content := strings.Repeat(fmt.Sprintf("%x", client), 10_000)
			for round := range 12 {
				status, code := 0, ""
				switch (client + round) % 8 {
				case 0, 1:
					status, code, _ = w.raw("PUT", blob, all, content, "x-ms-blob-type", "BlockBlob")
				case 2:
					status, code, _ = w.raw("PUT", blob, all+"&comp=block&blockid=YQ==", content)
				case 3:
					status, code, _ = w.raw("PUT", blob, all+"&comp=blocklist", "<BlockList><Latest>YQ==</Latest></BlockList>")
				case 4:
					status, code, _ = w.raw("DELETE", blob, all, "")
				case 5:
					status, code, _ = w.raw("PUT", blob, all, "", "x-ms-copy-source", w.plain.URL+blob+"?"+all)
				case 6:
					status, code, _ = w.raw("GET", "/"+account+"/plain", all+"&restype=container&comp=list&include=metadata", "")
				case 7:
					var got string
					status, code, got = w.raw("GET", blob, all, "")
					if status == 200 && (len(got) != 10_000 || got != strings.Repeat(got[:1], 10_000)) {
						t.Errorf("a read of %d bytes is not one client's", len(got))
					}
				}
				if !known[status] || status == 400 && code != "InvalidBlockList" {
					t.Errorf("round %d of client %d: %d %s", round, client, status, code)
				}
			}
		})
	}
	working.Wait()
	_, _, _ = w.raw("PUT", blob, all, "last", "x-ms-blob-type", "BlockBlob")
	if got := w.read(w.container("plain").NewBlobClient("a")); got != "last" {
		t.Errorf("at the end: %q", got)
	}
	w.wantNoStrays(1)
	w.restart()
	w.wantNoStrays(1)
}
