package azblob_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	azblobs "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/azblob"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc"
)

// account is the storage account of the tests, with the containers plain and worm.
const account = "shopvault"

// vault is a blob service that the tests' clients talk to, over TLS or plain HTTP.
type vault struct {
	service *blobsvc.Service
	clock   *clock.Manual
	server  *httptest.Server
	// spoil, when set, may answer in the service's place; it reports whether it did.
	spoil atomic.Pointer[func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool]
}

func newVault(t *testing.T, withTLS bool) *vault {
	t.Helper()
	v := &vault{clock: clock.NewManual(time.Unix(1_800_000_000, 0))}
	var err error
	v.service, err = blobsvc.Open(blobsvc.Config{Dir: t.TempDir(), Clock: v.clock, BaseURL: func() string { return v.server.URL }})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(v.service.CreateAccount(account, ""), v.service.CreateContainer(account, "plain", false), v.service.CreateContainer(account, "worm", true))
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil := v.spoil.Load(); spoil == nil || !(*spoil)(w, r, v.service.Handler()) {
			v.service.Handler().ServeHTTP(w, r)
		}
	})
	v.server = httptest.NewUnstartedServer(handler)
	if withTLS {
		v.server.StartTLS()
	} else {
		v.server.Start()
	}
	t.Cleanup(func() {
		v.server.Close()
		if err := v.service.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// client returns a client of the container: with the account's key over TLS, with a SAS over plain HTTP.
func (v *vault) client(t *testing.T, name string) *container.Client {
	t.Helper()
	key, err := v.service.AccountKey(account)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		t.Fatal(err)
	}
	address := v.server.URL + "/" + account + "/" + name
	options := azblob.ClientOptions(&container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: v.server.Client(),
		Retry:     policy.RetryOptions{MaxRetries: 3, RetryDelay: time.Millisecond, MaxRetryDelay: 5 * time.Millisecond},
	}})
	if strings.HasPrefix(address, "https:") {
		client, err := container.NewClientWithSharedKeyCredential(address, credential, options)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	values := sas.BlobSignatureValues{
		ContainerName: name, ExpiryTime: v.clock.Now().Add(24 * time.Hour),
		Permissions: (&sas.ContainerPermissions{Read: true, Create: true, Write: true, Delete: true, DeletePreviousVersion: true, List: true, SetImmutabilityPolicy: true}).String(),
	}
	query, err := values.SignWithSharedKey(credential)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithNoCredential(address+"?"+query.Encode(), options)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (v *vault) store(t *testing.T) *azblob.Store {
	t.Helper()
	store, err := azblob.New(v.client(t, "plain"), "Backups/one")
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (v *vault) worm(t *testing.T) *azblob.WORM {
	t.Helper()
	store, err := azblob.NewWORM(v.client(t, "worm"), "backups")
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// The store keeps every rule of the port against the twin's blob service, over plain HTTP with a SAS.
func TestStore_Conforms(t *testing.T) {
	store := newVault(t, false).store(t)
	blobtest.Test(t, store, blobtest.Options{Remover: store.Remover(), Prefix: "check"}, "lock-at-birth", "lock-extend", "versions")
	for info, err := range store.List(t.Context(), "") {
		t.Errorf("left behind: %s, %v", info.Name, err)
	}
}

// With version-level immutability locks and versions hold too, over TLS with the account's key.
func TestWORM_Conforms(t *testing.T) {
	v := newVault(t, true)
	store, other := v.worm(t), v.client(t, "worm")
	blobtest.Test(t, store, blobtest.Options{
		Remover: store.Remover(), Locker: store, Versioned: store, Prefix: "check", ListCount: 50, LargeBytes: 2 << 20, Clock: v.clock,
		Wait: func(_ context.Context, d time.Duration) error { v.clock.Advance(d); return nil },
		Overwrite: func(ctx context.Context, name string, data []byte) error {
			_, err := other.NewBlockBlobClient("backups/"+name).Upload(ctx, streaming.NopCloser(strings.NewReader(string(data))), nil)
			return err
		},
	}, "lock-refused")
	pager := other.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Include: container.ListBlobsInclude{Versions: true}})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Segment.BlobItems {
			t.Errorf("a version is left behind: %s", *item.Name)
		}
	}
}

// Open finds out what a container can do by asking the service; versions show as soon as there is an object.
func TestOpen(t *testing.T) {
	v := newVault(t, true)
	for name, locks := range map[string]bool{"plain": false, "worm": true} {
		for range 2 {
			o, err := azblob.Open(t.Context(), v.client(t, name), "folder")
			if err != nil {
				t.Fatal(err)
			}
			if _, isLocker := o.Store.(blob.Locker); o.Remover == nil || (o.Locker != nil) != locks || (o.Versioned != nil) != locks || isLocker != locks {
				t.Errorf("%s: %+v", name, o)
			}
			if err := o.Store.Put(t.Context(), "a", []byte("x"), blob.PutOptions{}); err != nil && !errors.Is(err, blob.ErrExists) {
				t.Fatal(err)
			}
		}
	}
	keeping, err := azblob.New(v.client(t, "worm"), "folder") // as a container of an account that keeps versions and cannot lock
	if err != nil {
		t.Fatal(err)
	}
	if keeps, err := keeping.KeepsVersions(t.Context()); err != nil || !keeps {
		t.Errorf("a container with versions: %t, %v", keeps, err)
	}
	if _, err := azblob.Open(t.Context(), v.client(t, "nowhere"), "folder"); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Errorf("no container: %v", err)
	}
}

// A container of an account that keeps versions and cannot lock: what others overwrote is found, and a lock is refused.
func TestVersioned_Conforms(t *testing.T) {
	v := newVault(t, true)
	store, err := azblob.NewVersioned(v.client(t, "worm"), "backups")
	if err != nil {
		t.Fatal(err)
	}
	other := v.client(t, "worm")
	blobtest.Test(t, store, blobtest.Options{
		Remover: store.Remover(), Versioned: store, Prefix: "check", ListCount: 50, LargeBytes: 2 << 20, Clock: v.clock,
		Overwrite: func(ctx context.Context, name string, data []byte) error {
			_, err := other.NewBlockBlobClient("backups/"+name).Upload(ctx, streaming.NopCloser(strings.NewReader(string(data))), nil)
			return err
		},
	}, "lock-at-birth", "lock-extend")
}

// A policy that its owner can shorten is no lock, and is not shown as one; nobody removes it either.
func TestWORM_UnlockedPolicyIsNoLock(t *testing.T) {
	v := newVault(t, true)
	store, client := v.worm(t), v.client(t, "worm")
	if err := store.Put(t.Context(), "a", []byte("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	until := v.clock.Now().Add(100 * 24 * time.Hour)
	_, err := client.NewBlobClient("backups/a").SetImmutabilityPolicy(t.Context(), until, &azblobs.SetImmutabilityPolicyOptions{Mode: to.Ptr(azblobs.ImmutabilityPolicySettingUnlocked)})
	if err != nil {
		t.Fatal(err)
	}
	info, err := store.Stat(t.Context(), "a")
	if err != nil || !info.LockedUntil.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	for info, err := range store.List(t.Context(), "") {
		if err != nil || !info.LockedUntil.IsZero() {
			t.Errorf("list: %+v, %v", info, err)
		}
	}
	var locked *blob.LockedError
	if err := store.Remover().Remove(t.Context(), "a"); !errors.As(err, &locked) || !locked.Until.Equal(until) {
		t.Errorf("remove: %v", err)
	}
}

// spoilPut lets the n-th Put Blob take effect and answers it in a spoilt way; it counts the puts.
func (v *vault) spoilPut(n int32, answer func(w http.ResponseWriter)) *atomic.Int32 {
	puts := new(atomic.Int32)
	spoil := func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool {
		if r.Method != http.MethodPut || puts.Add(1) != n {
			return false
		}
		serve.ServeHTTP(httptest.NewRecorder(), r)
		answer(w)
		return true
	}
	v.spoil.Store(&spoil)
	return puts
}

func loseAnswer(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func busy(w http.ResponseWriter) {
	w.Header().Set("x-ms-error-code", "ServerBusy")
	w.WriteHeader(http.StatusServiceUnavailable)
}

// An answer that is lost after the work was done makes the SDK send again and hear "exists": it was our own put, so Put
// succeeds. Another writer of the same name hears ErrExists.
func TestPut_AnswerLostAfterEffect(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){"lost": loseAnswer, "busy": busy} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, false)
			store := v.store(t)
			puts := v.spoilPut(1, answer)
			if err := store.Put(t.Context(), "a", []byte("ours"), blob.PutOptions{}); err != nil {
				t.Errorf("put whose answer was lost: %v", err)
			}
			if puts.Load() != 2 {
				t.Errorf("%d puts were sent: the fault was not exercised", puts.Load())
			}
			if err := store.Put(t.Context(), "a", []byte("ours"), blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
				t.Errorf("second put: %v", err)
			}
		})
	}
}

// When all answers are lost, the store looks whether the object is there before it calls the put failed.
func TestPut_AllAnswersLost(t *testing.T) {
	v := newVault(t, false)
	store := v.store(t)
	spoil := func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool {
		if r.Method == http.MethodPut {
			serve.ServeHTTP(httptest.NewRecorder(), r)
			loseAnswer(w)
		}
		return false
	}
	v.spoil.Store(&spoil)
	if err := store.Put(t.Context(), "a", []byte("ours"), blob.PutOptions{}); err != nil {
		t.Errorf("put that took effect: %v", err)
	}
}

// Somebody else's object under the name stays theirs, even when our first try was throttled before it had any effect.
func TestPut_OthersWinWhileWeRetry(t *testing.T) {
	v := newVault(t, false)
	store, rival := v.store(t), newRival(t, v)
	puts := new(atomic.Int32)
	spoil := func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPut || puts.Add(1) != 1 {
			return false
		}
		rival("Backups/one/a", "them")
		// Read to its end: else the first attempt may still be sending while the SDK rewinds the body for the second, which is a race in the SDK.
		_, _ = io.Copy(io.Discard, r.Body)
		busy(w)
		return true
	}
	v.spoil.Store(&spoil)
	if err := store.Put(t.Context(), "a", []byte("ours"), blob.PutOptions{}); !errors.Is(err, blob.ErrExists) {
		t.Errorf("put after a rival of the same length: %v", err)
	}
	p := make([]byte, 4)
	if _, err := store.Read(t.Context(), "a", 0, p); err != nil || string(p) != "them" {
		t.Errorf("object is %q, %v", p, err)
	}
}

// newRival returns a writer that goes past the spoilt listener.
func newRival(t *testing.T, v *vault) func(name, data string) {
	t.Helper()
	server := httptest.NewTLSServer(v.service.Handler())
	t.Cleanup(server.Close)
	key, err := v.service.AccountKey(account)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(server.URL+"/"+account+"/plain", credential,
		&container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: server.Client()}})
	if err != nil {
		t.Fatal(err)
	}
	return func(name, data string) {
		if _, err := client.NewBlockBlobClient(name).Upload(t.Context(), streaming.NopCloser(strings.NewReader(data)), nil); err != nil {
			t.Error(err)
		}
	}
}

// A throttled put whose effect did not happen is sent again and succeeds; when the service never recovers, the error says
// so and there is no object.
func TestPut_Busy(t *testing.T) {
	v := newVault(t, false)
	store := v.store(t)
	spoil := func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPut {
			return false
		}
		// Read to its end: else the first attempt may still be sending while the SDK rewinds the body for the second, which is a race in the SDK.
		_, _ = io.Copy(io.Discard, r.Body)
		busy(w)
		return true
	}
	v.spoil.Store(&spoil)
	if err := store.Put(t.Context(), "a", []byte("x"), blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindThrottled) {
		t.Errorf("put on a busy service: %v", err)
	}
	v.spoil.Store(nil)
	if _, err := store.Stat(t.Context(), "a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("after a put that never took effect: %v", err)
	}
}

// Bytes that change on the way are refused by the service through the CRC64, and no object is made.
func TestPut_DamagedOnTheWay(t *testing.T) {
	v := newVault(t, false)
	store := v.store(t)
	damaged := new(atomic.Int32)
	spoil := func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool {
		if r.Method != http.MethodPut {
			return false
		}
		damaged.Add(1)
		clone := r.Clone(r.Context())
		clone.Body = flipped{r}
		serve.ServeHTTP(w, clone)
		return true
	}
	v.spoil.Store(&spoil)
	if err := store.Put(t.Context(), "a", []byte("bytes that matter"), blob.PutOptions{}); err == nil {
		t.Error("a put whose bytes changed on the way succeeds")
	}
	v.spoil.Store(nil)
	if _, err := store.Stat(t.Context(), "a"); !errors.Is(err, blob.ErrNotFound) || damaged.Load() == 0 {
		t.Errorf("after a damaged put: %v", err)
	}
}

// flipped is a request's body with the first bit of each read flipped.
type flipped struct{ r *http.Request }

func (f flipped) Read(p []byte) (int, error) {
	n, err := f.r.Body.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func (f flipped) Close() error { return f.r.Body.Close() }

// A download that is cut in its body goes on where it stopped.
func TestRead_CutInTheBody(t *testing.T) {
	v := newVault(t, false)
	store := v.store(t)
	data := strings.Repeat("0123456789", 30_000)
	if err := store.Put(t.Context(), "a", []byte(data), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	cuts := new(atomic.Int32)
	spoil := func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool {
		if r.Method != http.MethodGet || cuts.Add(1) > 3 {
			return false
		}
		serve.ServeHTTP(&cutWriter{w, 50_000}, r)
		return true
	}
	v.spoil.Store(&spoil)
	p := make([]byte, len(data)-7)
	if n, err := store.Read(t.Context(), "a", 7, p); err != nil || string(p[:n]) != data[7:] {
		t.Errorf("read of %d bytes, %v", n, err)
	}
	if cuts.Load() < 4 {
		t.Errorf("only %d requests: the fault was not exercised", cuts.Load())
	}
}

// cutWriter breaks the connection after a number of bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left]) // the connection breaks anyway
	http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// A client that was not made with ClientOptions cannot tell its own put from another's, and is refused loudly.
func TestPut_ClientWithoutOptions(t *testing.T) {
	v := newVault(t, true)
	key, err := v.service.AccountKey(account)
	if err != nil {
		t.Fatal(err)
	}
	credential, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(v.server.URL+"/"+account+"/plain", credential,
		&container.ClientOptions{ClientOptions: policy.ClientOptions{Transport: v.server.Client()}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := azblob.New(client, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "a", nil, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "a", nil, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindInternal) {
		t.Errorf("second put: %v", err)
	}
}

// A tampered object is answered from its older version, a WORM's removal spares everything while one version is locked, and
// takes everything afterwards.
func TestWORM_Tampered(t *testing.T) {
	v := newVault(t, true)
	store, other := v.worm(t), v.client(t, "worm")
	until := v.clock.Now().Add(time.Hour)
	if err := store.Put(t.Context(), "a", []byte("good"), blob.PutOptions{LockUntil: until}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.NewBlockBlobClient("backups/a").Upload(t.Context(), streaming.NopCloser(strings.NewReader("bad")), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := other.NewBlobClient("backups/a").Delete(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Stat(t.Context(), "a"); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("stat of a deleted object: %v", err)
	}
	if err := store.Remover().Remove(t.Context(), "a"); !errors.Is(err, blob.ErrLocked) {
		t.Errorf("remove while an older version is locked: %v", err)
	}
	var contents []string
	for version, err := range store.Versions(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		n, err := store.ReadVersion(t.Context(), "a", version.ID, 0, p)
		if err != nil || version.Current {
			t.Errorf("version %+v, %v", version, err)
		}
		contents = append(contents, string(p[:n]))
	}
	if strings.Join(contents, ",") != "bad,good" {
		t.Errorf("versions, newest first: %v", contents)
	}
	v.clock.Advance(2 * time.Hour)
	if err := store.Remover().Remove(t.Context(), "a"); err != nil {
		t.Errorf("remove after the lock: %v", err)
	}
	for version, err := range store.Versions(t.Context(), "a") {
		t.Errorf("left behind: %+v, %v", version, err)
	}
}

// The lists of a WORM show locks, and the container tells whether it is one.
func TestWORM_ListShowsLocks(t *testing.T) {
	v := newVault(t, true)
	store := v.worm(t)
	until := v.clock.Now().Add(time.Hour)
	if err := store.Put(t.Context(), "a", nil, blob.PutOptions{LockUntil: until}); err != nil {
		t.Fatal(err)
	}
	for info, err := range store.List(t.Context(), "") {
		if err != nil || !info.LockedUntil.Equal(until) {
			t.Errorf("listed as %+v, %v", info, err)
		}
	}
	for name, want := range map[string]bool{"worm": true, "plain": false} {
		if got, err := azblob.HasVersionImmutability(t.Context(), v.client(t, name)); got != want || err != nil {
			t.Errorf("container %s: %v, %v", name, got, err)
		}
	}
}

// A container without version-level immutability refuses a lock, and a service that ignores the lock is found out.
func TestWORM_LockNotHonoured(t *testing.T) {
	v := newVault(t, true)
	until := v.clock.Now().Add(time.Hour)
	store, err := azblob.NewWORM(v.client(t, "plain"), "backups")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "a", nil, blob.PutOptions{LockUntil: until}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("lock in a plain container: %v", err)
	}
	spoil := func(w http.ResponseWriter, r *http.Request, serve http.Handler) bool {
		r.Header.Del("x-ms-immutability-policy-until-date")
		r.Header.Del("x-ms-immutability-policy-mode")
		return false
	}
	deaf := newVault(t, false) // a SAS does not sign headers, so they can be dropped on the way
	deaf.spoil.Store(&spoil)
	if err := deaf.worm(t).Put(t.Context(), "a", nil, blob.PutOptions{LockUntil: until}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("lock that the service ignores: %v", err)
	}
}

// Each sort of refusal is told with a kind that callers can act on, and a hint.
func TestErrors_Kinds(t *testing.T) {
	v := newVault(t, false)
	store := v.store(t)
	answer := func(status int, code string) {
		spoil := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.Header().Set("x-ms-error-code", code)
			w.WriteHeader(status)
			return true
		}
		v.spoil.Store(&spoil)
	}
	for _, c := range []struct {
		status int
		code   string
		kind   holdfast.Kind
	}{
		{404, "ContainerNotFound", holdfast.KindNotFound},
		{403, "AuthorizationPermissionMismatch", holdfast.KindRefused},
		{403, "AuthenticationFailed", holdfast.KindRefused},
		{401, "InvalidAuthenticationInfo", holdfast.KindRefused},
		{409, "BlobArchived", holdfast.KindConflict},
		{429, "TooManyRequests", holdfast.KindThrottled},
		{503, "ServerBusy", holdfast.KindThrottled},
		{500, "InternalError", holdfast.KindUnavailable},
		{400, "InvalidHeaderValue", holdfast.KindInvalid},
	} {
		answer(c.status, c.code)
		_, readErr := store.Read(t.Context(), "a", 0, make([]byte, 1))
		_, statErr := store.Stat(t.Context(), "a")
		for call, err := range map[string]error{
			"read": readErr, "stat": statErr, "put": store.Put(t.Context(), "a", nil, blob.PutOptions{}), "remove": store.Remover().Remove(t.Context(), "a"),
		} {
			var failure *holdfast.Error
			if !errors.As(err, &failure) || failure.Kind != c.kind || failure.Hint == "" {
				t.Errorf("%s on %d %s: %v", call, c.status, c.code, err)
			}
			if change := call == "put" || call == "remove"; errors.Is(err, blob.ErrReadOnly) != (change && c.kind == holdfast.KindRefused) {
				t.Errorf("%s on %d %s: read-only store %v", call, c.status, c.code, err)
			}
		}
	}
	v.server.Close()
	if _, err := store.Stat(t.Context(), "a"); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Errorf("stat without a service: %v", err)
	}
}

// An object is born in the tier that was asked for, and an unknown tier is refused.
func TestPut_Tier(t *testing.T) {
	v := newVault(t, false)
	store, client := v.store(t), v.client(t, "plain")
	for tier, want := range map[string]azblobs.AccessTier{"hot": azblobs.AccessTierHot, "cool": azblobs.AccessTierCool, "cold": azblobs.AccessTierCold} {
		if err := store.Put(t.Context(), tier, nil, blob.PutOptions{Tier: tier}); err != nil {
			t.Fatal(err)
		}
		properties, err := client.NewBlobClient("Backups/one/"+tier).GetProperties(t.Context(), nil)
		if err != nil || properties.AccessTier == nil || *properties.AccessTier != string(want) {
			t.Errorf("tier of %s: %v, %v", tier, properties.AccessTier, err)
		}
	}
	if err := store.Put(t.Context(), "x", nil, blob.PutOptions{Tier: "archive"}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("archive tier: %v", err)
	}
}

// The name for people carries no secret, and folders that are none are refused.
func TestNew(t *testing.T) {
	v := newVault(t, false)
	if url := v.store(t).URL(); url != "azblob://"+account+"/plain/Backups/one" {
		t.Errorf("URL %q", url)
	}
	client, err := container.NewClientWithNoCredential("https://"+account+".blob.core.windows.net/plain?sig=secret", azblob.ClientOptions(nil))
	if err != nil {
		t.Fatal(err)
	}
	store, err := azblob.New(client, "/x/")
	if err != nil || store.URL() != "azblob://"+account+"/plain/x" {
		t.Errorf("URL %q, %v", store.URL(), err)
	}
	for _, folder := range []string{"..", "a//b", "a/../b", "a b"} {
		if _, err := azblob.New(client, folder); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("folder %q: %v", folder, err)
		}
	}
}

var _ azcore.TokenCredential = noToken{}

// noToken is a credential that is not accepted.
type noToken struct{}

func (noToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, refusedCredential{}
}

type refusedCredential struct{}

func (refusedCredential) Error() string { return "invalid client secret" }
func (refusedCredential) NonRetriable() {}

// A credential that Entra refuses is no outage: the put is refused at once and not looked up.
func TestPut_CredentialRefused(t *testing.T) {
	client, err := container.NewClient("https://"+account+".blob.core.windows.net/plain", noToken{}, azblob.ClientOptions(nil))
	if err != nil {
		t.Fatal(err)
	}
	store, err := azblob.New(client, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "a", nil, blob.PutOptions{}); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Errorf("put without a credential: %v", err)
	}
}
