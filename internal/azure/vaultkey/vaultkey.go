// Package vaultkey wraps and unwraps the keys of repositories with keys of Azure Key Vault, through the service's own SDK.
//
// It promises that a key is spoken to at its own vault alone: an id that leads anywhere else than to the configured cloud's
// vaults is refused before a token is asked for, since the id of a slot comes from the storage. And that a key that is disabled,
// expired, deleted, purged, not permitted or another one is told as what it is, with what to do next. It must never keep
// what it unwrapped, nor put it into an error.
//
// It speaks azkeys v1.5.0, api-version 2025-07-01 (Key Vault REST reference: Keys, Wrap Key and Unwrap Key).
package vaultkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
)

// Algorithm is how keys are wrapped: RSA-OAEP with SHA-256.
const Algorithm = string(azkeys.EncryptionAlgorithmRSAOAEP256)

// Access is how vaults are reached.
type Access struct {
	Credential azcore.TokenCredential
	Options    policy.ClientOptions
	// Endpoint is the vaults' URL with {vault} in it where endpoints were configured; "" for those of a cloud.
	Endpoint string
	Suffixes []string // of the cloud's vault hosts, such as vault.azure.net; of no meaning with an Endpoint
}

// Vault wraps and unwraps with keys of any vault of the cloud. Safe for concurrent use.
type Vault struct {
	access Access
	ours   *regexp.Regexp // what vaults' URLs look like

	mu      sync.Mutex                // guards clients
	clients map[string]*azkeys.Client // by vault URL: each keeps what it learnt of the vault's tokens
}

const vaultPattern = `[A-Za-z0-9-]{3,24}`

// New returns a Vault. It makes no request.
func New(access Access) *Vault {
	var hosts []string
	for _, suffix := range access.Suffixes {
		hosts = append(hosts, regexp.QuoteMeta(suffix))
	}
	pattern := `https://` + vaultPattern + `\.(` + strings.Join(hosts, "|") + `)`
	if access.Endpoint != "" {
		pattern = strings.Replace(regexp.QuoteMeta(access.Endpoint), regexp.QuoteMeta("{vault}"), vaultPattern, 1)
	}
	return &Vault{access: access, ours: regexp.MustCompile(`^` + pattern + `$`), clients: map[string]*azkeys.Client{}}
}

// keyName is a parsed key id.
type keyName struct{ id, vault, name, version string }

var keyPath = regexp.MustCompile(`^(https://.+)/keys/([A-Za-z0-9-]{1,127})(?:/([0-9A-Fa-f]{32}))?/?$`)

// parse reads a key's id and makes sure that it leads to a vault of ours.
func (v *Vault) parse(id string) (keyName, error) {
	parts := keyPath.FindStringSubmatch(id)
	if u, err := url.Parse(id); err != nil || parts == nil || u.RawQuery != "" || u.User != nil {
		return keyName{}, holdfast.Errorf(holdfast.KindInvalid, "%q does not name a key of a vault", id).WithField("vaultKey").
			WithHint("write it as the portal shows it: https://VAULT.vault.azure.net/keys/NAME, with or without /VERSION")
	}
	if !v.ours.MatchString(parts[1]) {
		return keyName{}, holdfast.Errorf(holdfast.KindRefused, "%s is not a key vault of the configured cloud, so no token is sent there", parts[1]).WithField("vaultKey").
			WithHint("check the key's address, and cloud or endpoints.keyVault in the --azure file")
	}
	return keyName{id: id, vault: parts[1], name: parts[2], version: parts[3]}, nil
}

func (v *Vault) client(k keyName) (*azkeys.Client, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if client := v.clients[k.vault]; client != nil {
		return client, nil
	}
	client, err := azkeys.NewClient(k.vault, v.access.Credential, &azkeys.ClientOptions{
		ClientOptions: v.access.Options,
		// The SDK compares the challenge's resource with the host. Where endpoints are configured the host is another one; parse has
		// made sure that it is the configured one.
		DisableChallengeResourceVerification: v.access.Endpoint != "",
	})
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInvalid, err, "the key vault %s cannot be used", k.vault)
	}
	v.clients[k.vault] = client
	return client, nil
}

// Wrapped is what a vault made of a key.
type Wrapped struct {
	KeyID     string // of the version that wrapped
	Algorithm string
	Bytes     []byte
}

// Wrap wraps a key of 32 bytes. keyID may name a version; without one the newest is used.
func (v *Vault) Wrap(ctx context.Context, keyID string, plain []byte) (Wrapped, error) {
	k, err := v.parse(keyID)
	if err != nil {
		return Wrapped{}, err
	}
	client, err := v.client(k)
	if err != nil {
		return Wrapped{}, err
	}
	response, err := whole(func() (azkeys.WrapKeyResponse, error) {
		return client.WrapKey(ctx, k.name, k.version, parameters(plain), nil)
	})
	if err != nil {
		return Wrapped{}, v.explain(ctx, client, k, "wrap", err)
	}
	if response.KID == nil || len(response.Result) == 0 {
		return Wrapped{}, holdfast.Errorf(holdfast.KindUnavailable, "the vault's answer for %s is not complete", k.id).WithHint("run again")
	}
	return Wrapped{KeyID: string(*response.KID), Algorithm: Algorithm, Bytes: response.Result}, nil
}

// Unwrap returns what Wrap was given.
func (v *Vault) Unwrap(ctx context.Context, w Wrapped) ([]byte, error) {
	k, err := v.parse(w.KeyID)
	if err != nil {
		return nil, err
	}
	client, err := v.client(k)
	if err != nil {
		return nil, err
	}
	response, err := whole(func() (azkeys.UnwrapKeyResponse, error) {
		return client.UnwrapKey(ctx, k.name, k.version, parameters(w.Bytes), nil)
	})
	if err != nil {
		return nil, v.explain(ctx, client, k, "unwrap", err)
	}
	return response.Result, nil
}

// cutsMax bounds how often an answer that broke off is asked for again.
const cutsMax = 3

// whole asks again for an answer that broke off in its middle: the SDK tries again only what did not begin. Wrapping and
// unwrapping change nothing, so they may be done twice.
func whole[T any](ask func() (T, error)) (answer T, err error) {
	for range cutsMax {
		answer, err = ask()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
	}
	return answer, err
}

func parameters(value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: value}
}

const (
	hintOther      = "open the repository with a password or recovery code meanwhile"
	hintPermission = "give the identity the role Key Vault Crypto Service Encryption User on the key, or the permissions get, wrapKey and unwrapKey"
)

// explain says what the vault's refusal means.
func (v *Vault) explain(ctx context.Context, client *azkeys.Client, k keyName, doing string, err error) error {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		var unknown *net.DNSError
		if errors.As(err, &unknown) && unknown.IsNotFound {
			return noVault(k, err)
		}
		return answer.Explain(err, doing+" with the vault key "+k.id)
	}
	refused := func(message, hint string, args ...any) error {
		return holdfast.Wrap(holdfast.KindRefused, answer.CauseOf(response), "the vault key %s %s", k.id, message).WithHint(hint, args...)
	}
	switch innerCode(response) {
	case "KeyDisabled":
		return refused("is disabled", "enable it: az keyvault key set-attributes --id %s --enabled true; or %s", k.id, hintOther)
	case "KeyExpired":
		return refused("has expired, so it wraps nothing new", "make a new version of the key, or extend it; what it has wrapped it still unwraps")
	case "KeyNotYetValid":
		return refused("is not valid yet, so it wraps nothing", "wait until its time begins, or change that time")
	case "KeyOperationForbidden":
		return refused("is not meant for that: its operations lack "+doing+"Key", "add wrapKey and unwrapKey to the operations of the key")
	case "ForbiddenByRbac", "AccessDenied":
		return refused("may not be used by this identity to "+doing, hintPermission)
	case "ForbiddenByFirewall", "ForbiddenByConnection":
		return refused("cannot be reached from here: the vault's network rules refuse it", "run where the vault lets you in, or add this address to its rules")
	}
	switch {
	case response.StatusCode == http.StatusNotFound && response.ErrorCode == "VaultNotFound":
		return noVault(k, answer.CauseOf(response))
	case response.StatusCode == http.StatusNotFound:
		return missing(ctx, client, k, response)
	case response.StatusCode == http.StatusBadRequest && doing == "unwrap":
		return holdfast.Wrap(holdfast.KindWrongKey, answer.CauseOf(response), "the vault key %s did not wrap what is to be unwrapped", k.id).
			WithHint("the key slot was wrapped by another key or is damaged; %s", hintOther)
	case response.StatusCode == http.StatusBadRequest:
		return holdfast.Wrap(holdfast.KindInvalid, answer.CauseOf(response), "the vault key %s cannot wrap with %s", k.id, Algorithm).WithField("vaultKey").
			WithHint("name an RSA key of 2,048 bits or more")
	case response.StatusCode == http.StatusForbidden:
		return refused("may not be used by this identity to "+doing, hintPermission)
	}
	return answer.Explain(err, doing+" with the vault key "+k.id)
}

func noVault(k keyName, err error) error {
	return holdfast.Wrap(holdfast.KindNotFound, err, "there is no key vault at %s", k.vault).
		WithHint("check the address; a vault that was deleted can be recovered for a while: az keyvault recover; or %s", hintOther)
}

// missing tells a deleted key from one that is gone for good.
func missing(ctx context.Context, client *azkeys.Client, k keyName, response *azcore.ResponseError) error {
	cause := answer.CauseOf(response)
	not := func(hint, format string, args ...any) error {
		return holdfast.Wrap(holdfast.KindNotFound, cause, "the vault key %s %s", k.id, fmt.Sprintf(format, args...)).WithHint("%s", hint)
	}
	deleted, err := client.GetDeletedKey(ctx, k.name, nil)
	if err == nil {
		until := ""
		if deleted.ScheduledPurgeDate != nil {
			until = " until " + deleted.ScheduledPurgeDate.UTC().Format(time.DateOnly)
		}
		return not("recover it: az keyvault key recover --id "+k.vault+"/deletedkeys/"+k.name+"; or "+hintOther, "is deleted; it can be recovered%s", until)
	}
	if !answer.NotFound(err) { // nobody may look
		return not("see whether it is deleted: az keyvault key list-deleted; recover it if so, or "+hintOther, "does not exist, or is deleted")
	}
	if _, err := client.GetKey(ctx, k.name, "", nil); err == nil && k.version != "" {
		return not("a purged version is gone for ever: "+hintOther, "does not exist, though its vault has another key of that name: it was purged and made anew")
	}
	return not("check the address; a purged key is gone for ever: "+hintOther, "does not exist: it never did, or it was purged")
}

// innerCode returns what the service says more closely than by its code, "" when it does not.
func innerCode(response *azcore.ResponseError) string {
	if response.RawResponse == nil {
		return ""
	}
	body, err := runtime.Payload(response.RawResponse)
	if err != nil {
		return ""
	}
	var told struct {
		Error struct {
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &told) != nil {
		return ""
	}
	return told.Error.Inner.Code
}
