package twin_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin"
)

// TestHostile_ARMRequests: what is wrong with a request beside its JSON is refused with the platform's status.
func TestHostile_ARMRequests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	s := newCustomer(t, dir).stranger(t)
	disk := group + "/disks/d" + diskVersion
	token := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, c := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		statuses                 []int
	}{
		{"half an object", "PUT", disk, `{"location":`, nil, []int{400}},
		{"a list", "PUT", disk, `[]`, nil, []int{400}},
		{"null", "PUT", disk, `null`, nil, []int{400}},
		{"two values", "PUT", disk, `{} {}`, nil, []int{400}},
		{"no UTF-8", "PUT", disk, "{\"location\":\"\xff\xfe\"}", nil, []int{400}},
		{"a deep list", "PUT", disk, strings.Repeat("[", 200_000), nil, []int{400}},
		{"a deep object", "PUT", disk, `{"properties":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9001), nil, []int{400}},
		{"no body", "PUT", disk, "", nil, []int{400}},
		{"5 MiB", "PUT", disk, `{"location":"` + strings.Repeat("x", 5<<20) + `"}`, nil, []int{413}},
		{"text", "PUT", disk, `{}`, header("Content-Type", "text/plain"), []int{415}},
		{"no media type", "PUT", disk, `{}`, header("Content-Type", ""), []int{415}},
		{"no version", "GET", group + "/disks", "", nil, []int{400}},
		{"no date as version", "GET", group + "/disks?api-version=latest", "", nil, []int{400}},
		{"a version to come", "GET", group + "/disks?api-version=2099-01-01", "", nil, []int{400}},
		{"a version before disks", "GET", group + "/disks?api-version=2001-01-01", "", nil, []int{400}},
		{"a broken escape", "GET", group + "/disks?api-version=%zz", "", nil, []int{400}},
		{"semicolons", "GET", group + "/disks?a;b&api-version=2024-03-02", "", nil, []int{400}},
		{"a skip token that is none", "GET", group + "/disks" + diskVersion + "&$skiptoken=%21", "", nil, []int{400}},
		{"top 0", "GET", "/subscriptions/" + subscription + "/resources" + resourceVersion + "&$top=0", "", nil, []int{400}},
		{"a huge top", "GET", "/subscriptions/" + subscription + "/resources" + resourceVersion + "&$top=99999999999999999999", "", nil, []int{400}},
		{"a filter of nothing", "GET", "/subscriptions/" + subscription + "/resources" + resourceVersion + "&$filter=" + url.QueryEscape("name eq 'x"), "", nil, []int{400}},
		{"another subscription", "GET", "/subscriptions/../resourceGroups" + resourceVersion, "", nil, []int{404}},
		{"upwards", "PUT", group + "/disks/.." + diskVersion, `{"location":"westeurope"}`, nil, []int{400}},
		{"upwards in disguise", "PUT", group + "/disks/%2e%2e%2f%2e%2e%2fx" + diskVersion, `{"location":"westeurope"}`, nil, []int{400, 404}},
		{"a NUL", "PUT", group + "/disks/a%00b" + diskVersion, `{"location":"westeurope"}`, nil, []int{400}},
		{"a newline", "PUT", group + "/disks/a%0a" + diskVersion, `{"location":"westeurope"}`, nil, []int{400}},
		{"unicode", "PUT", group + "/disks/%C3%A9%F0%9F%92%BE" + diskVersion, `{"location":"westeurope"}`, nil, []int{400}},
		{"81 letters", "PUT", group + "/disks/" + strings.Repeat("x", 81) + diskVersion, `{"location":"westeurope"}`, nil, []int{400}},
		{"60 KiB of path", "GET", group + "/disks/" + strings.Repeat("x", 60<<10) + diskVersion, "", nil, []int{404}},
		{"1,000 segments", "GET", strings.Repeat("/providers", 1000) + diskVersion, "", nil, []int{404}},
		{"a foreign provider", "GET", shop + "/providers/Microsoft.Web/sites" + resourceVersion, "", nil, []int{404}},
		{"a deployment", "PUT", shop + "/providers/Microsoft.Resources/deployments/d" + resourceVersion, `{"properties":{"mode":"Incremental"}}`, nil, []int{501}},
		{"a trace", "TRACE", group + "/disks" + diskVersion, "", nil, []int{404, 405}},
		{"no such method", "BREW", osDisk + diskVersion, "", nil, []int{405}},
		{"no token", "GET", osDisk + diskVersion, "", func(r *http.Request) { r.Header.Del("Authorization") }, []int{401}},
		{"basic", "GET", osDisk + diskVersion, "", header("Authorization", "Basic YTpi"), []int{401}},
		{"an empty token", "GET", osDisk + diskVersion, "", header("Authorization", "Bearer "), []int{401}},
		{"a token of dots", "GET", osDisk + diskVersion, "", header("Authorization", "Bearer .."), []int{401}},
		{"a token without algorithm", "GET", osDisk + diskVersion, "", header("Authorization", "Bearer "+token(`{"alg":"none"}`)+"."+token(`{"aud":"https://management.azure.com"}`)+"."), []int{401}},
		{"a long token", "GET", osDisk + diskVersion, "", header("Authorization", "Bearer "+strings.Repeat("a", 64<<10)), []int{401}},
		{"an operation of nobody", "GET", "/subscriptions/" + subscription + "/providers/Microsoft.Compute/locations/westeurope/DiskOperations/.." + diskVersion, "", nil, []int{404}},
	} {
		status, answer := s.send(c.method, c.path, []byte(c.body), c.change)
		fits := false
		for _, want := range c.statuses {
			fits = fits || status == want
		}
		if !fits || !isARMError(answer) {
			t.Errorf("%s: %d %.300s, want %v", c.name, status, answer, c.statuses)
		}
	}

	status, answer := s.send("GET", group+"/disks"+diskVersion+"&$skiptoken="+token("operations/"), nil, nil)
	if status != http.StatusOK || bytes.Contains(answer, []byte("InProgress")) {
		t.Errorf("a skip token before the list: %d %s", status, answer)
	}
	status, answer = s.send("GET", group+"/disks"+diskVersion+"&$skiptoken="+token("~"), nil, nil)
	if status != http.StatusOK || !bytes.Contains(answer, []byte(`"value":[]`)) {
		t.Errorf("a skip token behind the list: %d %s", status, answer)
	}
	s.checkSound()
}

// TestHostile_TokensOfAnotherAudience: a token opens what it was made for and nothing else.
func TestHostile_TokensOfAnotherAudience(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	s := newCustomer(t, dir).stranger(t)
	for _, audience := range []string{"https://storage.azure.com", "https://disk.azure.com"} {
		granted, err := s.credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
		if err != nil {
			t.Fatal(err)
		}
		foreign := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+granted.Token) }
		for path, body := range map[string]string{
			"/subscriptions?api-version=2022-12-01":                               "",
			osDisk + diskVersion:                                                  "",
			"/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01": `{"query":"resources"}`,
			osDisk + "/beginGetAccess" + diskVersion:                              `{"access":"Read","durationInSeconds":60}`,
		} {
			method := http.MethodGet
			if body != "" {
				method = http.MethodPost
			}
			if status, answer := s.send(method, path, []byte(body), foreign); status != http.StatusUnauthorized || !bytes.Contains(answer, []byte("InvalidAuthenticationToken")) {
				t.Errorf("%s with a token for %s: %d %s", path, audience, status, answer)
			}
		}
	}
	if status, _ := s.send(http.MethodGet, "/_twin/resources", nil, nil); status != http.StatusUnauthorized && status != http.StatusForbidden {
		t.Errorf("the control API with ARM's token: %d", status)
	}
}

// TestHostile_Connections: neither half a request nor too large a header keeps the twin from serving others or from ending.
func TestHostile_Connections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	running := startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText)})
	s := newCustomer(t, dir).stranger(t)
	management, data := strings.TrimPrefix(running.Endpoints().ResourceManager, "https://"), strings.TrimPrefix(running.Endpoints().DataPlain, "http://")
	roots := s.http.Transport.(*http.Transport).TLSClientConfig.RootCAs
	for _, c := range []struct {
		name, sent, want string
		address          string
		secure           bool
	}{
		{"garbage", "\x00\x01\x02\r\n\r\n", "400", data, false},
		{"2 MiB of header", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", "431", data, false},
		{"2 MiB of header at ARM", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", "431", management, true},
		{"two lengths", "PUT /shopvault/backups/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400", data, false},
		{"a negative length", "PUT /shopvault/backups/b HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400", data, false},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400", data, false},
		{"an absolute target", "GET http://elsewhere/shopvault/backups HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "400", data, false},
		{"an asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", data, false},
	} {
		var conn net.Conn
		var err error
		if c.secure {
			conn, err = tls.Dial("tcp", c.address, &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}, ServerName: "127.0.0.1"})
		} else {
			conn, err = net.Dial("tcp", c.address)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(clock.System{}.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(c.sent)) // the server may end the connection before it has all of it
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, " "+c.want) {
			t.Errorf("%s: %q, %v; want %s", c.name, line, err, c.want)
		}
		_ = conn.Close()
	}

	var stuck []net.Conn
	for i := range 100 { // they say little or nothing more, and are open when the twin ends
		conn, err := net.Dial("tcp", data)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprint(conn, []string{"", "\x16", "GET /", "PUT /shopvault/backups/b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"}[i%4])
		stuck = append(stuck, conn)
	}
	if len(stuck) != 100 {
		t.Fatal("not all connections were made")
	}
	s.checkSound()
}
