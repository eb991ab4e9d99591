package azblob_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/azblob"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

const azuriteStart = time.Minute // node reads some 2,000 files before it listens

// The store keeps the rules of the port against Azurite 3.37.0 too, as far as Azurite does them right: locks and versions
// it does not have. A lock must be found out to be ignored there, never believed.
func TestAzurite_Conforms(t *testing.T) {
	client := startAzurite(t)
	store, err := azblob.New(client, "suite")
	if err != nil {
		t.Fatal(err)
	}
	blobtest.Test(t, store, blobtest.Options{Remover: store.Remover(), Prefix: "check", ListCount: 120, LargeBytes: 8 << 20},
		"lock-at-birth", "lock-extend", "versions")
	worm, err := azblob.NewWORM(client, "worm")
	if err != nil {
		t.Fatal(err)
	}
	err = worm.Put(t.Context(), "a", []byte("x"), blob.PutOptions{LockUntil: clock.System{}.Now().Add(time.Hour)})
	if !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("a lock that Azurite ignores: %v", err)
	}
}

// startAzurite runs Azurite from the npm folder that HOLDFAST_AZURITE names, until the test ends, and returns a client of
// a new container. Without it the test is skipped, or fails when HOLDFAST_REQUIRE_TOOLS=1.
func startAzurite(t *testing.T) *container.Client {
	t.Helper()
	folder := os.Getenv("HOLDFAST_AZURITE")
	script := filepath.Join(folder, "node_modules", "azurite", "dist", "src", "blob", "main.js")
	if _, err := os.Stat(script); folder == "" || err != nil {
		if os.Getenv("HOLDFAST_REQUIRE_TOOLS") == "1" {
			t.Fatalf("HOLDFAST_AZURITE does not name a folder where npm has installed azurite: %v", err)
		}
		t.Skip("HOLDFAST_AZURITE does not name a folder where npm has installed azurite")
	}
	secret := make([]byte, 64)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	key := base64.StdEncoding.EncodeToString(secret)
	address := freeAddress(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	command := exec.Command("node", script, "--blobHost", host, "--blobPort", port, "--location", t.TempDir(), "--silent", "--disableTelemetry")
	command.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+account+":"+key)
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatalf("node: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		if err := command.Wait(); err != nil {
			output.WriteString(err.Error())
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		<-exited
		if t.Failed() {
			t.Logf("azurite: %s", output.Bytes())
		}
	})
	client := azuriteClient(t, "http://"+address+"/"+account+"/conformance", key)
	if err := createWhenReady(t.Context(), client, exited); err != nil {
		t.Fatal(err)
	}
	return client
}

func azuriteClient(t *testing.T, address, key string) *container.Client {
	t.Helper()
	credential, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(address, credential, azblob.ClientOptions(&container.ClientOptions{
		ClientOptions: policy.ClientOptions{Transport: &http.Client{}, Retry: policy.RetryOptions{RetryDelay: 50 * time.Millisecond}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// createWhenReady makes the container as soon as the server listens.
func createWhenReady(ctx context.Context, client *container.Client, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, azuriteStart)
	defer cancel()
	for {
		_, err := client.Create(ctx, nil)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("azurite ended before it listened: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("azurite does not listen: %w", err)
		default:
		}
		if err := (clock.System{}).Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// freeAddress returns a loopback address that nothing listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
