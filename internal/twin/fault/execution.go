package fault

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// cutBodyMax bounds what is held in memory of an answer that declares no length, before it is cut.
const cutBodyMax = 16 << 20

// errCut is what a handler sees when it writes past the place where the connection broke.
var errCut = errors.New("the connection was cut by a fault rule")

// execution carries out one decision.
type execution struct {
	engine   *Engine
	surface  Surface
	decision Decision
	next     http.Handler
}

func (x execution) run(w http.ResponseWriter, r *http.Request) {
	switch x.decision.Kind {
	case Revoke, StaleList, OmitRanges, FailOperation:
		x.next.ServeHTTP(w, r.WithContext(With(r.Context(), x.decision)))
		return
	case Throttle, Error, Cut, Slow, Lost:
	}
	if x.engine.clock.Sleep(r.Context(), x.decision.Delay) != nil {
		abort() // the client has gone
	}
	if x.decision.AfterEffect {
		x.next.ServeHTTP(&discard{header: http.Header{}}, r)
	}
	switch x.decision.Kind {
	case Slow:
		x.next.ServeHTTP(w, r)
	case Lost:
		abort()
	case Cut:
		x.cut(w, r)
	default:
		x.answer(w)
	}
}

// abort breaks the connection (over HTTP/2: resets the stream) without a further byte. The panic is the documented way
// of net/http to do so from a handler; the server recovers it silently.
func abort() { panic(http.ErrAbortHandler) }

// cut serves the request, lets the answer's headers and half of its body pass, and breaks the connection. An answer
// without body is lost as a whole.
func (x execution) cut(w http.ResponseWriter, r *http.Request) {
	c := &cutter{to: w}
	x.next.ServeHTTP(c, r)
	c.finish(r.Method != http.MethodHead)
	abort()
}

// answer sends the failure in the shape of the surface: ARM's and Entra's JSON, storage's XML.
func (x execution) answer(w http.ResponseWriter) {
	status, code, message := x.failure()
	header := w.Header()
	if wait := x.decision.RetryAfter; wait > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
		if wait%time.Second != 0 {
			header.Set("retry-after-ms", strconv.FormatInt(wait.Milliseconds(), 10))
		}
	}
	header.Set("x-ms-request-id", fmt.Sprintf("fa017000-0000-4000-8000-%012d", x.engine.Mark()))
	var body []byte
	switch x.surface {
	case Disk, Blob:
		header.Set("Content-Type", "application/xml")
		header.Set("x-ms-error-code", code)
		body = storageError(code, message)
	case Entra:
		header.Set("Content-Type", "application/json; charset=utf-8")
		body = jsonBody(map[string]any{"error": code, "error_description": "AADSTS90033: " + message, "error_codes": []int{90033}})
	default:
		header.Set("Content-Type", "application/json; charset=utf-8")
		header.Set("x-ms-failure-cause", "gateway")
		body = jsonBody(map[string]any{"error": map[string]string{"code": code, "message": message}})
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // best effort: a client that has gone does not want the failure either
}

// failure returns status, code and message, with the platform's usual ones where the rule names none.
func (x execution) failure() (status int, code, message string) {
	storage := x.surface == Disk || x.surface == Blob
	throttled := x.decision.Kind == Throttle
	status, code, message = x.decision.Status, x.decision.Code, "The service failed on purpose of a fault rule."
	if throttled {
		message = "The request was throttled on purpose of a fault rule. Try again later."
	}
	if status == 0 && throttled {
		status = http.StatusTooManyRequests
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if code != "" {
		return status, code, message
	}
	switch {
	case x.surface == Entra:
		code = "temporarily_unavailable"
	case storage && (throttled || status == http.StatusServiceUnavailable):
		code = "ServerBusy"
	case throttled:
		code = "TooManyRequests"
	case storage && status == http.StatusInternalServerError:
		code = "InternalError"
	case status == http.StatusInternalServerError:
		code = "InternalServerError"
	case status == http.StatusServiceUnavailable:
		code = "ServiceUnavailable"
	case status == http.StatusBadGateway:
		code = "BadGateway"
	case status == http.StatusGatewayTimeout:
		code = "GatewayTimeout"
	default:
		code = "OperationFailed"
	}
	return status, code, message
}

func storageError(code, message string) []byte {
	var body bytes.Buffer
	body.WriteString(xml.Header + "<Error><Code>" + code + "</Code><Message>")
	_ = xml.EscapeText(&body, []byte(message)) // a bytes.Buffer does not fail
	body.WriteString("</Message></Error>")
	return body.Bytes()
}

func jsonBody(value any) []byte {
	body, err := json.Marshal(value)
	if err != nil {
		return []byte(`{"error":{"code":"InternalServerError","message":"unprintable"}}`)
	}
	return body
}

// discard is the answer of a request whose effect is wanted and whose answer is not.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// cutter passes the first half of an answer. With a declared length it streams; without one it holds the answer until
// its length is known.
type cutter struct {
	to       http.ResponseWriter
	status   int
	declared int64 // -1 when the length is not known beforehand
	allowed  int64 // how much may still pass, when declared
	begun    bool  // the status has been passed on, when declared
	held     bytes.Buffer
}

func (c *cutter) Header() http.Header { return c.to.Header() }

func (c *cutter) WriteHeader(status int) {
	if c.status != 0 || (status >= 100 && status < 200) {
		return
	}
	c.status, c.declared = status, -1
	if length, err := strconv.ParseInt(c.Header().Get("Content-Length"), 10, 64); err == nil {
		c.declared, c.allowed = length, length/2
	}
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if c.declared < 0 {
		if c.held.Len()+len(p) > cutBodyMax {
			return 0, errCut
		}
		return c.held.Write(p)
	}
	if !c.begun {
		c.begun = true
		c.to.WriteHeader(c.status)
	}
	n, err := c.to.Write(p[:min(int64(len(p)), c.allowed)])
	c.allowed -= int64(n)
	if err == nil && n < len(p) {
		err = errCut
	}
	return n, err
}

// finish sends what an answer of unknown length owes, and flushes, so that the half really arrives before the break.
func (c *cutter) finish(hasBody bool) {
	if !hasBody || (c.declared <= 0 && c.held.Len() == 0) {
		return
	}
	if c.declared < 0 {
		c.Header().Set("Content-Length", strconv.Itoa(c.held.Len()))
		c.to.WriteHeader(c.status)
		_, _ = io.CopyN(c.to, &c.held, int64(c.held.Len()/2)) // best effort: the connection is about to break anyway
	}
	_ = http.NewResponseController(c.to).Flush() // best effort, as above
}
