package arm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// plan is a request resolved to what serves it.
type plan struct {
	subject  string // for refused api-versions
	versions Versions
	params   map[string]string
	action   string // the permission needed; "" for none
	lockable string // the scope that locks are looked up for; "" when locks do not matter
	write    bool
	class    Class
	resource string // what the class's per-resource bucket counts
	serve    func(*Call) (Answer, error)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.stamp(w.Header(), r)
	answer, err := s.answer(w.Header(), r)
	if err != nil {
		e := errorOf(err)
		maps.Copy(w.Header(), e.Header)
		writeJSON(w, r, e.Status, map[string]any{"error": e})
		return
	}
	maps.Copy(w.Header(), answer.Header)
	writeJSON(w, r, answer.Status, answer.Body)
}

// answer is the road of every request.
func (s *Server) answer(header http.Header, r *http.Request) (Answer, error) {
	principal, err := s.authenticate(r)
	if err != nil {
		return Answer{}, err
	}
	if err := s.Settle(); err != nil {
		return Answer{}, err
	}
	call, err := s.newCall(r, principal)
	if err != nil {
		return Answer{}, err
	}
	plan, err := s.resolve(call)
	if err != nil {
		return Answer{}, err
	}
	if err := plan.versions.check(call.Version, plan.subject); err != nil {
		return Answer{}, err
	}
	if err := s.admit(header, call, plan); err != nil {
		return Answer{}, err
	}
	call.Params = plan.params
	if !plan.write {
		if call.Method == http.MethodPost { // an action that changes nothing, such as listKeys, is still forbidden by ReadOnly
			if err := checkLocks(call.View, plan.lockable, call.Method); err != nil {
				return Answer{}, err
			}
		}
		return finishAnswer(plan.serve(call))
	}
	return finishAnswer(s.write(call, plan))
}

// admit checks subscription, permission and rate limits.
func (s *Server) admit(header http.Header, call *Call, plan plan) error {
	subscription := call.subscription()
	if subscription != "" && call.View.Get("/subscriptions/"+subscription) == nil {
		return Errorf(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", subscription)
	}
	wanted := demand{principal: call.Principal, subscription: subscription, method: call.Method, class: plan.class, resource: plan.resource}
	if err := s.throttle.admit(header, wanted); err != nil {
		return err
	}
	if plan.action != "" && !call.May(plan.action) {
		return Errorf(http.StatusForbidden, "AuthorizationFailed",
			"The client '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid.", call.Principal, plan.action, call.Path)
	}
	return nil
}

// errDropped ends a transaction whose operation was told to fail without effect.
var errDropped = errors.New("the operation is to fail without effect")

// write runs a handler in a transaction and records its operation in the same one. Where the fault engine wants the
// operation to fail without effect, the handler's work is dropped and only a failing operation is recorded.
func (s *Server) write(call *Call, plan plan) (Answer, error) {
	var answer Answer
	decision := call.Decision()
	fails := decision.Kind == fault.FailOperation
	err := s.state.Update(func(tx *state.Tx) error {
		call.Tx, call.View = tx, tx.View
		if err := checkLocks(tx.View, plan.lockable, call.Method); err != nil {
			return err
		}
		var err error
		answer, err = plan.serve(call)
		if err != nil || answer.Operation == nil {
			return err
		}
		if fails && !decision.AfterEffect {
			return errDropped
		}
		if fails {
			answer.Operation.failWith = failureOf(decision)
		}
		s.record(call, &answer)
		return nil
	})
	if !errors.Is(err, errDropped) {
		return answer, err
	}
	answer.Operation.Kind, answer.Operation.failWith = "", failureOf(decision)
	err = s.state.Update(func(tx *state.Tx) error {
		call.Tx, call.View = tx, tx.View
		s.record(call, &answer)
		return nil
	})
	return answer, err
}

func (s *Server) newCall(r *http.Request, principal string) (*Call, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "InvalidQuery", "The query string cannot be read: %v.", err)
	}
	call := &Call{
		Context: r.Context(), Method: r.Method, Path: "/" + strings.Join(splitPath(r.URL.Path), "/"), Query: query, Version: queryValue(query, "api-version"),
		Principal: principal, Now: s.clock.Now().UTC(), View: s.state.View(), server: s, base: "https://" + r.Host,
	}
	if s.config.PublicURL != nil {
		call.base = s.config.PublicURL()
	}
	return call, readBody(call, r)
}

func readBody(call *Call, r *http.Request) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, requestBytesMax+1))
	if err != nil {
		return Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request's content could not be read: %v.", err)
	}
	if len(raw) > requestBytesMax {
		return Errorf(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request's content exceeds %d bytes.", requestBytesMax)
	}
	if len(raw) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return Errorf(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The content media type '%s' is not supported. Only 'application/json' is supported.", r.Header.Get("Content-Type"))
	}
	call.Raw = raw
	call.Body, err = state.ParseObject(raw)
	if err != nil {
		return Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%v'.", err)
	}
	return nil
}

// queryValue finds a query parameter in any casing.
func queryValue(query url.Values, name string) string {
	for key, values := range query {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

func (s *Server) authenticate(r *http.Request) (string, error) {
	if s.config.Authenticate == nil {
		return "anonymous", nil
	}
	principal, err := s.config.Authenticate(r)
	if err == nil {
		return principal, nil
	}
	challenge := http.Header{"Www-Authenticate": {fmt.Sprintf(`Bearer authorization_uri="https://login.windows.net/%s", error="invalid_token", error_description="The access token is missing or invalid."`, s.config.TenantID)}}
	var e *Error
	if errors.As(err, &e) {
		c := *e
		if c.Header.Get("Www-Authenticate") == "" {
			c.Header = challenge
		}
		return "", &c
	}
	refusal := Errorf(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid: %v.", err)
	if r.Header.Get("Authorization") == "" {
		refusal = Errorf(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	}
	refusal.Header = challenge
	return "", refusal
}

// stamp sets the headers that every answer carries.
func (s *Server) stamp(header http.Header, r *http.Request) {
	request := uuid.NewString()
	correlation := r.Header.Get("X-Ms-Correlation-Request-Id")
	if correlation == "" {
		correlation = request
	}
	now := s.clock.Now().UTC()
	header.Set("X-Ms-Request-Id", request)
	header.Set("X-Ms-Correlation-Request-Id", correlation)
	header.Set("X-Ms-Routing-Request-Id", fmt.Sprintf("TWIN:%s:%s", now.Format("20060102T150405Z"), request))
	header.Set("Date", now.Format(http.TimeFormat))
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	if strings.EqualFold(r.Header.Get("X-Ms-Return-Client-Request-Id"), "true") {
		header.Set("X-Ms-Client-Request-Id", r.Header.Get("X-Ms-Client-Request-Id"))
	}
}

func finishAnswer(answer Answer, err error) (Answer, error) {
	if err != nil {
		return answer, err
	}
	if answer.Status == 0 {
		answer.Status = http.StatusOK
		if answer.Operation != nil {
			answer.Status = http.StatusAccepted
		}
	}
	return answer, nil
}

func writeJSON(w http.ResponseWriter, r *http.Request, status int, body any) {
	if body == nil || r.Method == http.MethodHead || status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		status, encoded = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":"the answer could not be encoded"}}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(encoded)))
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // best effort: the caller has gone, there is nobody to tell
}
