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
	"github.com/holdfast-backup/holdfast/internal/jobs"
)

// The kinds of job.
const (
	KindItem     = "item"     // the share of one machine in a session: package protect
	KindPass     = "pass"     // the daily pass of retention: package reclaim
	KindRemove   = "remove"   // points that a person removes: package reclaim
	KindCheck    = "check"    // a health check: package proof
	KindDiscover = "discover" // the inventory: package discover
	KindNotify   = "notify"   // one message, which its key names: package outbox
)

// Enqueue adds a job whose arguments are ids.
func Enqueue(ctx context.Context, queue jobs.Enqueuer, tx database.Tx, job jobs.Job, arguments any) error {
	text, err := json.Marshal(arguments)
	holdfast.Invariant(err == nil, "ids can be written as JSON: %v", err)
	job.Arguments = text
	_, err = queue.Enqueue(ctx, tx, job)
	return err
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
const Control = jobs.QueueDefault

// Messages is the queue of what is told to people: a mail server that does not answer must hold up nothing else.
const Messages = "messages"

// Region is the queue of what has to be done in or near an Azure region.
func Region(name string) string { return "region-" + strings.ToLower(name) }

// EnqueueItem adds the job for the share of one machine in a session, where the machine's region is worked on.
func EnqueueItem(ctx context.Context, queue jobs.Enqueuer, tx database.Tx, item Item, region string, at time.Time) error {
	return Enqueue(ctx, queue, tx, jobs.Job{Kind: KindItem, Key: item.Key(), Queue: Region(region), RunAt: at}, item)
}

// ItemOf reads what a job of kind item names.
func ItemOf(job jobs.Job) (Item, error) {
	var item Item
	if err := json.Unmarshal(job.Arguments, &item); err != nil {
		return item, holdfast.Wrap(holdfast.KindCorrupt, err, "the job %s %s cannot be read", job.Kind, job.Key)
	}
	return item, nil
}
