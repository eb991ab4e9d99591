package restore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// tagRestore marks what a restore made: POINT/RUN while it is unfinished, POINT afterwards.
const tagRestore = "holdfast-restore"

// Limits in time.
const (
	// cleanupTimeout bounds what is done after a failure or a stop.
	cleanupTimeout = 10 * time.Minute
	// lingerTimeout is how long a request that creates something may go on after a failure elsewhere or a stop.
	lingerTimeout = 20 * time.Second
)

// run is one execution of a plan.
type run struct {
	flow   *Flow
	plan   Plan
	point  *repo.PointReader
	marker string // the value of tagRestore that this run gives

	mu    sync.Mutex // guards the following
	made  []holdfast.ResourceID
	disks []DiskResult
	notes []string
}

func (f *Flow) newRun(plan Plan) (*run, error) {
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "no random number for the restore's name")
	}
	r := &run{flow: f, plan: plan, marker: string(plan.Point) + "/" + hex.EncodeToString(id), notes: slices.Clone(plan.Notes)}
	for _, d := range plan.Disks {
		r.disks = append(r.disks, DiskResult{ID: d.ID, LUN: d.LUN})
	}
	return r, nil
}

// clear removes what an earlier run left unfinished under the plan's names. It reports true when such a run had come to its
// end but for the tags: then the machine stands, and its disks were proven before it was made.
func (r *run) clear(ctx context.Context) (finished bool, err error) {
	found, err := r.find(ctx)
	if err != nil {
		return false, err
	}
	for _, resource := range found {
		if !unfinished(resource) {
			return false, taken(resource)
		}
	}
	if r.complete(found) {
		r.note("an earlier run had restored and proven this machine and was interrupted before it could report it")
		for i := range r.disks {
			r.disks[i].Equal = true
		}
		return true, nil
	}
	for _, resource := range found {
		if err := r.flow.config.Cloud.Delete(ctx, resource.ID); err != nil {
			return false, err
		}
	}
	return false, nil
}

// find reads the resources that exist under the plan's names, in the order in which they are removed.
func (r *run) find(ctx context.Context) ([]machine.Resource, error) {
	var found []machine.Resource
	for _, id := range r.plan.ids() {
		resource, err := r.flow.config.Cloud.Resource(ctx, id)
		if holdfast.IsKind(err, holdfast.KindNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, resource)
	}
	// Disks of a machine that an interrupted run was finishing bear the finished mark already; they are still its own.
	if len(found) > 0 && r.plan.VM != nil && found[0].ID.Equal(r.plan.VM.ID) && unfinished(found[0]) {
		for i := range found {
			if found[i].Tags[tagRestore] == pointOf(found[0]) {
				found[i].Tags = found[0].Tags
			}
		}
	}
	return found, nil
}

// complete reports whether all that the plan names exists, made for the same point, with the machine in working order.
func (r *run) complete(found []machine.Resource) bool {
	if r.plan.VM == nil || len(found) != len(r.plan.ids()) || found[0].State != "Succeeded" {
		return false
	}
	return !slices.ContainsFunc(found, func(resource machine.Resource) bool { return pointOf(resource) != string(r.plan.Point) })
}

// unfinished reports whether a resource bears the mark of a restore that did not come to its end.
func unfinished(r machine.Resource) bool { return strings.Contains(r.Tags[tagRestore], "/") }

func pointOf(r machine.Resource) string {
	point, _, _ := strings.Cut(r.Tags[tagRestore], "/")
	return point
}

// taken says that a name of the plan is held by a resource that is not ours to remove.
func taken(r machine.Resource) error {
	return holdfast.Errorf(holdfast.KindRefused, "%s exists already", r.ID).WithField("name").
		WithHint("choose another --name, or remove that resource if nobody needs it")
}

// restoreDisks makes, fills and proves the disks, several at a time.
func (r *run) restoreDisks(ctx context.Context) error {
	point, err := r.flow.config.Repository.OpenPoint(ctx, r.plan.Point)
	if err != nil {
		return err
	}
	r.point = point
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.flow.config.DisksAtOnce)
	for i, d := range r.plan.Disks {
		group.Go(func() error { return r.restoreDisk(ctx, d, &r.disks[i]) })
	}
	return group.Wait()
}

// restoreDisk takes one disk from nothing to proven.
func (r *run) restoreDisk(ctx context.Context, d PlannedDisk, result *DiskResult) error {
	content, err := r.point.Disk(d.LUN)
	if err != nil {
		return err
	}
	r.flow.config.Progress(Progress{Stage: StageCreate, LUN: d.LUN, Name: d.ID.Name(), SizeBytes: d.SizeBytes})
	if err := r.put(ctx, d.Step); err != nil {
		return err
	}
	if err := r.write(ctx, d, content, result); err != nil {
		return err
	}
	return r.prove(ctx, d, result)
}

// write uploads the stored ranges and, last, the footer that makes the upload a fixed VHD. Closing ends the upload.
func (r *run) write(ctx context.Context, d PlannedDisk, content *repo.DiskReader, result *DiskResult) (err error) {
	upload, err := r.flow.config.Cloud.OpenUpload(ctx, d.ID, d.SizeBytes)
	if err != nil {
		return err
	}
	defer func() { err = closing(ctx, err, upload) }()
	err = content.CopyTo(ctx, upload, repo.CopyOptions{Workers: r.flow.config.Workers, Progress: func(n int64) {
		r.mu.Lock()
		result.Bytes += n
		r.mu.Unlock()
		r.flow.config.Progress(Progress{Stage: StageWrite, LUN: d.LUN, Name: d.ID.Name(), SizeBytes: d.SizeBytes, Bytes: n})
	}})
	if err != nil {
		return err
	}
	footer := vhd.Footer(d.SizeBytes, [16]byte(d.Root[:16]), r.point.Point().Time)
	return upload.WriteAt(ctx, footer[:], d.SizeBytes)
}

// prove reads the disk back from Azure and compares it with the root that the restore point states.
func (r *run) prove(ctx context.Context, d PlannedDisk, result *DiskResult) (err error) {
	content, err := r.flow.config.Cloud.OpenDisk(ctx, d.ID, d.SizeBytes)
	if err != nil {
		return err
	}
	defer func() { err = closing(ctx, err, content) }()
	root, err := r.flow.config.Repository.RootOf(ctx, repo.RootInput{
		SizeBytes: d.SizeBytes, Extents: content.Extents(ctx), Source: content, Readers: r.flow.config.Workers,
		Progress: func(p repo.Progress) {
			r.flow.config.Progress(Progress{Stage: StageProve, LUN: d.LUN, Name: d.ID.Name(), SizeBytes: d.SizeBytes, Bytes: p.ReadBytes})
		},
	})
	if err != nil {
		return err
	}
	if root != d.Root {
		return holdfast.Errorf(holdfast.KindCorrupt, "the restored disk %s is not what was backed up: its root is %s instead of %s", d.ID.Name(), root, d.Root).
			WithHint("restore again; if it stays so, check the restore point with `holdfast repo verify`")
	}
	result.Equal = true
	return nil
}

// closing revokes a SAS, whatever happened before and even after a stop; the first error stays.
func closing(ctx context.Context, err error, open interface{ Close(context.Context) error }) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if closeErr := open.Close(ctx); err == nil {
		return closeErr
	}
	return err
}

// put creates one resource of the plan under this run's mark. A request that was sent is waited for even when another fails: what it makes
// after everything was looked for would stay.
func (r *run) put(ctx context.Context, step Step) error {
	body, err := marked(step.Body, r.marker)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	patient, cancel := r.flow.linger(ctx)
	defer cancel()
	r.mu.Lock()
	r.made = append(r.made, step.ID)
	r.mu.Unlock()
	return r.flow.config.Cloud.Put(patient, step.ID, body)
}

// linger returns a context that ends some time after ctx does.
func (f *Flow) linger(ctx context.Context) (context.Context, context.CancelFunc) {
	child, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = f.config.Clock.Sleep(child, lingerTimeout) // it ends early only because child has ended
		cancel()
	})
	return child, func() { stop(); cancel() }
}

// marked adds the tag of an unfinished restore to a body.
func marked(body json.RawMessage, marker string) (json.RawMessage, error) {
	o, err := parse(body)
	if err != nil {
		return nil, err
	}
	tags, _ := o["tags"].(map[string]any)
	tags = maps.Clone(tags)
	if tags == nil {
		tags = map[string]any{}
	}
	tags[tagRestore] = marker
	o["tags"] = tags
	return json.Marshal(o)
}

// finish takes the unfinished mark off, the machine's last: until then a run that comes again finds all of it. The machine
// stands already; what fails here is a note.
func (r *run) finish(ctx context.Context) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	ids := r.plan.ids()
	slices.Reverse(ids)
	for _, id := range ids {
		resource, err := r.flow.config.Cloud.Resource(ctx, id)
		if err == nil && unfinished(resource) {
			tags := maps.Clone(resource.Tags)
			tags[tagRestore] = string(r.plan.Point)
			err = r.flow.config.Cloud.SetTags(ctx, id, tags)
		}
		if err != nil {
			r.flow.config.Log.WarnContext(ctx, "the mark of an unfinished restore remains", "resource", string(id), "error", err)
			r.note("the tag " + tagRestore + " of " + string(id) + " still says that the restore is unfinished; the same command again, or setting it to " + string(r.plan.Point) + ", puts it right")
			return
		}
	}
}

// undo removes what this run made, in the reverse order, and says in the error what it could not remove.
func (r *run) undo(ctx context.Context, cause error) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	var remain []string
	for _, id := range r.plan.ids() {
		if !slices.Contains(r.made, id) {
			continue
		}
		if err := r.remove(ctx, id); err != nil {
			r.flow.config.Log.WarnContext(ctx, "a resource remains", "resource", string(id), "error", err)
			remain = append(remain, string(id))
		}
	}
	if len(remain) == 0 {
		return cause
	}
	sentence := "What remains is removed when the same restore runs again: " + strings.Join(remain, ", ")
	var e *holdfast.Error
	if !errors.As(cause, &e) {
		return holdfast.Wrap(holdfast.KindOf(cause), cause, "the restore failed").WithHint("%s", sentence)
	}
	if e.Hint != "" {
		sentence = strings.TrimSuffix(e.Hint, ".") + ". " + sentence
	}
	return e.WithHint("%s", sentence)
}

// remove deletes a resource if it bears this run's mark.
func (r *run) remove(ctx context.Context, id holdfast.ResourceID) error {
	resource, err := r.flow.config.Cloud.Resource(ctx, id)
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if resource.Tags[tagRestore] != r.marker {
		return nil // not made by this run: its creation was refused because the name was taken
	}
	return r.flow.config.Cloud.Delete(ctx, id)
}

func (r *run) note(sentence string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, sentence)
}

func (r *run) result() Result {
	result := Result{Disks: r.disks, Notes: append([]string{}, r.notes...)}
	if r.plan.VM != nil {
		result.VM = r.plan.VM.ID
	}
	return result
}

// cleanup returns a context for what has to be done although the run failed or was stopped.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
