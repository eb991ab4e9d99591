package vaultkey_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/vaultkey"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// world is the twin's vault "shop" with the key "backup", reached through Microsoft's client.
type world struct {
	t       *testing.T
	service *keyvault.Service
	faults  *fault.Engine
	clock   *clock.Manual
	url     string // of the key
	vault   *vaultkey.Vault
	tokens  int // that were asked for
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	store, err := state.Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	w.faults, err = fault.New(fault.Plan{}, w.clock)
	must(t, err)
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.faults.Middleware(fault.Vault, w.service.Handler()).ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.service, err = keyvault.New(keyvault.Config{
		State: store, Clock: w.clock, BaseURL: func() string { return server.URL }, Authority: func() string { return "https://login.example/tenant" },
		Verify: func(r *http.Request, _ ...string) error {
			if r.Header.Get("Authorization") != "Bearer good" {
				return errors.New("a wrong token")
			}
			return nil
		},
	})
	must(t, err)
	must(t, w.service.CreateVault("shop", keyvault.AllPermissions()))
	must(t, w.service.CreateKey("shop", "backup", 0))
	w.url = server.URL + "/keyvault/shop/keys/backup"
	w.vault = vaultkey.New(vaultkey.Access{
		Credential: w, Endpoint: server.URL + "/keyvault/{vault}",
		Options: policy.ClientOptions{Transport: server.Client(), Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: time.Millisecond}},
	})
	return w
}

// GetToken implements azcore.TokenCredential.
func (w *world) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	w.tokens++
	return azcore.AccessToken{Token: "good", ExpiresOn: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func secret() []byte { return bytes.Repeat([]byte{7}, 32) }

func (w *world) wrap() vaultkey.Wrapped {
	w.t.Helper()
	wrapped, err := w.vault.Wrap(w.t.Context(), w.url, secret())
	must(w.t, err)
	return wrapped
}

// A key comes back as it went, from the version that wrapped it, also when the key has a newer one.
func TestVault_WrapsAndUnwraps(t *testing.T) {
	w := newWorld(t)
	wrapped := w.wrap()
	if wrapped.Algorithm != "RSA-OAEP-256" || !strings.HasPrefix(wrapped.KeyID, w.url+"/") || bytes.Contains(wrapped.Bytes, secret()) {
		t.Errorf("wrapped %+v", wrapped)
	}
	must(t, w.service.Apply("shop", "backup", keyvault.Renew))
	for range 2 { // the second one needs no challenge
		if got, err := w.vault.Unwrap(t.Context(), wrapped); err != nil || !bytes.Equal(got, secret()) {
			t.Errorf("unwrapped %x, %v", got, err)
		}
	}
	if renewed := w.wrap(); renewed.KeyID == wrapped.KeyID {
		t.Error("the old version still wraps what names none")
	}
	old, err := w.vault.Wrap(t.Context(), wrapped.KeyID, secret())
	if err != nil || old.KeyID != wrapped.KeyID {
		t.Errorf("the version that was named does not wrap: %s, %v", old.KeyID, err)
	}
}

// What a vault refuses is told as what it is, with what to do next.
func TestVault_EachRefusalIsItsOwn(t *testing.T) {
	for what, row := range map[string]struct {
		spoil       func(w *world, wrapped *vaultkey.Wrapped)
		wrap        bool // the wrapping is refused, rather than the unwrapping
		kind        holdfast.Kind
		words, hint string
	}{
		"disabled": {
			func(w *world, _ *vaultkey.Wrapped) { must(w.t, w.service.Apply("shop", "backup", keyvault.Disable)) }, false,
			holdfast.KindRefused, "is disabled", "set-attributes",
		},
		"expired": {
			func(w *world, _ *vaultkey.Wrapped) { must(w.t, w.service.Apply("shop", "backup", keyvault.Expire)) }, true,
			holdfast.KindRefused, "has expired", "new version",
		},
		"deleted": {
			func(w *world, _ *vaultkey.Wrapped) { must(w.t, w.service.Apply("shop", "backup", keyvault.Delete)) }, false,
			holdfast.KindNotFound, "is deleted; it can be recovered until 2026-05-30", "key recover",
		},
		"deleted, and nobody may look": {func(w *world, _ *vaultkey.Wrapped) {
			must(w.t, w.service.Apply("shop", "backup", keyvault.Delete))
			must(w.t, w.service.Permit("shop", []string{keyvault.PermissionUnwrap}))
		}, false, holdfast.KindNotFound, "or is deleted", "list-deleted"},
		"purged": {
			func(w *world, _ *vaultkey.Wrapped) { must(w.t, w.service.Apply("shop", "backup", keyvault.Purge)) }, false,
			holdfast.KindNotFound, "or it was purged", "password or recovery code",
		},
		"purged and made anew": {func(w *world, _ *vaultkey.Wrapped) {
			must(w.t, w.service.Apply("shop", "backup", keyvault.Purge))
			must(w.t, w.service.CreateKey("shop", "backup", 0))
		}, false, holdfast.KindNotFound, "made anew", "for ever"},
		"no permission": {func(w *world, _ *vaultkey.Wrapped) {
			must(w.t, w.service.Permit("shop", []string{keyvault.PermissionGet}))
		}, false, holdfast.KindRefused, "may not be used by this identity to unwrap", "Crypto Service Encryption User"},
		"no permission to wrap": {func(w *world, _ *vaultkey.Wrapped) {
			must(w.t, w.service.Permit("shop", []string{keyvault.PermissionUnwrap}))
		}, true, holdfast.KindRefused, "to wrap", "wrapKey"},
		"another key": {func(w *world, wrapped *vaultkey.Wrapped) {
			must(w.t, w.service.CreateKey("shop", "other", 0))
			other, err := w.vault.Wrap(w.t.Context(), strings.Replace(w.url, "backup", "other", 1), secret())
			must(w.t, err)
			wrapped.Bytes = other.Bytes
		}, false, holdfast.KindWrongKey, "did not wrap", "recovery code"},
		"no vault": {func(w *world, wrapped *vaultkey.Wrapped) {
			wrapped.KeyID = strings.Replace(wrapped.KeyID, "/shop/", "/nowhere/", 1)
		}, false, holdfast.KindNotFound, "no key vault", "address"},
		"throttled for ever": {func(w *world, _ *vaultkey.Wrapped) {
			must(w.t, w.faults.Set(fault.Plan{Rules: []fault.Rule{{On: fault.Vault, Fault: fault.Throttle, RetryAfterMs: 1}}}))
		}, false, holdfast.KindThrottled, "unwrap with the vault key", ""},
		"no answer": {func(w *world, _ *vaultkey.Wrapped) {
			must(w.t, w.faults.Set(fault.Plan{Rules: []fault.Rule{{On: fault.Vault, Fault: fault.Lost}}}))
		}, false, holdfast.KindUnavailable, "unwrap with the vault key", ""},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			wrapped := w.wrap()
			row.spoil(w, &wrapped)
			_, err := w.vault.Unwrap(t.Context(), wrapped)
			if row.wrap {
				must(t, err)
				_, err = w.vault.Wrap(t.Context(), w.url, secret())
			}
			var told *holdfast.Error
			if !errors.As(err, &told) || told.Kind != row.kind || !strings.Contains(told.Message, row.words) || !strings.Contains(told.Hint, row.hint) {
				t.Errorf("want %s, %q, hint %q; have %+v", row.kind, row.words, row.hint, err)
			}
		})
	}
}

// A single failure of the service is not noticed.
func TestVault_RetriesOnce(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Throttle, fault.Error, fault.Lost, fault.Cut} {
		w := newWorld(t)
		wrapped := w.wrap()
		rule := fault.Rule{On: fault.Vault, Path: "*unwrapkey", Calls: []int{1}, Fault: kind, AfterEffect: kind != fault.Cut}
		if kind == fault.Throttle {
			rule.RetryAfterMs = 1
		}
		must(t, w.faults.Set(fault.Plan{Rules: []fault.Rule{rule}}))
		if got, err := w.vault.Unwrap(t.Context(), wrapped); err != nil || !bytes.Equal(got, secret()) {
			t.Errorf("%s: %v", kind, err)
		}
		if counts := w.faults.Counts(); counts[0].Fired != 1 {
			t.Errorf("%s: the fault was not met: %+v", kind, counts)
		}
	}
}

// No token goes anywhere but to the vaults of the configured cloud: the id of a slot comes from the storage, where a stranger may
// have written it.
func TestVault_SendsTokensToVaultsAlone(t *testing.T) {
	w := newWorld(t)
	public := vaultkey.New(vaultkey.Access{Credential: w, Suffixes: []string{"vault.azure.net"}})
	for _, row := range []struct {
		vault *vaultkey.Vault
		id    string
		kind  holdfast.Kind
	}{
		{w.vault, "https://evil.example/keyvault/shop/keys/backup", holdfast.KindRefused},
		{w.vault, "https://shop.vault.azure.net/keys/backup", holdfast.KindRefused},
		{w.vault, strings.Replace(w.url, "/keyvault/", "/", 1), holdfast.KindRefused},
		{public, "https://evil.example/keys/backup", holdfast.KindRefused},
		{public, "https://shop.vault.azure.net.evil.example/keys/backup", holdfast.KindRefused},
		{public, "https://evil.example/.vault.azure.net/keys/backup", holdfast.KindRefused},
		{public, "https://shop.vault.azure.net:444/keys/backup", holdfast.KindRefused},
		{public, "https://user@shop.vault.azure.net/keys/backup", holdfast.KindInvalid},
		{public, "http://shop.vault.azure.net/keys/backup", holdfast.KindInvalid},
		{public, "https://shop.vault.azure.net/secrets/backup", holdfast.KindInvalid},
		{public, "https://shop.vault.azure.net/keys/backup?x=y", holdfast.KindInvalid},
		{public, "https://shop.vault.azure.net/keys/backup/version", holdfast.KindInvalid},
		{public, "backup", holdfast.KindInvalid},
	} {
		if _, err := row.vault.Unwrap(t.Context(), vaultkey.Wrapped{KeyID: row.id, Bytes: secret()}); !holdfast.IsKind(err, row.kind) {
			t.Errorf("%s: want %s, have %v", row.id, row.kind, err)
		}
	}
	if w.tokens > 0 {
		t.Errorf("%d tokens were asked for", w.tokens)
	}
}
