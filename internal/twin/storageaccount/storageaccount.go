// Package storageaccount is the twin's Microsoft.Storage as ARM sees it: accounts with their keys and endpoints. The blobs
// are served elsewhere; a hook tells that side when an account comes or goes.
package storageaccount

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Type is the resource type.
const Type = "Microsoft.Storage/storageAccounts"

const (
	keyBytes  = 64
	hiddenKey = "key"
)

var accountName = regexp.MustCompile(`^[a-z0-9]{3,24}$`)

// Config says how accounts reach the blob side.
type Config struct {
	// BlobEndpoint gives an account's endpoint, with a trailing slash.
	BlobEndpoint func(account string) string
	// Created makes the account on the blob side; it may be called again for one that exists. nil does nothing.
	Created func(account, key string) error
}

// Register adds the type to the ARM server.
func Register(server *arm.Server, config Config) {
	p := provider{config}
	server.Register(arm.Type{
		Name: Type, Immediate: true, Put: p.put, Patch: p.patch, Render: p.render,
		Versions: arm.Versions{Oldest: "2019-04-01", Newest: "2026-04-01", Known: []string{"2025-01-01", "2024-01-01", "2023-05-01", "2023-01-01", "2022-09-01", "2021-09-01", "2019-06-01"}},
		Actions: map[string]arm.Action{
			"listkeys": {Method: http.MethodPost, Serve: listKeys},
		},
	})
}

type provider struct{ config Config }

// New makes the document of an account with a new key.
func New(id string, body state.Object, now time.Time) (*state.Document, error) {
	key := make([]byte, keyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "no random bytes for an account key")
	}
	doc := arm.NewDocument(id, body, now)
	for _, fallback := range [][2]string{{"kind", "StorageV2"}, {"sku.name", "Standard_LRS"}, {"properties.accessTier", "Hot"}} {
		if doc.Body.At(fallback[0]) == nil {
			doc.Body.Set(fallback[0], fallback[1])
		}
	}
	doc.Body.Set("sku.tier", "Standard")
	doc.Body.Set("properties.provisioningState", "Succeeded")
	doc.Body.Set("properties.creationTime", now)
	doc.Body.Set("properties.statusOfPrimary", "available")
	doc.Body.Set("properties.primaryLocation", doc.Body.Text("location"))
	doc.Hidden.Set(hiddenKey, base64.StdEncoding.EncodeToString(key))
	return doc, nil
}

// Account is an account's name and key, which is base64.
type Account struct{ Name, Key string }

// Accounts lists all accounts, for the blob side to serve.
func Accounts(view *state.View) []Account {
	var accounts []Account
	for doc := range view.Below("/subscriptions/") {
		if strings.EqualFold(arm.TypeOf(doc.ID), Type) {
			accounts = append(accounts, Account{Name: doc.Body.Text("name"), Key: keyOf(doc)})
		}
	}
	return accounts
}

func keyOf(doc *state.Document) string { return doc.Hidden.Text(hiddenKey) }

// shape has the types of the members that clients read back (Microsoft.Storage, api-version 2025-01-01).
type shape struct {
	Properties struct {
		AccessTier            string         `json:"accessTier"`
		AllowBlobPublicAccess bool           `json:"allowBlobPublicAccess"`
		AllowSharedKeyAccess  bool           `json:"allowSharedKeyAccess"`
		HTTPSOnly             bool           `json:"supportsHttpsTrafficOnly"`
		Hierarchical          bool           `json:"isHnsEnabled"`
		MinimumTLSVersion     string         `json:"minimumTlsVersion"`
		NetworkACLs           map[string]any `json:"networkAcls"`
		PublicNetworkAccess   string         `json:"publicNetworkAccess"`
	} `json:"properties"`
}

// checked refuses members of the wrong type and returns what a client decides about.
func checked(call *arm.Call) (state.Object, error) {
	if err := json.Unmarshal(call.Raw, new(shape)); err != nil {
		return nil, arm.BadContent(err)
	}
	body := call.Body.Given()
	for _, name := range []string{"creationTime", "primaryEndpoints", "primaryLocation", "provisioningState", "statusOfPrimary"} {
		body.Remove("properties." + name)
	}
	return body, nil
}

func (p provider) put(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	name := id[strings.LastIndex(id, "/")+1:]
	if !accountName.MatchString(name) {
		return arm.Answer{}, arm.Errorf(http.StatusBadRequest, "AccountNameInvalid", "%s is not a valid storage account name: it takes 3 to 24 lower-case letters and digits.", name)
	}
	if existing != nil {
		return p.patch(call, existing)
	}
	for other := range call.View.Below("/subscriptions/") {
		if strings.EqualFold(arm.TypeOf(other.ID), Type) && other.Body.Text("name") == name {
			return arm.Answer{}, arm.Errorf(http.StatusConflict, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", name)
		}
	}
	body, err := checked(call)
	if err != nil {
		return arm.Answer{}, err
	}
	doc, err := New(id, body, call.Now)
	if err != nil {
		return arm.Answer{}, err
	}
	if p.config.Created != nil {
		if err := p.config.Created(name, keyOf(doc)); err != nil {
			return arm.Answer{}, err
		}
	}
	call.Tx.Put(doc)
	return arm.Answer{Body: call.Rendered(doc)}, nil
}

func (p provider) patch(call *arm.Call, existing *state.Document) (arm.Answer, error) {
	doc := existing.Clone()
	patch, err := checked(call)
	if err != nil {
		return arm.Answer{}, err
	}
	for _, name := range []string{"tags", "location", "id", "name", "type", "kind"} {
		patch.Remove(name)
	}
	doc.Body.Merge(patch)
	doc.Body.Set("properties.provisioningState", "Succeeded")
	arm.ReplaceTags(doc, call.Body)
	call.Tx.Put(doc)
	return arm.Answer{Body: call.Rendered(doc)}, nil
}

func (p provider) render(_ *state.View, doc *state.Document) state.Object {
	body := doc.Body.Clone()
	if p.config.BlobEndpoint != nil {
		body.Set("properties.primaryEndpoints.blob", p.config.BlobEndpoint(body.Text("name")))
	}
	return body
}

func listKeys(_ *arm.Call, doc *state.Document) (arm.Answer, error) {
	key := map[string]any{"keyName": "key1", "value": keyOf(doc), "permissions": "FULL"}
	return arm.Answer{Body: map[string]any{"keys": []any{key}}}, nil
}
