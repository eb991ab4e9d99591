package keyvault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

const tenant = "22222222-2222-2222-2222-222222222222"

// world is a vault "shop" with the key "backup", and Microsoft's client for it.
type world struct {
	t       *testing.T
	dir     string
	store   *state.Store
	service *keyvault.Service
	clock   *clock.Manual
	server  *httptest.Server
	client  *azkeys.Client
	asked   policy.TokenRequestOptions // what the client wanted a token for
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.service.Handler().ServeHTTP(rw, r) }))
	t.Cleanup(w.server.Close)
	w.start()
	t.Cleanup(func() { must(t, w.store.Close()) })
	must(t, w.service.CreateVault("shop", keyvault.AllPermissions()))
	must(t, w.service.CreateKey("shop", "backup", 0))
	w.client = w.clientOf("shop")
	return w
}

// start opens the service over what the folder holds.
func (w *world) start() {
	w.t.Helper()
	var err error
	w.store, err = state.Open(w.dir)
	must(w.t, err)
	w.service, err = keyvault.New(keyvault.Config{
		State: w.store, Clock: w.clock, Verify: verify, SettleTime: time.Second,
		Authority: func() string { return "https://login.example/" + tenant }, BaseURL: func() string { return w.server.URL },
	})
	must(w.t, err)
}

// verify takes the token that GetToken gives, for the audience of vaults.
func verify(r *http.Request, audiences ...string) error {
	if r.Header.Get("Authorization") != "Bearer good" || len(audiences) != 1 || audiences[0] != "https://vault.azure.net" {
		return errors.New("a wrong token")
	}
	return nil
}

// GetToken implements azcore.TokenCredential.
func (w *world) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	w.asked = o
	return azcore.AccessToken{Token: "good", ExpiresOn: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

func (w *world) clientOf(vault string) *azkeys.Client {
	w.t.Helper()
	client, err := azkeys.NewClient(w.server.URL+"/keyvault/"+vault, w, &azkeys.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: w.server.Client(), Retry: policy.RetryOptions{MaxRetries: -1}}, DisableChallengeResourceVerification: true,
	})
	must(w.t, err)
	return client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails unless the service answered with that status, code and inner code.
func refused(t *testing.T, what string, err error, status int, code, inner string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != status || response.ErrorCode != code {
		t.Errorf("%s: want %d %s, have %v", what, status, code, err)
		return
	}
	if body, readErr := io.ReadAll(response.RawResponse.Body); readErr != nil || inner != "" && !strings.Contains(string(body), `"innererror":{"code":"`+inner+`"}`) {
		t.Errorf("%s: want inner code %s, have %s, %v", what, inner, body, readErr)
	}
}

func oaep(value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: value}
}

func (w *world) wrap(version string, value []byte) (azkeys.WrapKeyResponse, error) {
	return w.client.WrapKey(w.t.Context(), "backup", version, oaep(value), nil)
}

// versionOf returns the last part of a key's id: azkeys' own parser wants the vault to be a host.
func versionOf(id *azkeys.ID) string { return string(*id)[strings.LastIndexByte(string(*id), '/')+1:] }

// A client without a token is told where to get one and for whom; a token for anybody else is not taken.
func TestChallenge(t *testing.T) {
	w := newWorld(t)
	_, err := w.client.GetKey(t.Context(), "backup", "", nil)
	must(t, err)
	if w.asked.TenantID != tenant || len(w.asked.Scopes) != 1 || w.asked.Scopes[0] != "https://vault.azure.net/.default" {
		t.Errorf("the client asks for a token for %+v", w.asked)
	}
	for _, token := range []string{"", "Bearer bad"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+"/keyvault/shop/keys/backup?api-version=7.4", nil)
		must(t, err)
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		response, err := w.server.Client().Do(r)
		must(t, err)
		_ = response.Body.Close()
		if challenge := response.Header.Get("WWW-Authenticate"); response.StatusCode != http.StatusUnauthorized ||
			!strings.HasPrefix(challenge, `Bearer authorization="https://login.example/`+tenant+`", resource="https://vault.azure.net"`) {
			t.Errorf("token %q: %s, %s", token, response.Status, challenge)
		}
	}
}

// What was wrapped is unwrapped by the same version, whichever is the newest meanwhile, and by no other; the private key is not shown.
func TestWrap_Versions(t *testing.T) {
	w := newWorld(t)
	secret := []byte("thirty-two bytes of a secret key")
	wrapped, err := w.wrap("", secret)
	must(t, err)
	first := versionOf(wrapped.KID)
	created, err := w.client.CreateKey(t.Context(), "backup", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr(int32(3072))}, nil)
	must(t, err)
	second := versionOf(created.Key.KID)
	unwrapped, err := w.client.UnwrapKey(t.Context(), "backup", first, oaep(wrapped.Result), nil)
	must(t, err)
	if !bytes.Equal(unwrapped.Result, secret) || first == second || len(created.Key.N) != 384 || len(created.Key.D) > 0 {
		t.Errorf("unwrapped %q, versions %s and %s, modulus of %d bytes", unwrapped.Result, first, second, len(created.Key.N))
	}
	_, err = w.client.UnwrapKey(t.Context(), "backup", second, oaep(wrapped.Result), nil)
	refused(t, "another version", err, 400, "BadParameter", "")
	again, err := w.wrap("", secret)
	must(t, err)
	if versionOf(again.KID) != second || bytes.Equal(again.Result, wrapped.Result) {
		t.Errorf("without a version %s wraps", versionOf(again.KID))
	}
	var versions int
	for pager := w.client.NewListKeyPropertiesVersionsPager("backup", nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		must(t, err)
		versions += len(page.Value)
	}
	if versions != 2 {
		t.Errorf("%d versions are listed", versions)
	}
	old, err := w.client.WrapKey(t.Context(), "backup", first, azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP), Value: secret}, nil)
	must(t, err)
	back, err := w.client.UnwrapKey(t.Context(), "backup", first, azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP), Value: old.Result}, nil)
	if err != nil || !bytes.Equal(back.Result, secret) {
		t.Errorf("RSA-OAEP with SHA-1: %q, %v", back.Result, err)
	}
}

// The list of refusals: what clients of the platform meet, by status, code and inner code.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	secret := []byte("secret")
	wrapped, err := w.wrap("", secret)
	must(t, err)
	version := versionOf(wrapped.KID)
	unwrap := func() error {
		_, err := w.client.UnwrapKey(t.Context(), "backup", version, oaep(wrapped.Result), nil)
		return err
	}
	wrapAgain := func() error { _, err := w.wrap(version, secret); return err }
	set := func(a azkeys.KeyAttributes) {
		t.Helper()
		_, err := w.client.UpdateKey(t.Context(), "backup", version, azkeys.UpdateKeyParameters{KeyAttributes: &a}, nil)
		must(t, err)
	}
	set(azkeys.KeyAttributes{Enabled: to.Ptr(false)})
	refused(t, "unwrap, disabled", unwrap(), 403, "Forbidden", "KeyDisabled")
	refused(t, "wrap, disabled", wrapAgain(), 403, "Forbidden", "KeyDisabled")
	if got, err := w.client.GetKey(t.Context(), "backup", version, nil); err != nil || *got.Attributes.Enabled {
		t.Errorf("a disabled key is shown: %v", err)
	}
	set(azkeys.KeyAttributes{Enabled: to.Ptr(true), Expires: to.Ptr(w.clock.Now().Add(time.Hour)), NotBefore: to.Ptr(w.clock.Now().Add(-time.Hour))})
	must(t, wrapAgain())
	w.clock.Advance(2 * time.Hour)
	refused(t, "wrap, expired", wrapAgain(), 403, "Forbidden", "KeyExpired")
	must(t, unwrap()) // what was wrapped can be got back
	set(azkeys.KeyAttributes{Expires: to.Ptr(w.clock.Now().Add(9 * time.Hour)), NotBefore: to.Ptr(w.clock.Now().Add(time.Hour))})
	refused(t, "wrap, not yet valid", wrapAgain(), 403, "Forbidden", "KeyNotYetValid")
	_, err = w.client.UpdateKey(t.Context(), "backup", version, azkeys.UpdateKeyParameters{KeyOps: []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationSign)}}, nil)
	must(t, err)
	refused(t, "unwrap, not among the operations", unwrap(), 403, "Forbidden", "KeyOperationForbidden")

	must(t, w.service.Permit("shop", []string{keyvault.PermissionGet}))
	refused(t, "unwrap without permission", unwrap(), 403, "Forbidden", "ForbiddenByRbac")
	_, err = w.client.DeleteKey(t.Context(), "backup", nil)
	refused(t, "delete without permission", err, 403, "Forbidden", "ForbiddenByRbac")
	must(t, w.service.Permit("shop", keyvault.AllPermissions()))

	_, err = w.client.GetKey(t.Context(), "other", "", nil)
	refused(t, "a key that never was", err, 404, "KeyNotFound", "")
	_, err = w.client.GetKey(t.Context(), "backup", strings.Repeat("0", 32), nil)
	refused(t, "a version that never was", err, 404, "KeyNotFound", "")
	_, err = w.clientOf("nowhere").GetKey(t.Context(), "backup", "", nil)
	refused(t, "a vault that never was", err, 404, "VaultNotFound", "")
	_, err = w.client.CreateKey(t.Context(), "curve", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, "an elliptic curve", err, 400, "BadParameter", "")
	_, err = w.client.CreateKey(t.Context(), "small", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr(int32(1024))}, nil)
	refused(t, "a short key", err, 400, "BadParameter", "")
	must(t, w.service.CreateKey("shop", "sound", 0))
	_, err = w.client.WrapKey(t.Context(), "sound", "", oaep(bytes.Repeat([]byte{1}, 500)), nil)
	refused(t, "more than the key can wrap", err, 400, "BadParameter", "")
	_, err = w.client.WrapKey(t.Context(), "sound", "", azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSA15), Value: secret}, nil)
	refused(t, "an algorithm that is not there", err, 400, "BadParameter", "")
	_, err = w.client.Sign(t.Context(), "sound", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmRS256), Value: bytes.Repeat([]byte{1}, 32)}, nil)
	refused(t, "what the twin does not do", err, 501, "NotSupported", "")
}

// A deleted key is found among the deleted alone, can be recovered, and is gone when it is purged; deleting and recovering take
// their time.
func TestDelete_RecoverPurge(t *testing.T) {
	w := newWorld(t)
	wrapped, err := w.wrap("", []byte("secret"))
	must(t, err)
	version := versionOf(wrapped.KID)
	use := func() error {
		_, err := w.client.UnwrapKey(t.Context(), "backup", version, oaep(wrapped.Result), nil)
		return err
	}
	create := func() error {
		_, err := w.client.CreateKey(t.Context(), "backup", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
		return err
	}
	deleted, err := w.client.DeleteKey(t.Context(), "backup", nil)
	must(t, err)
	if deleted.RecoveryID == nil || deleted.ScheduledPurgeDate == nil || deleted.ScheduledPurgeDate.Sub(w.clock.Now()) < 89*24*time.Hour {
		t.Errorf("deleted %+v", deleted)
	}
	refused(t, "a deleted key", use(), 404, "KeyNotFound", "")
	_, err = w.client.GetDeletedKey(t.Context(), "backup", nil)
	refused(t, "a key that is being deleted", err, 404, "KeyNotFound", "")
	refused(t, "its name meanwhile", create(), 409, "Conflict", "ObjectIsBeingDeleted")
	w.clock.Advance(2 * time.Second)
	_, err = w.client.GetDeletedKey(t.Context(), "backup", nil)
	must(t, err)
	refused(t, "its name until it is purged", create(), 409, "Conflict", "ObjectIsDeletedButRecoverable")
	_, err = w.client.RecoverDeletedKey(t.Context(), "backup", nil)
	must(t, err)
	refused(t, "a key that is being recovered", use(), 404, "KeyNotFound", "")
	w.clock.Advance(2 * time.Second)
	must(t, use())

	_, err = w.client.DeleteKey(t.Context(), "backup", nil)
	must(t, err)
	w.clock.Advance(2 * time.Second)
	_, err = w.client.PurgeDeletedKey(t.Context(), "backup", nil)
	must(t, err)
	_, err = w.client.GetDeletedKey(t.Context(), "backup", nil)
	refused(t, "a purged key", err, 404, "KeyNotFound", "")
	must(t, create())
	refused(t, "an old version under the name of a new key", use(), 404, "KeyNotFound", "")
}

// A deleted key goes for good when its time is over.
func TestDelete_PurgedByTime(t *testing.T) {
	w := newWorld(t)
	_, err := w.client.DeleteKey(t.Context(), "backup", nil)
	must(t, err)
	w.clock.Advance(91 * 24 * time.Hour)
	_, err = w.client.RecoverDeletedKey(t.Context(), "backup", nil)
	refused(t, "recovering too late", err, 404, "KeyNotFound", "")
	_, err = w.client.CreateKey(t.Context(), "backup", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	must(t, err)
}

// Everything survives a restart: keys, versions, attributes, deletions.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	secret := []byte("secret")
	wrapped, err := w.wrap("", secret)
	must(t, err)
	must(t, w.service.CreateKey("shop", "gone", 0))
	must(t, w.service.Apply("shop", "gone", keyvault.Delete))
	must(t, w.store.Close())
	w.start()
	unwrapped, err := w.client.UnwrapKey(t.Context(), "backup", versionOf(wrapped.KID), oaep(wrapped.Result), nil)
	if err != nil || !bytes.Equal(unwrapped.Result, secret) {
		t.Errorf("after a restart: %q, %v", unwrapped.Result, err)
	}
	_, err = w.client.GetDeletedKey(t.Context(), "gone", nil)
	must(t, err)
}

// Lists come in pages that lead to one another, in order of names, without deleted keys.
func TestList_Pages(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		must(t, w.service.CreateKey("shop", name, 0))
	}
	must(t, w.service.CreateVault("shop-2", keyvault.AllPermissions()))
	must(t, w.service.CreateKey("shop-2", "of-another-vault", 0))
	must(t, w.service.Apply("shop", "b", keyvault.Delete))
	var names []string
	for next := w.server.URL + "/keyvault/shop/keys?api-version=7.4&maxresults=2"; next != ""; {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, next, nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer good")
		response, err := w.server.Client().Do(r)
		must(t, err)
		var page struct {
			Value    []struct{ KID azkeys.ID }
			NextLink string
		}
		must(t, json.NewDecoder(response.Body).Decode(&page))
		_ = response.Body.Close()
		for _, k := range page.Value {
			names = append(names, versionOf(&k.KID))
		}
		names, next = append(names, "|"), page.NextLink
	}
	if got := strings.Join(names, " "); got != "a backup | c |" {
		t.Errorf("listed: %s", got)
	}
}

// Requests that nobody would send with good intent are refused in the service's form.
func TestHostileRequests(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct{ method, path, body string }{
		{"GET", "keys/backup", ""},
		{"GET", "keys/backup?api-version=1.0", ""},
		{"POST", "keys/backup//wrapkey?api-version=7.4", "no json"},
		{"POST", "keys/backup//wrapkey?api-version=7.4", `{"alg":"RSA-OAEP","value":"***"}`},
		{"POST", "keys/backup//wrapkey?api-version=7.4", `{"alg":"RSA-OAEP","value":"` + strings.Repeat("A", 100<<10) + `"}`},
		{"GET", "keys/..%2f..%2fetc?api-version=7.4", ""},
		{"GET", "keys/a/b/c/d/e?api-version=7.4", ""},
		{"GET", "keys?api-version=7.4&maxresults=0", ""},
		{"GET", "keys?api-version=7.4&$skiptoken=-5", ""},
		{"PUT", "secrets/x?api-version=7.4", "{}"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), row.method, w.server.URL+"/keyvault/shop/"+row.path, strings.NewReader(row.body))
		must(t, err)
		r.Header.Set("Authorization", "Bearer good")
		response, err := w.server.Client().Do(r)
		must(t, err)
		var told struct {
			Error struct{ Code, Message string }
		}
		if err := json.NewDecoder(response.Body).Decode(&told); err != nil || response.StatusCode < 400 || told.Error.Code == "" || told.Error.Message == "" {
			t.Errorf("%s %s: %s, %+v, %v", row.method, row.path, response.Status, told, err)
		}
		_ = response.Body.Close()
	}
}
