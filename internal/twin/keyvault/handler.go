package keyvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Owns reports whether a path is ours.
func Owns(path string) bool { return strings.HasPrefix(path, Prefix) }

// Handler serves all vaults.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ms-Keyvault-Service-Version", "twin")
		w.Header().Set("Cache-Control", "no-cache")
		if err := s.serve(w, r); err != nil {
			writeError(w, err)
		}
	})
}

// call is one request on its way.
type call struct {
	s     *Service
	w     http.ResponseWriter
	r     *http.Request
	now   time.Time
	vault vault
	body  []byte
}

// serve judges in the order of the platform: token, api-version, operation, permission, key.
func (s *Service) serve(w http.ResponseWriter, r *http.Request) error {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), Prefix), "/")
	if err := s.authenticate(w, r); err != nil {
		return err
	}
	if !slices.Contains([]string{"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01"}, r.URL.Query().Get("api-version")) {
		return badParameter("The api-version %q is missing or not supported.", r.URL.Query().Get("api-version"))
	}
	v, err := vaultOf(s.config.State.View(), name)
	if err != nil {
		return err
	}
	c := &call{s: s, w: w, r: r, now: s.config.Clock.Now(), vault: v}
	if c.body, err = io.ReadAll(io.LimitReader(r.Body, requestBytesMax+1)); err != nil || len(c.body) > requestBytesMax {
		return badParameter("The request's body is too large or broke off.")
	}
	return c.route(rest)
}

// authenticate checks the token and tells a client without one where to get it and for whom.
func (s *Service) authenticate(w http.ResponseWriter, r *http.Request) error {
	challenge := fmt.Sprintf(`Bearer authorization="%s", resource="%s"`, s.config.Authority(), Audience)
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", challenge)
		return refuse(http.StatusUnauthorized, "Unauthorized", "", "AKV10000: The request bears no token.")
	}
	if err := s.config.Verify(r, Audience); err != nil {
		w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		return refuse(http.StatusUnauthorized, "Unauthorized", "", "AKV10022: The token is not accepted: %v", err)
	}
	return nil
}

// route finds the operation. The version may be left out: clients then write /keys/NAME//wrapkey, or /keys/NAME/wrapkey.
func (c *call) route(path string) error {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		plain, err := url.PathUnescape(part)
		if err != nil {
			return badParameter("The path cannot be read.")
		}
		parts[i] = plain
	}
	for len(parts) < 4 {
		parts = append(parts, "")
	}
	if len(parts) > 4 {
		return notSupported(c.r)
	}
	if parts[0] == "deletedkeys" {
		return c.routeDeleted(parts[1], parts[2])
	}
	if parts[0] != "keys" {
		return notSupported(c.r)
	}
	name, version, operation := parts[1], parts[2], parts[3]
	if operation == "" && (version == "wrapkey" || version == "unwrapkey") {
		version, operation = "", version
	}
	if name != "" && !keyName.MatchString(name) {
		return badParameter("The key's name %q is not accepted; it has 1 to 127 letters, digits and hyphens.", name)
	}
	switch c.r.Method + " " + operation {
	case "GET ":
		switch {
		case name == "":
			return c.listKeys()
		case version == "versions":
			return c.listVersions(name)
		}
		return c.getKey(name, version)
	case "POST ":
		if version == "create" {
			return c.createKey(name)
		}
	case "PATCH ":
		return c.updateKey(name, version)
	case "DELETE ":
		if version == "" {
			return c.deleteKey(name)
		}
	case "POST wrapkey":
		return c.operate(name, version, PermissionWrap, wrap)
	case "POST unwrapkey":
		return c.operate(name, version, PermissionUnwrap, unwrap)
	}
	return notSupported(c.r)
}

func (c *call) routeDeleted(name, operation string) error {
	switch c.r.Method + " " + operation {
	case "GET ":
		if name == "" {
			return c.listDeleted()
		}
		return c.getDeleted(name)
	case "DELETE ":
		return c.purgeKey(name)
	case "POST recover":
		return c.recoverKey(name)
	}
	return notSupported(c.r)
}

func notSupported(r *http.Request) error {
	return refuse(http.StatusNotImplemented, "NotSupported", "", "The twin does not carry out %s %s.", r.Method, r.URL.Path)
}

// permit refuses what the application has no permission for.
func (c *call) permit(permission, name string) error {
	if slices.Contains(c.vault.Permissions, permission) {
		return nil
	}
	return forbidden("ForbiddenByRbac", "The caller may not do this: action 'Microsoft.KeyVault/vaults/keys/%s/action' on %s has no role assignment.", permission, c.base()+"/keys/"+name)
}

func (c *call) base() string { return c.s.config.BaseURL() + Prefix + c.vault.Name }

// decode reads the request's JSON.
func (c *call) decode(into any) error {
	if err := json.Unmarshal(c.body, into); err != nil {
		return badParameter("The request's body is not accepted: %v", err)
	}
	return nil
}

// present returns a key that is neither deleted nor on its way.
func (c *call) present(view *state.View, name string) (*key, error) {
	k, err := keyOf(view, c.vault.Name, name)
	if err == nil && (k == nil || k.Deleted != nil || k.busy(c.now)) {
		err = keyNotFound(name, "")
	}
	return k, err
}

// gone returns a key that is deleted.
func (c *call) gone(view *state.View, name string) (*key, error) {
	k, err := keyOf(view, c.vault.Name, name)
	if err == nil && (k == nil || k.Deleted == nil || k.busy(c.now) || c.now.Unix() >= k.Deleted.Purge) {
		err = deletedKeyNotFound(name)
	}
	return k, err
}

// list answers with a page of items.
func (c *call) list(items []map[string]any) error {
	count := pageMax
	if text := c.r.URL.Query().Get("maxresults"); text != "" {
		if _, err := fmt.Sscanf(text, "%d", &count); err != nil || count < 1 || count > pageMax {
			return badParameter("maxresults is from 1 to %d.", pageMax)
		}
	}
	skip := 0
	if text := c.r.URL.Query().Get("$skiptoken"); text != "" {
		if _, err := fmt.Sscanf(text, "%d", &skip); err != nil || skip < 0 || skip > len(items) {
			return badParameter("The $skiptoken is not one of ours.")
		}
	}
	page := map[string]any{"value": items[skip:min(skip+count, len(items))], "nextLink": nil}
	if skip+count < len(items) {
		query := c.r.URL.Query()
		query.Set("$skiptoken", fmt.Sprint(skip+count))
		page["nextLink"] = c.s.config.BaseURL() + c.r.URL.Path + "?" + query.Encode()
	}
	writeJSON(c.w, http.StatusOK, page)
	return nil
}

// asRefusal keeps what the service says and turns everything else into its word for trouble.
func asRefusal(err error) error {
	var r *refusal
	if err == nil || errors.As(err, &r) {
		return err
	}
	return refuse(http.StatusInternalServerError, "InternalServerError", "", "%s", err)
}
