package keyvault

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RSA-OAEP of RFC 8017 is defined with it, and clients may ask for it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"hash"
	"math/big"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// createRequest is the body of a creation.
type createRequest struct {
	Type       string            `json:"kty"`
	Bits       int               `json:"key_size"`
	Operations []string          `json:"key_ops"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags"`

	name string
}

// attributes are those that a client may set; times are Unix seconds.
type attributes struct {
	Enabled   *bool  `json:"enabled"`
	NotBefore *int64 `json:"nbf"`
	Expires   *int64 `json:"exp"`
}

func (a attributes) apply(v *version) {
	if a.Enabled != nil {
		v.Enabled = *a.Enabled
	}
	if a.NotBefore != nil {
		v.NotBefore = *a.NotBefore
	}
	if a.Expires != nil {
		v.Expires = *a.Expires
	}
}

func (c *call) createKey(name string) error {
	if err := c.permit(PermissionCreate, name); err != nil {
		return err
	}
	r := createRequest{name: name}
	if err := c.decode(&r); err != nil {
		return err
	}
	if r.Type != "RSA" {
		return badParameter("Keys of type %q are not supported by this vault; RSA is.", r.Type)
	}
	var made *key
	err := c.s.change(c.vault.Name, name, func(tx *state.Tx, v vault, k *key) (err error) {
		switch {
		case k != nil && k.busy(c.now):
			return nameBusy(name)
		case k != nil && k.Deleted != nil && c.now.Unix() < k.Deleted.Purge:
			return nameTaken(name)
		case k != nil && k.Deleted != nil:
			k = nil
		}
		made, err = c.s.newVersion(tx, v, k, r)
		return err
	})
	if err != nil {
		return asRefusal(err)
	}
	writeJSON(c.w, http.StatusOK, c.bundle(made, made.newest()))
	return nil
}

func (c *call) getKey(name, id string) error {
	if err := c.permit(PermissionGet, name); err != nil {
		return err
	}
	k, err := c.present(c.s.config.State.View(), name)
	if err != nil {
		return err
	}
	v := k.version(id)
	if v == nil {
		return keyNotFound(name, id)
	}
	writeJSON(c.w, http.StatusOK, c.bundle(k, v))
	return nil
}

func (c *call) updateKey(name, id string) error {
	if err := c.permit(PermissionUpdate, name); err != nil {
		return err
	}
	var r struct {
		Operations []string          `json:"key_ops"`
		Attributes attributes        `json:"attributes"`
		Tags       map[string]string `json:"tags"`
	}
	if err := c.decode(&r); err != nil {
		return err
	}
	var answer map[string]any
	err := c.s.config.State.Update(func(tx *state.Tx) error {
		k, err := c.present(tx.View, name)
		if err != nil {
			return err
		}
		v := k.version(id)
		if v == nil {
			return keyNotFound(name, id)
		}
		r.Attributes.apply(v)
		if r.Operations != nil {
			v.Operations = r.Operations
		}
		if r.Tags != nil {
			v.Tags = r.Tags
		}
		v.Updated = c.now.Unix()
		answer = c.bundle(k, v)
		return put(tx, keyID(c.vault.Name, name), k, c.now)
	})
	if err != nil {
		return asRefusal(err)
	}
	writeJSON(c.w, http.StatusOK, answer)
	return nil
}

func (c *call) deleteKey(name string) error {
	return c.move(PermissionDelete, name, c.present, func(k *key) { k.delete(c.now, c.vault.RetentionDays, c.s.config.SettleTime) })
}

func (c *call) recoverKey(name string) error {
	return c.move(PermissionRecover, name, c.gone, func(k *key) {
		k.Deleted, k.BusyUntil = nil, c.now.Add(c.s.config.SettleTime).UnixMilli()
	})
}

// move changes the state of a key as a whole and answers with it.
func (c *call) move(permission, name string, find func(*state.View, string) (*key, error), do func(*key)) error {
	if err := c.permit(permission, name); err != nil {
		return err
	}
	var answer map[string]any
	err := c.s.config.State.Update(func(tx *state.Tx) error {
		k, err := find(tx.View, name)
		if err != nil {
			return err
		}
		do(k)
		answer = c.bundle(k, k.newest())
		return put(tx, keyID(c.vault.Name, name), k, c.now)
	})
	if err != nil {
		return asRefusal(err)
	}
	writeJSON(c.w, http.StatusOK, answer)
	return nil
}

func (c *call) getDeleted(name string) error {
	if err := c.permit(PermissionGet, name); err != nil {
		return err
	}
	k, err := c.gone(c.s.config.State.View(), name)
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, c.bundle(k, k.newest()))
	return nil
}

func (c *call) purgeKey(name string) error {
	if err := c.permit(PermissionPurge, name); err != nil {
		return err
	}
	err := c.s.config.State.Update(func(tx *state.Tx) error {
		if _, err := c.gone(tx.View, name); err != nil {
			return err
		}
		tx.Delete(keyID(c.vault.Name, name))
		return nil
	})
	if err != nil {
		return asRefusal(err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) listKeys() error {
	return c.listed(func(k *key) []map[string]any {
		if k.Deleted != nil || k.busy(c.now) {
			return nil
		}
		return []map[string]any{{"kid": c.keyURL(k, nil), "attributes": c.attributes(k.newest()), "tags": k.newest().Tags}}
	})
}

func (c *call) listDeleted() error {
	return c.listed(func(k *key) []map[string]any {
		if k.Deleted == nil || k.busy(c.now) {
			return nil
		}
		item := c.bundle(k, k.newest())
		delete(item, "key")
		item["kid"] = c.keyURL(k, nil)
		return []map[string]any{item}
	})
}

func (c *call) listVersions(name string) error {
	return c.listed(func(k *key) []map[string]any {
		if !strings.EqualFold(k.Name, name) || k.Deleted != nil || k.busy(c.now) {
			return nil
		}
		var items []map[string]any
		for i := range k.Versions {
			items = append(items, map[string]any{"kid": c.keyURL(k, &k.Versions[i]), "attributes": c.attributes(&k.Versions[i]), "tags": k.Versions[i].Tags})
		}
		return items
	})
}

func (c *call) listed(rows func(*key) []map[string]any) error {
	if err := c.permit(PermissionList, ""); err != nil {
		return err
	}
	all, err := keysOf(c.s.config.State.View(), c.vault.Name)
	if err != nil {
		return err
	}
	items := []map[string]any{}
	for _, k := range all {
		items = append(items, rows(k)...)
	}
	return c.list(items)
}

// operate wraps or unwraps. Outside of its time a key still unwraps, so that what was wrapped can be got back; disabled it
// does nothing ("About keys", date-time controlled operations).
func (c *call) operate(name, id, permission string, do func(*rsa.PrivateKey, func() hash.Hash, []byte) ([]byte, error)) error {
	if err := c.permit(permission, name); err != nil {
		return err
	}
	var r struct {
		Algorithm string `json:"alg"`
		Value     string `json:"value"`
	}
	if err := c.decode(&r); err != nil {
		return err
	}
	k, err := c.present(c.s.config.State.View(), name)
	if err != nil {
		return err
	}
	v := k.version(id)
	if v == nil {
		return keyNotFound(name, id)
	}
	if err := c.usable(v, permission); err != nil {
		return err
	}
	value, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.Value, "="))
	if err != nil || len(value) == 0 || len(value) > operationBytesMax {
		return badParameter("The value is not base64url of 1 to %d bytes.", operationBytesMax)
	}
	digest := map[string]func() hash.Hash{"RSA-OAEP": sha1.New, "RSA-OAEP-256": sha256.New}[r.Algorithm]
	if digest == nil {
		return badParameter("The algorithm %q is not supported; RSA-OAEP and RSA-OAEP-256 are.", r.Algorithm)
	}
	private, err := x509.ParsePKCS1PrivateKey(v.Private)
	if err != nil {
		return asRefusal(err)
	}
	result, err := do(private, digest, value)
	if err != nil {
		return badParameter("The parameter is incorrect.")
	}
	writeJSON(c.w, http.StatusOK, map[string]string{"kid": c.keyURL(k, v), "value": base64.RawURLEncoding.EncodeToString(result)})
	return nil
}

func (c *call) usable(v *version, operation string) error {
	switch {
	case !v.Enabled:
		return forbidden("KeyDisabled", "Operation %s is not allowed on a disabled key.", operation)
	case !slices.Contains(v.Operations, operation):
		return forbidden("KeyOperationForbidden", "Operation %s is not permitted on this key.", operation)
	case operation == PermissionWrap && v.NotBefore != 0 && c.now.Unix() < v.NotBefore:
		return forbidden("KeyNotYetValid", "Operation %s is not allowed on a key that is not valid yet.", operation)
	case operation == PermissionWrap && v.Expires != 0 && c.now.Unix() >= v.Expires:
		return forbidden("KeyExpired", "Operation %s is not allowed on an expired key.", operation)
	}
	return nil
}

func wrap(private *rsa.PrivateKey, digest func() hash.Hash, value []byte) ([]byte, error) {
	return rsa.EncryptOAEP(digest(), rand.Reader, &private.PublicKey, value, nil)
}

func unwrap(private *rsa.PrivateKey, digest func() hash.Hash, value []byte) ([]byte, error) {
	return rsa.DecryptOAEP(digest(), nil, private, value, nil)
}

// keyURL is a key's id, without a version for nil.
func (c *call) keyURL(k *key, v *version) string {
	if v == nil {
		return c.base() + "/keys/" + k.Name
	}
	return c.base() + "/keys/" + k.Name + "/" + v.ID
}

func (c *call) attributes(v *version) map[string]any {
	a := map[string]any{
		"enabled": v.Enabled, "created": v.Created, "updated": v.Updated, "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": c.vault.RetentionDays,
		"exportable": false,
	}
	if v.NotBefore != 0 {
		a["nbf"] = v.NotBefore
	}
	if v.Expires != 0 {
		a["exp"] = v.Expires
	}
	return a
}

// bundle is a version of a key as the service shows it, with what a deletion adds.
func (c *call) bundle(k *key, v *version) map[string]any {
	b := map[string]any{"attributes": c.attributes(v)}
	if v.Tags != nil {
		b["tags"] = v.Tags
	}
	if private, err := x509.ParsePKCS1PrivateKey(v.Private); err == nil {
		b["key"] = map[string]any{
			"kid": c.keyURL(k, v), "kty": "RSA", "key_ops": v.Operations,
			"n": base64.RawURLEncoding.EncodeToString(private.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(private.E)).Bytes()),
		}
	}
	if k.Deleted != nil {
		b["deletedDate"], b["scheduledPurgeDate"], b["recoveryId"] = k.Deleted.At, k.Deleted.Purge, c.base()+"/deletedkeys/"+k.Name
	}
	return b
}
