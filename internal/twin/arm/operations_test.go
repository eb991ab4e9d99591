package arm_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// TestOperation_Protocol: both headers, both waits, the status document and Location before and after the end.
func TestOperation_Protocol(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	status, header, body := f.do(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`)
	if status != 201 || body.Text("properties.provisioningState") != "Updating" || header.Get("Retry-After") != "2" || header.Get("Retry-After-Ms") != "1500" {
		t.Fatalf("%d %v %v", status, header, body)
	}
	poll, location := header.Get("Azure-AsyncOperation"), header.Get("Location")
	if !strings.Contains(poll, "/providers/Microsoft.Network/locations/westeurope/operations/") || !strings.HasPrefix(location, f.server.URL) {
		t.Fatalf("polling at %s and %s", poll, location)
	}
	status, header, body = f.do(http.MethodGet, poll, "")
	if status != 200 || body.Text("status") != "InProgress" || body.Text("startTime") == "" || header.Get("Retry-After-Ms") != "1500" {
		t.Fatalf("in progress: %d %v %v", status, header, body)
	}
	if status, header, _ = f.do(http.MethodGet, location, ""); status != 202 || header.Get("Location") == "" {
		t.Fatalf("Location in progress: %d %v", status, header)
	}
	f.want(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`, 409, "AnotherOperationInProgress")
	f.want(http.MethodDelete, securityGroups+"wall"+networks, "", 409, "AnotherOperationInProgress")
	f.clock.Advance(time.Second)
	if status, _, body = f.do(http.MethodGet, poll, ""); status != 200 || body.Text("status") != "Succeeded" || body.Text("properties.output.name") != "wall" {
		t.Fatalf("at the end: %d %v", status, body)
	}
	if status, _, body = f.do(http.MethodGet, location, ""); status != 200 || body.Text("properties.provisioningState") != "Succeeded" {
		t.Fatalf("Location at the end: %d %v", status, body)
	}
	status, header, _ = f.do(http.MethodDelete, securityGroups+"wall"+networks, "")
	if status != 202 {
		t.Fatalf("DELETE: %d", status)
	}
	if deleting := f.want(http.MethodGet, securityGroups+"wall"+networks, "", 200, ""); deleting.Text("properties.provisioningState") != "Deleting" {
		t.Fatalf("under deletion: %v", deleting)
	}
	f.want(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`, 409, "OperationNotAllowed")
	again, repeated, _ := f.do(http.MethodDelete, securityGroups+"wall"+networks, "")
	if again != 202 || repeated.Get("Azure-AsyncOperation") != header.Get("Azure-AsyncOperation") {
		t.Fatalf("a repeated DELETE: %d %v", again, repeated)
	}
	f.clock.Advance(time.Second)
	if status, _, _ = f.do(http.MethodGet, header.Get("Location"), ""); status != 200 {
		t.Fatalf("Location after a deletion: %d; JavaScript's client takes 200, 201 and 202 only", status)
	}
	f.want(http.MethodGet, securityGroups+"wall"+networks, "", 404, "ResourceNotFound")
	f.want(http.MethodGet, base+"/providers/Microsoft.Network/locations/westeurope/operations/none"+networks, "", 404, "NotFound")
	f.clock.Advance(25 * time.Hour)
	f.want(http.MethodGet, poll, "", 404, "NotFound")
}

// TestOperation_SurvivesRestart in any state, and takes effect once.
func TestOperation_SurvivesRestart(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("kept", "")
	_, header, _ := f.do(http.MethodDelete, securityGroups+"kept"+networks, "")
	path := func(url string) string { return url[strings.Index(url, "/subscriptions"):] }
	f.close()
	f.open(nil)
	f.want(http.MethodGet, securityGroups+"kept"+networks, "", 200, "")
	f.clock.Advance(time.Second)
	f.close()
	f.open(nil)
	if answer := f.want(http.MethodGet, path(header.Get("Azure-AsyncOperation")), "", 200, ""); answer.Text("status") != "Succeeded" {
		t.Fatalf("after the restart %v", answer)
	}
	f.want(http.MethodGet, securityGroups+"kept"+networks, "", 404, "ResourceNotFound")
}

// TestOperation_Fails: both flavours of the fault; Location tells the error, and the resource is free again.
func TestOperation_Fails(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	for _, afterEffect := range []bool{false, true} {
		f.decision = func(*http.Request) fault.Decision {
			return fault.Decision{Kind: fault.FailOperation, AfterEffect: afterEffect, Code: "Preempted"}
		}
		_, header, _ := f.do(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`)
		f.decision = nil
		f.clock.Advance(time.Second)
		answer := f.want(http.MethodGet, header.Get("Azure-AsyncOperation"), "", 200, "Preempted")
		if answer.Text("status") != "Failed" {
			t.Errorf("status %v", answer)
		}
		f.want(http.MethodGet, header.Get("Location"), "", 409, "Preempted")
		status, _, _ := f.do(http.MethodGet, securityGroups+"wall"+networks, "")
		if want := map[bool]int{false: 404, true: 200}[afterEffect]; status != want {
			t.Errorf("after effect %t: %d, want %d", afterEffect, status, want)
		}
	}
	f.makeSecurityGroup("wall", "")
}

// TestOperation_OnResourceThatVanished fails instead of making it again.
func TestOperation_OnResourceThatVanished(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	_, header, _ := f.do(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`)
	if err := f.remove(securityGroups + "wall"); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(time.Second)
	if answer := f.want(http.MethodGet, header.Get("Azure-AsyncOperation"), "", 200, "ResourceNotFound"); answer.Text("status") != "Failed" {
		t.Fatalf("status %v", answer)
	}
}
