package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Limits of a request.
const (
	bodyMax = 32 << 20
	keyMax  = 255
)

// once lets a write that names an idempotency key happen once: sent again under the same key by the same bearer it is answered as before. A
// write whose answer is not known, because the server died in it, is refused, since nobody knows whether it took effect. Of whom nobody knows nothing is
// kept.
func (a *api) once(next http.Handler, known func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
		key := r.Header.Get("Idempotency-Key")
		if key == "" || r.Method == http.MethodGet || !known(r) {
			next.ServeHTTP(w, r)
			return
		}
		if len(key) > keyMax {
			writeProblem(w, http.StatusUnprocessableEntity, holdfast.Errorf(holdfast.KindInvalid, "the idempotency key is too long").WithField("Idempotency-Key").WithHint("at most %d characters; a UUID does", keyMax))
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			writeProblem(w, http.StatusRequestEntityTooLarge, holdfast.Errorf(holdfast.KindInvalid, "the request is too long").WithHint("at most %d bytes", bodyMax))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		one := write{api: a, key: digest(r.Header.Get("Authorization"), key), request: digest(r.Method, r.URL.RequestURI(), string(body))}
		one.serve(w, r, next)
	})
}

// digest is a name for texts that gives none of them away.
func digest(texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// write is one that names a key.
type write struct {
	api          *api
	key, request string
}

func (o write) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	var known store.Answer
	var begun bool
	err := o.api.Database.Write(r.Context(), func(ctx context.Context, tx database.Tx) (err error) {
		known, begun, err = store.ClaimWrite(ctx, tx, o.key, o.request, o.api.Clock.Now())
		return err
	})
	if err != nil {
		writeProblem(w, statusOf(holdfast.KindOf(err)), err)
		return
	}
	if !begun {
		o.repeat(w, known)
		return
	}
	answer := &recorder{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(answer, r)
	if err := o.keep(context.WithoutCancel(r.Context()), answer); err != nil { // what happened, happened, whoever still listens
		o.api.Log.WarnContext(r.Context(), "the answer to a write could not be kept", "error", err)
	}
	answer.send(w)
}

// repeat answers as before.
func (o write) repeat(w http.ResponseWriter, known store.Answer) {
	body, err := o.api.Sealer.Open(o.key, known.Body)
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, holdfast.Errorf(holdfast.KindInternal, "the answer to this request cannot be read any more"))
		return
	}
	if known.Type != "" {
		w.Header().Set("Content-Type", known.Type)
	}
	w.Header().Set("Idempotency-Replayed", "true")
	w.WriteHeader(known.Status)
	_, _ = w.Write(body) // nobody is left to tell
}

// keep keeps an answer. One that says that nothing happened is forgotten, so that the same request may be sent again once its cause is gone.
func (o write) keep(ctx context.Context, answer *recorder) error {
	return o.api.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		if answer.status >= http.StatusBadRequest {
			return store.ForgetWrite(ctx, tx, o.key)
		}
		sealed, err := o.api.Sealer.Seal(o.key, answer.body.Bytes())
		if err != nil {
			return errors.Join(err, store.ForgetWrite(ctx, tx, o.key))
		}
		return store.PutAnswer(ctx, tx, o.key, store.Answer{Status: answer.status, Type: answer.header.Get("Content-Type"), Body: sealed})
	})
}

// recorder takes an answer in.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) { r.status = status }

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

func (r *recorder) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), r.header)
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body.Bytes()) // nobody is left to tell
}
