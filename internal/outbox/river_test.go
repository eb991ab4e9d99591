package outbox_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	riverjobs "github.com/holdfast-backup/holdfast/internal/jobs/river"
	"github.com/holdfast-backup/holdfast/internal/outbox"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// The durable queue takes the jobs as they are: with their queue, their instants and their many attempts.
func TestDeliver_ByTheDurableQueue(t *testing.T) {
	both(t, func(w *world) {
		queue, err := riverjobs.New(w.t.Context(), w.db, riverjobs.Options{Queues: map[string]int{work.Messages: 2}, Poll: 20 * time.Millisecond})
		if err != nil {
			w.t.Fatal(err)
		}
		config := outbox.Config{Database: w.db, Jobs: queue, Clock: w.clock, Log: quiet, Secrets: w, Roots: w.roots}
		w.outbox = outbox.New(config)
		queue.Handle(work.KindNotify, w.outbox.Deliver)
		if err := queue.Start(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.apply(w.settings("both@example.com", "nobody@example.com"))
		w.session("s1", "office", holdfast.OutcomeError)
		for slices.ContainsFunc(w.messages(), store.Message.Open) {
			if err := (clock.System{}).Sleep(w.t.Context(), 5*time.Millisecond); err != nil {
				w.t.Fatal(err)
			}
		}
		if given := slices.ContainsFunc(w.messages(), func(m store.Message) bool { return !m.GivenUp.IsZero() }); !given || len(w.mail.Letters(w.t)) != 3 || len(w.hook.took()) != 1 {
			w.t.Errorf("%+v", w.messages())
		}
		if err := queue.Drain(w.t.Context()); err != nil {
			w.t.Error(err)
		}
	})
}
