package blobsvc_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// dialing returns the TLS server's client under any host's name.
func (w *twin) dialing(t *testing.T) *http.Client {
	t.Helper()
	address, err := url.Parse(w.tls.URL)
	must(t, err)
	transport := w.tls.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // the test server's certificate
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address.Host)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// The account may stand in the host, as it does on the platform: with key, SAS, list and copy. A container may then be called
// as the disks' paths begin.
func TestHost_NamesTheAccount(t *testing.T) {
	w := newTwin(t)
	options := w.options()
	options.Transport = w.dialing(t)
	const host = "https://" + account + ".blob.example.test"
	client, err := service.NewClientWithSharedKeyCredential(host, w.credential, &service.ClientOptions{ClientOptions: options})
	must(t, err)
	odd := client.NewContainerClient("md-odd")
	_, err = odd.Create(t.Context(), nil)
	must(t, err)
	w.put(odd, "f/a", "secret", nil)
	if got := w.read(w.container("md-odd").NewBlobClient("f/a")); got != "secret" {
		t.Errorf("read by path: %q", got)
	}
	page, err := odd.NewListBlobsFlatPager(nil).NextPage(t.Context())
	must(t, err)
	if len(page.Segment.BlobItems) != 1 || !strings.HasPrefix(*page.ServiceEndpoint, host+"/") {
		t.Errorf("list of %s: %d blobs", *page.ServiceEndpoint, len(page.Segment.BlobItems))
	}
	containers, err := client.NewListContainersPager(nil).NextPage(t.Context())
	must(t, err)
	if len(containers.ContainerItems) != 3 {
		t.Errorf("%d containers", len(containers.ContainerItems))
	}
	query, err := sas.BlobSignatureValues{ContainerName: "md-odd", Permissions: "r", ExpiryTime: w.clock.Now().Add(time.Hour)}.SignWithSharedKey(w.credential)
	must(t, err)
	reader, err := container.NewClientWithNoCredential(host+"/md-odd?"+query.Encode(), &container.ClientOptions{ClientOptions: options})
	must(t, err)
	if got := w.read(reader.NewBlobClient("f/a")); got != "secret" {
		t.Errorf("read with a SAS: %q", got)
	}
	copied, err := odd.NewBlobClient("b").StartCopyFromURL(t.Context(), host+"/md-odd/f/a", nil)
	must(t, err)
	if *copied.CopyStatus != blob.CopyStatusTypeSuccess {
		t.Errorf("copy: %s", *copied.CopyStatus)
	}
}

// Only the first of several labels names an account, and only one that exists; an address never does.
func TestHost_OfNoAccountLeavesThePath(t *testing.T) {
	w := newTwin(t)
	must(t, w.service.CreateAccount("127", ""))
	for host, owned := range map[string]bool{
		account + ".localhost": true, account + ".localhost:4433": true, account: false, account + ":4433": false,
		"other.localhost": false, "127.0.0.1:4433": false, "127.0.0.1": false, "localhost:4433": false, "[::1]:4433": false, "": false, ".": false,
	} {
		if got := w.service.OwnsHost(host); got != owned {
			t.Errorf("OwnsHost(%q) = %v", host, got)
		}
	}
}
