package twin_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/holdfast-backup/holdfast/internal/twin"
)

// TestHostile_ManyAtOneResource: 16 clients make, read, change, share and delete one snapshot and one disk at once. Every
// answer is one of the platform's, and when both are deleted at last nothing is left of them.
func TestHostile_ManyAtOneResource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	options := twin.Options{SnapshotRateOff: true}
	startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), Options: options})
	c := newCustomer(t, dir)
	s := c.stranger(t)
	before := s.resources()
	const snapshot, disk = group + "/snapshots/one" + diskVersion, group + "/disks/one" + diskVersion
	calls := []struct{ method, path, body string }{
		{"PUT", snapshot, `{"location":"westeurope","properties":{"incremental":true,"creationData":{"createOption":"Copy","sourceResourceId":"` + osDisk + `"}}}`},
		{"PUT", disk, `{"location":"westeurope","properties":{"diskSizeGB":4,"creationData":{"createOption":"Empty"}}}`},
		{"GET", snapshot, ""},
		{"PATCH", disk, `{"tags":{"a":"b"},"properties":{"diskSizeGB":4}}`},
		{"POST", strings.Replace(snapshot, "?", "/beginGetAccess?", 1), `{"access":"Read","durationInSeconds":60}`},
		{"POST", strings.Replace(snapshot, "?", "/endGetAccess?", 1), ""},
		{"DELETE", snapshot, ""},
		{"DELETE", disk, ""},
		{"GET", group + "/snapshots" + diskVersion, ""},
	}
	var working sync.WaitGroup
	for client := range 16 {
		working.Go(func() {
			for round := range 27 {
				call := calls[(client*5+round)%len(calls)]
				status, answer := s.send(call.method, call.path, []byte(call.body), nil)
				switch status {
				case 200, 201, 202, 204:
				case 404, 409:
					if !isARMError(answer) {
						t.Errorf("%s %s: %d %s", call.method, call.path, status, answer)
					}
				default:
					t.Errorf("%s %s: %d %s", call.method, call.path, status, answer)
				}
			}
		})
	}
	working.Wait()
	s.until(func() bool {
		s.send("POST", strings.Replace(snapshot, "?", "/endGetAccess?", 1), nil, nil)
		s.send("DELETE", snapshot, nil, nil)
		s.send("DELETE", disk, nil, nil)
		first, _ := s.send("GET", snapshot, nil, nil)
		second, _ := s.send("GET", disk, nil, nil)
		return first == 404 && second == 404
	})
	if after := s.resources(); after != before {
		t.Errorf("left over:\n%s\nwhere there was:\n%s", after, before)
	}
	s.checkSound()
}

// until repeats what is to become true, a bounded number of times.
func (s *stranger) until(holds func() bool) {
	s.t.Helper()
	for range 1000 {
		if holds() {
			return
		}
	}
	s.t.Fatal("it does not come true")
}

// resources lists what exists, one per line.
func (s *stranger) resources() string {
	s.t.Helper()
	listed, err := s.control.Resources(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var text strings.Builder
	for _, resource := range listed {
		fmt.Fprintf(&text, "%s %d\n", resource.ID, resource.ActiveSAS)
	}
	return text.String()
}

// child starts a twin in a process of its own.
func child(t *testing.T, dir, estate string) *exec.Cmd {
	t.Helper()
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), childFolder+"="+dir, childEstate+"="+estate)
	input, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = process.Process.Kill()
		_ = process.Wait() // it was killed, or has been waited for
	})
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return process
}

// TestHostile_KilledAtWork: a twin is killed again and again while clients put blobs, by whole and by blocks, make and delete
// disks. What was answered is there afterwards, what was not is there whole or not at all, and every
// list can be read.
func TestHostile_KilledAtWork(t *testing.T) {
	t.Parallel()
	dir, estate := t.TempDir(), writeEstate(t, estateText)
	const rounds, clients = 3, 4
	acknowledged := &ledger{blobs: map[string][32]byte{}, disks: map[string]bool{}}
	for round := range rounds {
		process := child(t, dir, estate)
		c := newCustomer(t, dir)
		s := c.stranger(t)
		acknowledged.check(s)
		ctx, cancel := context.WithCancel(t.Context())
		var working sync.WaitGroup
		enough := make(chan struct{}, clients*1000)
		for client := range clients {
			working.Go(func() { acknowledged.work(ctx, s, fmt.Sprintf("r%dc%d", round, client), enough) })
		}
		for range 12 * clients {
			<-enough
		}
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = process.Wait() // it was killed, so that it fails
		cancel()
		working.Wait()
	}
	startWatched(t, twin.Config{Dir: dir})
	s := newCustomer(t, dir).stranger(t)
	acknowledged.check(s)
	s.checkSound()
	if len(acknowledged.blobs) < rounds*clients || len(acknowledged.disks) < rounds*clients {
		t.Errorf("only %d blobs and %d disks: the test proves little", len(acknowledged.blobs), len(acknowledged.disks))
	}
}

// ledger is what the twin has answered for.
type ledger struct {
	mu    sync.Mutex
	blobs map[string][32]byte // guarded by mu
	disks map[string]bool     // guarded by mu; false when deleted
}

// work changes things until the twin is gone, and notes what was answered.
func (l *ledger) work(ctx context.Context, s *stranger, name string, done chan<- struct{}) {
	vault := s.container(s.t, "backups")
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; ; i++ {
		item := fmt.Sprintf("%s-%d", name, i)
		content := bytes.Repeat([]byte(item), 1+random.IntN(20_000))
		blob := vault.NewBlockBlobClient(item)
		var err error
		if i%2 == 0 {
			_, err = blob.UploadBuffer(ctx, content, nil)
		} else {
			_, err = blob.StageBlock(ctx, "YQ==", streaming.NopCloser(bytes.NewReader(content)), nil)
			if err == nil {
				_, err = blob.CommitBlockList(ctx, []string{"YQ=="}, nil)
			}
		}
		if err != nil {
			return
		}
		l.mu.Lock()
		l.blobs[item] = sha256.Sum256(content)
		l.mu.Unlock()

		if !l.disk(ctx, s, item, i%3 == 2) {
			return
		}
		done <- struct{}{}
	}
}

// disk makes a disk, and deletes it again when asked; it returns false when the twin is gone.
func (l *ledger) disk(ctx context.Context, s *stranger, name string, deleted bool) bool {
	path := s.base + group + "/disks/" + name + diskVersion
	status := ask(ctx, s, http.MethodPut, path, `{"location":"westeurope","properties":{"diskSizeGB":4,"creationData":{"createOption":"Empty"}}}`)
	if status == 0 {
		return false
	}
	l.mu.Lock()
	l.disks[name] = true
	l.mu.Unlock()
	for deleted && status != 404 {
		l.mu.Lock()
		delete(l.disks, name) // from now on until it is answered nothing is promised
		l.mu.Unlock()
		if ask(ctx, s, http.MethodDelete, path, "") == 0 {
			return false
		}
		if status = ask(ctx, s, http.MethodGet, path, ""); status == 0 {
			return false
		}
		l.mu.Lock()
		if status == 404 {
			l.disks[name] = false
		}
		l.mu.Unlock()
	}
	return true
}

// ask returns the status, 0 when nobody answers.
func ask(ctx context.Context, s *stranger, method, url, text string) int {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(text))
	if err != nil {
		return 0
	}
	request.Header.Set("Authorization", s.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.http.Do(request)
	if err != nil {
		return 0
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return 0
	}
	return response.StatusCode
}

// check compares the twin with the ledger.
func (l *ledger) check(s *stranger) {
	s.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	vault := s.container(s.t, "backups")
	for name, sum := range l.blobs {
		response, err := vault.NewBlobClient(name).DownloadStream(s.t.Context(), nil)
		if err != nil {
			s.t.Errorf("blob %s is lost: %v", name, err)
			continue
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || sha256.Sum256(content) != sum {
			s.t.Errorf("blob %s has other content: %v", name, err)
		}
	}
	for name, exists := range l.disks {
		status, answer := s.send(http.MethodGet, group+"/disks/"+name+diskVersion, nil, nil)
		if (status == http.StatusOK) != exists {
			s.t.Errorf("disk %s, which exists: %v, is answered with %d %s", name, exists, status, answer)
		}
	}
	for pager := vault.NewListBlobsFlatPager(nil); pager.More(); {
		page, err := pager.NextPage(s.t.Context())
		if err != nil {
			s.t.Errorf("the list of blobs: %v", err)
			return
		}
		for _, item := range page.Segment.BlobItems {
			response, err := vault.NewBlobClient(*item.Name).DownloadStream(s.t.Context(), nil)
			if err != nil {
				s.t.Errorf("listed blob %s cannot be read: %v", *item.Name, err)
				continue
			}
			content, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || int64(len(content)) != *item.Properties.ContentLength || len(content)%len(*item.Name) != 0 || string(content) != strings.Repeat(*item.Name, len(content)/len(*item.Name)) {
				s.t.Errorf("listed blob %s is not whole: %d bytes, %v", *item.Name, len(content), err)
			}
		}
	}
}
