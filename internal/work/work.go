// Package work names the kinds of job there are, what their arguments say, and what the flows are ordered to make, so that who asks and who does agree. Arguments
// are ids and nothing else: the truth is in the rows that they name.
package work

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/database"
)

// The kinds of job.
const (
	KindItem     = "item"     // the share of one machine in a session: package protect
	KindPass     = "pass"     // the daily pass of retention: package reclaim
	KindRemove   = "remove"   // points that a person removes: package reclaim
	KindCheck    = "check"    // a health check: package proof
	KindDiscover = "discover" // the inventory: package discover
	KindNotify   = "notify"   // one message: package notify
)

// Job is a unit of work to be done once, known by its kind and key.
type Job struct {
	Kind      string
	Key       string
	Queue     string
	Arguments json.RawMessage
	RunAt     time.Time
}

// Queue takes jobs in the transaction of what causes them.
type Queue interface {
	// Enqueue adds a job, unless one of its kind and key is there that is not over.
	Enqueue(ctx context.Context, tx database.Tx, job Job) error
}

// Enqueue adds a job whose arguments are ids.
func Enqueue(ctx context.Context, queue Queue, tx database.Tx, job Job, arguments any) error {
	text, err := json.Marshal(arguments)
	holdfast.Invariant(err == nil, "ids can be written as JSON: %v", err)
	job.Arguments = text
	return queue.Enqueue(ctx, tx, job)
}

// Session is what jobs of kinds pass, remove and check name.
type Session struct {
	Session holdfast.RunID `json:"session"`
}

// Item is what a job of kind item names.
type Item struct {
	Session holdfast.RunID      `json:"session"`
	VM      holdfast.ResourceID `json:"vm"`
}

// Key is the natural key of the job.
func (i Item) Key() string { return string(i.Session) + "/" + i.VM.Key() }

// Control is the queue of what any server does.
const Control = "control"

// Region is the queue of what has to be done in or near an Azure region.
func Region(name string) string { return "region-" + strings.ToLower(name) }

// ItemOf reads what a job of kind item names.
func ItemOf(job Job) (Item, error) {
	var item Item
	if err := json.Unmarshal(job.Arguments, &item); err != nil {
		return item, holdfast.Wrap(holdfast.KindCorrupt, err, "the job %s %s cannot be read", job.Kind, job.Key)
	}
	return item, nil
}
