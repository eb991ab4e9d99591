package export_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/export"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// TestGrant_URL_HasThePlatformsShape proves the form that clients recognise disks by.
func TestGrant_URL_HasThePlatformsShape(t *testing.T) {
	b := newBench(t, nil)
	sas := b.read(b.create(mib))
	shape := regexp.MustCompile(`^http://127\.0\.0\.1:\d+/md-[a-z2-7]+/[a-z2-7]+/abcd\?sv=2018-03-28&sr=b&si=[0-9a-f-]{36}&sig=[A-Za-z0-9%]+%3D$`)
	if !shape.MatchString(sas) {
		t.Errorf("the URL is %s", sas)
	}
}

// TestGrant_Again_ExtendsTheSameURL proves that asking again neither changes the URL nor shortens its life, and that the
// grant ends when it says.
func TestGrant_Again_ExtendsTheSameURL(t *testing.T) {
	b := newBench(t, nil)
	options := readOptions(b.create(mib))
	first, g, err := b.service.Grant(options)
	b.must(err)
	b.clock.Advance(30 * time.Minute)
	options.Resource = strings.ToUpper(options.Resource)
	second, extended, err := b.service.Grant(options)
	b.must(err)
	options.Duration = time.Minute
	third, kept, err := b.service.Grant(options)
	b.must(err)
	if first != second || second != third || extended.ID != g.ID || extended.Expires.Sub(g.Expires) != 30*time.Minute || kept != extended {
		t.Errorf("granted %s until %v, then %s until %v, then %s until %v", first, g.Expires, second, extended.Expires, third, kept.Expires)
	}
	if n := b.service.ActiveCount(options.Resource); n != 1 {
		t.Errorf("%d active grants", n)
	}
	b.clock.Advance(time.Hour - time.Second)
	b.want(b.do("HEAD", first, nil), 200, "")
	b.clock.Advance(time.Second)
	b.want(b.do("HEAD", first, nil), 403, "AuthenticationFailed")
	b.want(b.do("GET", first, nil), 403, "AuthenticationFailed")
	if n := b.service.ActiveCount(options.Resource); n != 0 {
		t.Errorf("%d active grants after the end", n)
	}
	fresh, _, err := b.service.Grant(options)
	b.must(err)
	if fresh == first {
		t.Error("an ended URL was given again")
	}
	b.want(b.do("HEAD", fresh, nil), 200, "")
	b.want(b.do("HEAD", first, nil), 403, "AuthenticationFailed")
}

// TestGrant_Restart_KeepsGrantsAndRevocations proves persistence, and that a damaged file is not taken for an empty one.
func TestGrant_Restart_KeepsGrantsAndRevocations(t *testing.T) {
	b := newBench(t, nil)
	kept, ended := b.create(mib), b.create(mib)
	keptURL, endedURL := b.read(kept), b.read(ended)
	n, err := b.service.Revoke(strings.ToUpper(snapshotID + string(ended)))
	b.must(err)
	if n != 1 {
		t.Errorf("%d grants revoked", n)
	}
	b.restart()
	b.want(b.do("HEAD", keptURL, nil), 200, "")
	b.want(b.do("HEAD", endedURL, nil), 403, "AuthenticationFailed")
	if again := b.read(kept); again != keptURL {
		t.Errorf("after the restart the URL is %s, was %s", again, keptURL)
	}
	if n, err := b.service.Revoke(snapshotID + string(ended)); n != 0 || err != nil {
		t.Errorf("revoked again: %d, %v", n, err)
	}
	active := b.service.Active(snapshotID + string(kept))
	if len(active) != 1 || active[0].Resource != strings.ToLower(snapshotID+string(kept)) || active[0].Volume != kept {
		t.Errorf("active: %+v", active)
	}

	path := filepath.Join(b.config.Dir, "grants.json")
	b.must(os.WriteFile(path, []byte(`{"secret":`), 0o600))
	if _, err := export.Open(b.config); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a damaged file: %v", err)
	}
}

// TestGrant_ForgedURLs_AreRefused proves that every part of the URL is bound by the signature.
func TestGrant_ForgedURLs_AreRefused(t *testing.T) {
	b := newBench(t, nil)
	first, second := b.read(b.create(mib)), b.read(b.create(mib))
	one, err := url.Parse(first)
	b.must(err)
	two, err := url.Parse(second)
	b.must(err)
	with := func(change func(u *url.URL, q url.Values)) string {
		u, q := *one, one.Query()
		change(&u, q)
		u.RawQuery = q.Encode()
		return u.String()
	}
	b.want(b.do("HEAD", with(func(*url.URL, url.Values) {}), nil), 200, "")
	for name, forged := range map[string]string{
		"another blob":        with(func(u *url.URL, _ url.Values) { u.Path = two.Path }),
		"another name":        with(func(u *url.URL, _ url.Values) { u.Path += "e" }),
		"another grant":       with(func(_ *url.URL, q url.Values) { q.Set("si", two.Query().Get("si")) }),
		"another signature":   with(func(_ *url.URL, q url.Values) { q.Set("sig", two.Query().Get("sig")) }),
		"another SAS version": with(func(_ *url.URL, q url.Values) { q.Set("sv", "2020-10-02") }),
		"another resource":    with(func(_ *url.URL, q url.Values) { q.Set("sr", "c") }),
		"no signature":        with(func(_ *url.URL, q url.Values) { q.Del("sig") }),
		"no query":            with(func(_ *url.URL, q url.Values) { clear(q) }),
	} {
		if got := b.do("GET", forged, nil); got.status != 403 || got.code(t) != "AuthenticationFailed" {
			t.Errorf("%s: %d %s", name, got.status, got.code(t))
		}
	}
}

// TestGrant_SixthOfAFamily_IsRefused proves the limit of five snapshots with a SAS, that ended ones do not count and that a
// snapshot that has one can be granted again.
func TestGrant_SixthOfAFamily_IsRefused(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(mib)
	options := func(i int) export.GrantOptions {
		o := readOptions(disk)
		o.Resource, o.Family = fmt.Sprintf("%s%d", snapshotID, i), "family"
		return o
	}
	for i := range 5 {
		_, _, err := b.service.Grant(options(i))
		b.must(err)
	}
	if _, _, err := b.service.Grant(options(5)); !errors.Is(err, export.ErrTooManyGrants) || !holdfast.IsKind(err, holdfast.KindConflict) {
		t.Fatalf("the sixth: %v", err)
	}
	_, _, err := b.service.Grant(options(2))
	b.must(err)
	other := options(5)
	other.Family = "another"
	_, _, err = b.service.Grant(other)
	b.must(err)
	_, err = b.service.Revoke(options(0).Resource)
	b.must(err)
	_, _, err = b.service.Grant(options(6))
	b.must(err)
	b.clock.Advance(2 * time.Hour)
	_, _, err = b.service.Grant(options(7))
	b.must(err)
}

// TestGrant_BadOptions_AreRefused proves that what cannot be granted is not.
func TestGrant_BadOptions_AreRefused(t *testing.T) {
	b := newBench(t, nil)
	live := b.create(mib)
	frozen := b.snapshot(live)
	for name, change := range map[string]func(*export.GrantOptions){
		"no resource":      func(o *export.GrantOptions) { o.Resource = "" },
		"no access":        func(o *export.GrantOptions) { o.Access = "" },
		"no duration":      func(o *export.GrantOptions) { o.Duration = 0 },
		"61 days":          func(o *export.GrantOptions) { o.Duration = export.DurationMax + time.Second },
		"write a snapshot": func(o *export.GrantOptions) { o.Access, o.Volume = export.Write, frozen },
		"upload to read":   func(o *export.GrantOptions) { o.Upload = true },
		"unknown mode":     func(o *export.GrantOptions) { o.AuthMode = "Magic" },
	} {
		options := readOptions(live)
		change(&options)
		if _, _, err := b.service.Grant(options); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := b.service.Grant(readOptions("volume-x")); !errors.Is(err, vdisk.ErrNotFound) {
		t.Errorf("an unknown volume: %v", err)
	}
}

// TestEndpoint_EntraMode_WantsABearerToken proves the challenge, and that a token alone or a wrong one does not do.
func TestEndpoint_EntraMode_WantsABearerToken(t *testing.T) {
	authorize := func(r *http.Request) error {
		switch r.Header.Get("Authorization") {
		case "Bearer good":
			return nil
		case "Bearer poor":
			return holdfast.Errorf(holdfast.KindRefused, "no permission")
		}
		return errors.New("no such token")
	}
	b := newBench(t, func(c *export.Config) {
		c.Authorize = authorize
		c.AuthorizationURI = func() string { return "https://127.0.0.1:1/tenant/oauth2/authorize" }
	})
	options := readOptions(b.create(mib))
	options.AuthMode = export.AuthModeEntra
	sas, _, err := b.service.Grant(options)
	b.must(err)

	without := b.do("GET", sas, nil)
	b.want(without, 401, "NoAuthenticationInformation")
	if got := without.header.Get("WWW-Authenticate"); got != "Bearer authorization_uri=https://127.0.0.1:1/tenant/oauth2/authorize resource_id=https://disk.azure.com/" {
		t.Errorf("the challenge is %q", got)
	}
	b.want(b.do("GET", sas, nil, "Authorization", "Bearer bad"), 401, "InvalidAuthenticationInfo")
	b.want(b.do("GET", sas, nil, "Authorization", "Bearer poor"), 403, "AuthorizationPermissionMismatch")
	b.want(b.do("HEAD", sas, nil, "Authorization", "Bearer good"), 200, "")
	unsigned, _, _ := strings.Cut(sas, "?")
	b.want(b.do("GET", unsigned, nil, "Authorization", "Bearer good"), 403, "AuthenticationFailed")

	b.config.Authorize = nil
	b.restart()
	b.want(b.do("GET", sas, nil, "Authorization", "Bearer good"), 403, "AuthorizationFailure")
}

// TestEndpoint_RevokeFault_EndsTheGrantInUse proves that the fault takes the SAS of this request and no other.
func TestEndpoint_RevokeFault_EndsTheGrantInUse(t *testing.T) {
	b := newBench(t, nil)
	first, second := b.create(mib), b.create(mib)
	firstURL, secondURL := b.read(first), b.read(second)
	plain := b.handler
	b.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain.ServeHTTP(w, r.WithContext(fault.With(r.Context(), fault.Decision{Kind: fault.Revoke})))
	})
	b.want(b.do("GET", firstURL, nil), 403, "AuthenticationFailed")
	b.handler = plain
	b.want(b.do("HEAD", firstURL, nil), 403, "AuthenticationFailed")
	b.want(b.do("HEAD", secondURL, nil), 200, "")
	if n := b.service.ActiveCount(snapshotID + string(first)); n != 0 {
		t.Errorf("%d active grants", n)
	}
	if again := b.read(first); again == firstURL {
		t.Error("the revoked URL was given again")
	}
}

// TestRevoke_AmongWriters_EndsWriting proves that nothing is written once Revoke has returned. Run it under -race.
func TestRevoke_AmongWriters_EndsWriting(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(mib)
	sas := and(b.upload(disk), "comp=page")
	var written atomic.Int64
	started := make(chan struct{})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				request, err := http.NewRequestWithContext(t.Context(), "PUT", sas, bytes.NewReader(pattern(64*kib, byte(i))))
				if err != nil {
					t.Error(err)
					return
				}
				for name, value := range map[string]string{"x-ms-version": version, "x-ms-page-write": "update", "x-ms-range": "bytes=0-65535"} {
					request.Header.Set(name, value)
				}
				response, err := b.client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
				if response.StatusCode != http.StatusCreated {
					return
				}
				if written.Add(1) == 20 {
					close(started)
				}
			}
		})
	}
	<-started
	_, err := b.service.Revoke(snapshotID + string(disk))
	b.must(err)
	after := make([]byte, 64*kib)
	_, err = b.volumes.ReadAt(disk, after, 0)
	b.must(err)
	writers.Wait()
	end := make([]byte, 64*kib)
	_, err = b.volumes.ReadAt(disk, end, 0)
	b.must(err)
	if !bytes.Equal(after, end) {
		t.Error("pages were written after Revoke had returned")
	}
}

// TestRevoke_WhileABodyArrives_RefusesTheWrite proves the same for a request that was let in before and whose body is read
// after.
func TestRevoke_WhileABodyArrives_RefusesTheWrite(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(mib)
	sas := and(b.upload(disk), "comp=page")
	plain := b.handler
	b.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = revokingBody{r.Body, func() {
			if n, err := b.service.Revoke(snapshotID + string(disk)); n != 1 || err != nil {
				t.Errorf("revoked %d: %v", n, err)
			}
		}}
		plain.ServeHTTP(w, r)
	})
	got := b.do("PUT", sas, bytes.NewReader(pattern(512, 1)), "x-ms-page-write", "update", "x-ms-range", "bytes=0-511")
	b.want(got, 403, "AuthenticationFailed")
	if found := collect(t, b.volumes.Allocated(disk, holdfast.Extent{})); len(found) != 0 {
		t.Errorf("the write left %v", found)
	}
}

// revokingBody calls revoke before its first byte is read.
type revokingBody struct {
	io.ReadCloser
	revoke func()
}

func (r revokingBody) Read(p []byte) (int, error) {
	r.revoke()
	return r.ReadCloser.Read(p[:min(len(p), 512)])
}

// TestEndpoint_Pacing_RefusesWhatABlobCannotBear proves both limits, that they are each blob's own, and that time heals.
func TestEndpoint_Pacing_RefusesWhatABlobCannotBear(t *testing.T) {
	b := newBench(t, func(c *export.Config) {
		c.Pacing = export.Pacing{RequestsPerSecond: 4, BytesPerSecond: float64(mib)}
	})
	first, second := b.read(b.create(8*mib)), b.read(b.create(8*mib))
	for range 4 {
		b.want(b.do("HEAD", first, nil), 200, "")
	}
	b.want(b.do("HEAD", first, nil), 503, "ServerBusy")
	b.want(b.do("GET", second, nil, "x-ms-range", "bytes=0-4194303"), 206, "") // overdraws
	b.want(b.do("GET", second, nil, "x-ms-range", "bytes=0-511"), 503, "ServerBusy")
	b.clock.Advance(time.Second)
	b.want(b.do("HEAD", first, nil), 200, "")
	b.want(b.do("GET", second, nil, "x-ms-range", "bytes=0-511"), 503, "ServerBusy")
	b.clock.Advance(3 * time.Second)
	b.want(b.do("GET", second, nil, "x-ms-range", "bytes=0-511"), 206, "")
}

// TestEndpoint_FragmentedWindow_TimesOut proves the switchable time-out: smaller windows pass, whatever the paging.
func TestEndpoint_FragmentedWindow_TimesOut(t *testing.T) {
	b := newBench(t, func(c *export.Config) { c.FragmentLimit = 10 })
	disk := b.create(mib)
	older := b.snapshot(disk)
	for i := range int64(20) {
		b.write(disk, i*1024, pattern(512, 1))
	}
	newer := b.snapshot(disk)
	list, previous := and(b.read(newer), "comp=pagelist"), b.read(older)
	b.want(b.do("GET", list, nil), 500, "OperationTimedOut")
	b.want(b.do("GET", list, nil, "x-ms-previous-snapshot-url", previous), 500, "OperationTimedOut")
	b.want(b.do("GET", list, nil, "x-ms-range", "bytes=0-10239"), 200, "")
	b.want(b.do("GET", list, nil, "x-ms-range", "bytes=0-10239", "x-ms-previous-snapshot-url", previous), 200, "")
	b.want(b.do("GET", list, nil, "x-ms-range", "bytes=0-10751"), 500, "OperationTimedOut")
}

// TestEndpoint_DeletedVolume_IsNotFound proves that a SAS outliving its disk gives 404 and no stale bytes.
func TestEndpoint_DeletedVolume_IsNotFound(t *testing.T) {
	b := newBench(t, nil)
	disk := b.create(mib)
	sas := b.read(disk)
	b.must(b.volumes.Delete(disk))
	b.want(b.do("GET", sas, nil), 404, "BlobNotFound")
	b.want(b.do("HEAD", sas, nil), 404, "BlobNotFound")
}

// TestGrant_ManyVolumes_ForgetsDeletedOnes proves that the file of grants does not grow with volumes long gone.
func TestGrant_ManyVolumes_ForgetsDeletedOnes(t *testing.T) {
	b := newBench(t, nil)
	kept := b.create(mib)
	keptURL := b.read(kept)
	for range 600 {
		id := b.create(mib)
		b.read(id)
		_, err := b.service.Revoke(snapshotID + string(id))
		b.must(err)
		b.must(b.volumes.Delete(id))
	}
	info, err := os.Stat(filepath.Join(b.config.Dir, "grants.json"))
	b.must(err)
	if info.Size() > 100*kib {
		t.Errorf("the file has %d bytes", info.Size())
	}
	b.want(b.do("HEAD", keptURL, nil), 200, "")
}
