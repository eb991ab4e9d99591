// Package keyvault is the twin's Azure Key Vault: the data plane of RSA keys over real HTTP, path-style (/keyvault/VAULT/keys/…).
//
// It promises what a client of wrapped keys can meet: versions, attributes, disabled and expired keys, soft delete with recovery
// and purge that take their time, permissions, the challenge that tells clients where to get a token and for whom, tokens checked for their
// audience, and the service's error codes, inner codes included. Keys survive a restart. What it does not carry out it
// refuses with an error code; it never pretends. It must never give out a private key, and holds nothing of value.
//
// Rules come from the REST reference of Key Vault, api-versions 7.0 to 7.6 and 2025-07-01, and "About keys" (Microsoft Learn,
// 2026); a comment says so where we had to choose ourselves.
package keyvault

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Audience is what a token for the data plane is made out to.
const Audience = "https://vault.azure.net"

// Prefix begins the paths that Handler serves.
const Prefix = "/keyvault/"

const (
	defaultRetention  = 90 // days that a deleted key can be recovered
	retentionMin      = 7
	defaultKeyBits    = 2048
	requestBytesMax   = 64 << 10
	operationBytesMax = 1 << 10 // of a value to wrap or unwrap
	pageMax           = 25
)

// Permissions of the data plane, as the names of its actions end.
const (
	PermissionGet     = "get"
	PermissionList    = "list"
	PermissionCreate  = "create"
	PermissionUpdate  = "update"
	PermissionDelete  = "delete"
	PermissionRecover = "recover"
	PermissionPurge   = "purge"
	PermissionWrap    = "wrapKey"
	PermissionUnwrap  = "unwrapKey"
)

// AllPermissions lists what may be granted.
func AllPermissions() []string {
	return []string{
		PermissionGet, PermissionList, PermissionCreate, PermissionUpdate, PermissionDelete, PermissionRecover, PermissionPurge, PermissionWrap, PermissionUnwrap,
	}
}

// Config is what a Service needs; all fields but SettleTime are required.
type Config struct {
	State *state.Store
	Clock clock.Clock
	// Verify checks the bearer token of a request against the audiences.
	Verify func(r *http.Request, audiences ...string) error
	// Authority is where clients get tokens: https URL of the identity provider with the tenant's id.
	Authority func() string
	BaseURL   func() string // https URL under which Handler is served, without a slash at its end
	// SettleTime is how long deleting and recovering take, 0 for an instant: meanwhile the name can be neither used nor found.
	SettleTime time.Duration
}

// Service serves any number of vaults. Safe for concurrent use.
type Service struct{ config Config }

// New returns a service over what the state holds.
func New(config Config) (*Service, error) {
	if config.State == nil || config.Clock == nil || config.Verify == nil || config.Authority == nil || config.BaseURL == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the key vaults lack a part of the twin")
	}
	return &Service{config}, nil
}

var (
	vaultName = regexp.MustCompile(`^[a-zA-Z](-?[a-zA-Z0-9]){2,23}$`)
	keyName   = regexp.MustCompile(`^[a-zA-Z0-9-]{1,127}$`)
)

// CreateVault makes a vault in which the twin's application has the permissions; one that exists stays as it is.
func (s *Service) CreateVault(name string, permissions []string) error {
	if !vaultName.MatchString(name) || len(name) > 24 {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a vault's name", name).WithHint("use 3 to 24 letters, digits and single hyphens, beginning with a letter")
	}
	if err := checkPermissions(permissions); err != nil {
		return err
	}
	return s.config.State.Update(func(tx *state.Tx) error {
		if tx.Get(vaultID(name)) != nil {
			return nil
		}
		return put(tx, vaultID(name), vault{Name: name, Permissions: permissions, RetentionDays: defaultRetention}, s.config.Clock.Now())
	})
}

func checkPermissions(permissions []string) error {
	for _, p := range permissions {
		if !slices.Contains(AllPermissions(), p) {
			return holdfast.Errorf(holdfast.KindInvalid, "%q is no permission on keys", p).WithField("permissions").
				WithHint("accepted: %s", strings.Join(AllPermissions(), ", "))
		}
	}
	return nil
}

// CreateKey makes the first version of a key with so many bits, 0 for 2,048; a key that exists stays as it is.
func (s *Service) CreateKey(vaultName, name string, bits int) error {
	err := s.change(vaultName, name, func(tx *state.Tx, v vault, k *key) error {
		if k != nil {
			return nil
		}
		_, err := s.newVersion(tx, v, nil, createRequest{Type: "RSA", Bits: bits, name: name})
		return err
	})
	return asOurs(err)
}

// Change is what an administrator does to a key, past permissions.
type Change string

// The changes. Those of attributes are made to the newest version.
const (
	Disable Change = "disable"
	Enable  Change = "enable"
	Expire  Change = "expire" // its time is over from now on
	Delete  Change = "delete"
	Recover Change = "recover"
	Purge   Change = "purge"
	Renew   Change = "renew" // makes a new version
)

// Apply changes a key, KindNotFound when there is none.
func (s *Service) Apply(vaultName, name string, change Change) error {
	now := s.config.Clock.Now()
	err := s.change(vaultName, name, func(tx *state.Tx, v vault, k *key) error {
		if k == nil {
			return keyNotFound(name, "")
		}
		switch change {
		case Disable, Enable:
			k.newest().Enabled = change == Enable
		case Expire:
			k.newest().Expires = now.Unix()
		case Renew:
			_, err := s.newVersion(tx, v, k, createRequest{Type: "RSA", name: name})
			return err
		case Delete:
			k.delete(now, v.RetentionDays, 0)
		case Recover:
			k.Deleted = nil
		case Purge:
			tx.Delete(keyID(v.Name, name))
			return nil
		default:
			return holdfast.Errorf(holdfast.KindInvalid, "%q is no change of a key", change).WithField("do").
				WithHint("accepted: disable, enable, expire, renew, delete, recover, purge")
		}
		return put(tx, keyID(v.Name, name), k, now)
	})
	return asOurs(err)
}

// Permit sets what the twin's application may do in a vault.
func (s *Service) Permit(name string, permissions []string) error {
	if err := checkPermissions(permissions); err != nil {
		return err
	}
	return asOurs(s.config.State.Update(func(tx *state.Tx) error {
		v, err := vaultOf(tx.View, name)
		if err != nil {
			return err
		}
		v.Permissions = permissions
		return put(tx, vaultID(name), v, s.config.Clock.Now())
	}))
}

// change runs a change of one key in a transaction; k is nil when there is none.
func (s *Service) change(vaultName, name string, do func(tx *state.Tx, v vault, k *key) error) error {
	return s.config.State.Update(func(tx *state.Tx) error {
		v, err := vaultOf(tx.View, vaultName)
		if err != nil {
			return err
		}
		k, err := keyOf(tx.View, vaultName, name)
		if err != nil {
			return err
		}
		return do(tx, v, k)
	})
}

// newVersion adds a version to a key, nil for a new one.
func (s *Service) newVersion(tx *state.Tx, v vault, k *key, r createRequest) (*key, error) {
	bits := r.Bits
	if bits == 0 {
		bits = defaultKeyBits
	}
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return nil, badParameter("Invalid key size: %d. 2048, 3072 and 4096 are supported.", bits)
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "no key could be made")
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never returns an error (crypto/rand, Go 1.24)
	now := s.config.Clock.Now()
	made := version{
		ID: hex.EncodeToString(id), Private: x509.MarshalPKCS1PrivateKey(private), Enabled: true, Created: now.Unix(), Updated: now.Unix(),
		Operations: r.Operations, Tags: r.Tags,
	}
	if made.Operations == nil {
		made.Operations = []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
	}
	r.Attributes.apply(&made)
	if k == nil {
		k = &key{Name: r.name}
	}
	k.Versions = append(k.Versions, made)
	return k, put(tx, keyID(v.Name, r.name), k, now)
}
