package blobsvc_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// token has the payload {"oid":"11111111-…","tid":"22222222-…"}; the tests' verifier knows it by heart.
const token = "e30.eyJvaWQiOiIxMTExMTExMS0xMTExLTExMTEtMTExMS0xMTExMTExMTExMTEiLCJ0aWQiOiIyMjIyMjIyMi0yMjIyLTIyMjItMjIyMi0yMjIyMjIyMjIyMjIifQ.e30"

type bearer string

func (b bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(b), ExpiresOn: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
}

// sas returns the container's plain-HTTP address with a service SAS that ends after the given time, 0 meaning a day.
func (w *twin) sas(name, permissions string, lasts time.Duration) string {
	w.t.Helper()
	if lasts == 0 {
		lasts = 24 * time.Hour
	}
	query, err := sas.BlobSignatureValues{ContainerName: name, Permissions: permissions, ExpiryTime: w.clock.Now().Add(lasts)}.SignWithSharedKey(w.credential)
	must(w.t, err)
	return w.plain.URL + "/" + account + "/" + name + "?" + query.Encode()
}

func (w *twin) anonymous(address string) *container.Client {
	w.t.Helper()
	client, err := container.NewClientWithNoCredential(address, &container.ClientOptions{ClientOptions: w.options()})
	must(w.t, err)
	return client
}

// A container's SAS works over plain HTTP, within its permissions, its container and its time.
func TestSAS_Container(t *testing.T) {
	w := newTwin(t)
	w.put(w.container("plain"), "a", "secret", nil)
	reader := w.anonymous(w.sas("plain", "r", 0))
	if got := w.read(reader.NewBlobClient("a")); got != "secret" {
		t.Errorf("read with a SAS: %q", got)
	}
	_, err := reader.NewBlockBlobClient("b").Upload(t.Context(), body("x"), nil)
	refused(t, "write with a reader's SAS", err, 403, "AuthorizationPermissionMismatch")
	_, err = reader.NewListBlobsFlatPager(nil).NextPage(t.Context())
	refused(t, "list with a reader's SAS", err, 403, "AuthorizationPermissionMismatch")
	_, err = reader.GetProperties(t.Context(), nil)
	refused(t, "container's properties", err, 403, "AuthorizationFailure")
	_, err = reader.NewBlobClient("a").Delete(t.Context(), nil)
	refused(t, "delete with a reader's SAS", err, 403, "AuthorizationPermissionMismatch")

	creator := w.anonymous(w.sas("plain", "c", 0))
	_, err = creator.NewBlockBlobClient("new").Upload(t.Context(), body("x"), nil)
	must(t, err)
	_, err = creator.NewBlockBlobClient("a").Upload(t.Context(), body("x"), nil)
	refused(t, "overwrite with a creator's SAS", err, 403, "UnauthorizedBlobOverwrite")
	_, err = creator.NewBlockBlobClient("a").Upload(t.Context(), body("x"), &blockblob.UploadOptions{AccessConditions: createOnly()})
	refused(t, "create-only put with a creator's SAS", err, 409, "BlobAlreadyExists")

	elsewhere := w.sas("plain", "r", 0)
	other := w.anonymous(w.plain.URL + "/" + account + "/worm" + elsewhere[len(w.plain.URL+"/"+account+"/plain"):])
	_, err = other.NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "SAS of another container", err, 403, "AuthenticationFailed")
	short := w.anonymous(w.sas("plain", "r", time.Minute))
	w.clock.Advance(2 * time.Minute)
	_, err = short.NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "expired SAS", err, 403, "AuthenticationFailed")
	_, err = w.anonymous(strings.Replace(w.sas("plain", "r", 0), "sig=", "sig=AAAA", 1)).NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "SAS with another signature", err, 403, "AuthenticationFailed")
}

// A large upload that is refused hears the refusal, not a broken connection.
func TestSAS_LargeUploadRefused(t *testing.T) {
	w := newTwin(t)
	reader := w.anonymous(w.sas("plain", "r", 0))
	for range 5 {
		_, err := reader.NewBlockBlobClient("b").Upload(t.Context(), body(strings.Repeat("x", 16<<20)), nil)
		refused(t, "large write with a reader's SAS", err, 403, "AuthorizationPermissionMismatch")
	}
}

// A SAS of a blob opens that blob, one of a folder all below it and nothing beside it.
func TestSAS_BlobAndFolder(t *testing.T) {
	w := newTwin(t)
	for _, name := range []string{"f/a", "f/b", "g"} {
		w.put(w.container("plain"), name, name, nil)
	}
	sign := func(v sas.BlobSignatureValues) *container.Client {
		v.ContainerName, v.ExpiryTime = "plain", w.clock.Now().Add(time.Hour)
		query, err := v.SignWithSharedKey(w.credential)
		must(t, err)
		return w.anonymous(w.plain.URL + "/" + account + "/plain?" + query.Encode())
	}
	one := sign(sas.BlobSignatureValues{BlobName: "f/a", Permissions: "r"})
	if got := w.read(one.NewBlobClient("f/a")); got != "f/a" {
		t.Errorf("blob by its SAS: %q", got)
	}
	_, err := one.NewBlobClient("f/b").GetProperties(t.Context(), nil)
	refused(t, "another blob", err, 403, "AuthenticationFailed")
	folder := sign(sas.BlobSignatureValues{Directory: "f", Permissions: "rl"})
	if got := w.read(folder.NewBlobClient("f/b")); got != "f/b" {
		t.Errorf("blob by its folder's SAS: %q", got)
	}
	_, err = folder.NewBlobClient("g").GetProperties(t.Context(), nil)
	refused(t, "blob beside the folder", err, 403, "AuthorizationFailure")
	_, err = sign(sas.BlobSignatureValues{BlobName: "f/a", Permissions: "r", Protocol: sas.ProtocolHTTPS}).NewBlobClient("f/a").GetProperties(t.Context(), nil)
	refused(t, "HTTPS-only SAS over HTTP", err, 403, "AuthorizationProtocolMismatch")
}

// A SAS of an account is judged by service, resource type and permission.
func TestSAS_Account(t *testing.T) {
	w := newTwin(t)
	w.put(w.container("plain"), "a", "x", nil)
	sign := func(types, permissions string) *container.Client {
		query, err := sas.AccountSignatureValues{Permissions: permissions, ResourceTypes: types, ExpiryTime: w.clock.Now().Add(time.Hour)}.SignWithSharedKey(w.credential)
		must(t, err)
		return w.anonymous(w.plain.URL + "/" + account + "/plain?" + query.Encode())
	}
	_, err := sign("sco", "rwdl").GetProperties(t.Context(), nil)
	must(t, err)
	_, err = sign("o", "rwdl").GetProperties(t.Context(), nil)
	refused(t, "container with a SAS for objects", err, 403, "AuthorizationResourceTypeMismatch")
	_, err = sign("o", "r").NewBlobClient("a").GetProperties(t.Context(), nil)
	must(t, err)
	_, err = sign("o", "r").NewBlobClient("a").Delete(t.Context(), nil)
	refused(t, "delete with a reader's SAS", err, 403, "AuthorizationPermissionMismatch")
}

// A token opens the service over TLS alone, and gets a user delegation key whose SAS works over plain HTTP until its time.
func TestToken_UserDelegation(t *testing.T) {
	w := newTwin(t)
	w.put(w.container("plain"), "f/a", "secret", nil)
	client, err := service.NewClient(w.tls.URL+"/"+account, bearer(token), &service.ClientOptions{ClientOptions: w.options()})
	must(t, err)
	if got := w.read(client.NewContainerClient("plain").NewBlobClient("f/a")); got != "secret" {
		t.Errorf("read with a token: %q", got)
	}
	info := service.KeyInfo{Start: to.Ptr(w.clock.Now().UTC().Format(sas.TimeFormat)), Expiry: to.Ptr(w.clock.Now().Add(48 * time.Hour).UTC().Format(sas.TimeFormat))}
	credential, err := client.GetUserDelegationCredential(t.Context(), info, nil)
	must(t, err)
	values := sas.BlobSignatureValues{ContainerName: "plain", Permissions: "rl", ExpiryTime: w.clock.Now().Add(time.Hour)}
	for what, change := range map[string]func(*sas.BlobSignatureValues){
		"container": func(*sas.BlobSignatureValues) {},
		"blob":      func(v *sas.BlobSignatureValues) { v.BlobName = "f/a" },
		"folder":    func(v *sas.BlobSignatureValues) { v.Directory = "f" },
		"correlated": func(v *sas.BlobSignatureValues) {
			v.CorrelationID, v.AuthorizedObjectID = "33333333-3333-3333-3333-333333333333", "44444444-4444-4444-4444-444444444444"
		},
	} {
		v := values
		change(&v)
		query, err := v.SignWithUserDelegation(credential)
		must(t, err)
		if _, err := w.anonymous(w.plain.URL+"/"+account+"/plain?"+query.Encode()).NewBlobClient("f/a").GetProperties(t.Context(), nil); err != nil {
			t.Errorf("user delegation SAS of the %s: %v", what, err)
		}
	}
	query, err := values.SignWithUserDelegation(credential)
	must(t, err)
	late := w.anonymous(w.plain.URL + "/" + account + "/plain?" + query.Encode())
	w.clock.Advance(2 * time.Hour)
	_, err = late.NewBlobClient("f/a").GetProperties(t.Context(), nil)
	refused(t, "expired user delegation SAS", err, 403, "AuthenticationFailed")
	values.ExpiryTime = w.clock.Now().Add(100 * time.Hour)
	query, err = values.SignWithUserDelegation(credential)
	must(t, err)
	w.clock.Advance(50 * time.Hour)
	_, err = w.anonymous(w.plain.URL+"/"+account+"/plain?"+query.Encode()).NewBlobClient("f/a").GetProperties(t.Context(), nil)
	refused(t, "SAS of a key that has expired", err, 403, "AuthenticationFailed")

	tooLong := service.KeyInfo{Start: info.Start, Expiry: to.Ptr(w.clock.Now().Add(8 * 24 * time.Hour).UTC().Format(sas.TimeFormat))}
	_, err = client.GetUserDelegationCredential(t.Context(), tooLong, nil)
	refused(t, "key for eight days", err, 400, "InvalidXmlNodeValue")
	_, err = w.account().GetUserDelegationCredential(t.Context(), info, nil)
	refused(t, "delegation key for the account's key", err, 403, "AuthorizationFailure")
	wrong, err := service.NewClient(w.tls.URL+"/"+account, bearer("other"), &service.ClientOptions{ClientOptions: w.options()})
	must(t, err)
	_, err = wrong.NewContainerClient("plain").NewBlobClient("f/a").GetProperties(t.Context(), nil)
	refused(t, "wrong token", err, 401, "InvalidAuthenticationInfo")
}

// Without TLS neither token nor key is accepted; without anything the answer names the audience; a key that is off opens
// nothing, nor does a SAS made with it, while a user delegation SAS still does.
func TestAuth_Refusals(t *testing.T) {
	w := newTwin(t)
	w.put(w.container("plain"), "a", "x", nil)
	insecure, err := container.NewClientWithSharedKeyCredential(w.plain.URL+"/"+account+"/plain", w.credential, &container.ClientOptions{ClientOptions: w.options()})
	must(t, err)
	_, err = insecure.NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "key over plain HTTP", err, 400, "AccountRequiresHttps")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.plain.URL+"/"+account+"/plain/a", nil)
	must(t, err)
	request.Header.Set("x-ms-version", "2026-06-06")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	must(t, response.Body.Close())
	if response.StatusCode != 400 || response.Header.Get("x-ms-error-code") != "AccountRequiresHttps" {
		t.Errorf("token over plain HTTP: %d", response.StatusCode)
	}
	_, err = w.anonymous(w.tls.URL+"/"+account+"/plain").NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "nothing", err, 401, "NoAuthenticationInformation")
	stranger, err := container.NewSharedKeyCredential(account, "b3RoZXI=")
	must(t, err)
	forged, err := container.NewClientWithSharedKeyCredential(w.tls.URL+"/"+account+"/plain", stranger, &container.ClientOptions{ClientOptions: w.options()})
	must(t, err)
	_, err = forged.NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "another key", err, 403, "AuthenticationFailed")

	must(t, w.service.AllowSharedKey(account, false))
	_, err = w.container("plain").NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "key that is off", err, 403, "KeyBasedAuthenticationNotPermitted")
	_, err = w.anonymous(w.sas("plain", "r", 0)).NewBlobClient("a").GetProperties(t.Context(), nil)
	refused(t, "SAS of a key that is off", err, 403, "KeyBasedAuthenticationNotPermitted")
}
