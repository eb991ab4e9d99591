package sim

import (
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// patience waits on the virtual clock for what a service asks to wait: the SDK would wait on the real one, while nothing moves the other. Who is throttled
// waits as long as he is told; who polls an operation moves the clock by next to nothing, since the operations of this twin take no longer.
type patience struct {
	clock clock.Clock
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (p patience) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(request)
	if err != nil {
		return response, err
	}
	asked := response.Header.Get("Retry-After")
	seconds, notNumber := strconv.Atoi(asked)
	if asked == "" || notNumber != nil {
		return response, nil
	}
	wait := time.Nanosecond
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable {
		wait = time.Duration(seconds) * time.Second
	}
	if err := p.clock.Sleep(request.Context(), wait); err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	response.Header.Del("Retry-After")
	response.Header.Set("Retry-After-Ms", "1")
	return response, nil
}
