package main

import (
	"cmp"
	"context"
	"os"
	"runtime"
	"slices"
	"sync"
)

// What bounds memory: workers hold some 32 MiB of frames each, and tasks that were not found wait, up to missingMax,
// until the directories of packs are searched for all of them at once.
const (
	workersMax = 4
	missingMax = 1 << 19
	batchTasks = 64
	// leafHeight is the height of a leaf of the tree; a chunk has the height 0.
	leafHeight = 1
)

// task is a chunk or a node that has to be brought back.
type task struct {
	height   int   // of what lies below: 0 for a chunk, 1 for a leaf
	first    int64 // its first chunk
	id       [32]byte
	places   []place // where it may lie
	problem  error   // why it was not found there
	searched bool    // the directories of packs were searched
}

// span is a range of a disk.
type span struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// extraction brings back one disk into a file that holds zeros so far.
type extraction struct {
	extractionConfig

	mu      sync.Mutex
	missing []task // not found where tree and index say
	lost    []span // not found anywhere
	written int64
	err     error // the first that ends the work
}

// extractionConfig is what an extraction works with.
type extractionConfig struct {
	repository *repository
	point      *point
	shape      shape
	file       *os.File
	keepGoing  bool
	progress   func(written int64) // is called by one goroutine at a time
}

// extracted is what came of it: the result of rescue extract.
type extracted struct {
	Point        string `json:"point"`
	Disk         string `json:"disk"`
	File         string `json:"file"`
	SizeBytes    int64  `json:"sizeBytes"`
	WrittenBytes int64  `json:"writtenBytes"`
	Root         string `json:"root"`  // what the point says
	Equal        bool   `json:"equal"` // the file was read back, and has that root
	Lost         []span `json:"lost"`  // where the file holds zeros because the repository has lost the bytes
}

// extractDisk writes a disk of a point to a file that does not exist yet, sparse and exactly as long as the disk, and reads
// it back to compute its root. Until all of it is done the file has another name, so a file of that name is whole: equal, or,
// when the work keeps going, equal but for the ranges that the result says.
func extractDisk(ctx context.Context, c extractionConfig, d *disk, out string) (*extracted, error) {
	shape, err := shapeOf(c.repository.state.parameters, d.SizeBytes)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, failed(kindInvalid, "%s exists already", out).about("out").hinting("name a file that does not exist")
	}
	partial := out + ".partial"
	if c.file, err = os.Create(partial); err != nil {
		return nil, failed(kindInvalid, "%v", err).about("out")
	}
	defer func() {
		c.file.Close()
		_ = os.Remove(partial) // best effort: after the renaming there is none
	}()
	if err := c.file.Truncate(d.SizeBytes); err != nil {
		return nil, err
	}
	c.shape = shape
	result, err := fill(ctx, c, d)
	if err != nil {
		return nil, err
	}
	result.File = out
	return result, os.Rename(partial, out)
}

// fill writes the disk and reads it back.
func fill(ctx context.Context, c extractionConfig, d *disk) (*extracted, error) {
	id, places, err := d.top()
	if err != nil {
		return nil, err
	}
	want, err := parseHash(d.Root)
	if err != nil {
		return nil, err
	}
	x := &extraction{extractionConfig: c}
	if id != [32]byte{} {
		if err := x.run(ctx, task{height: c.shape.height, id: id, places: places}); err != nil {
			return nil, err
		}
	}
	if err := c.file.Sync(); err != nil {
		return nil, err
	}
	result := &extracted{Point: c.point.id, Disk: d.LUN, SizeBytes: d.SizeBytes, WrittenBytes: x.written, Root: d.Root, Lost: x.lost}
	if len(x.lost) > 0 {
		return result, nil
	}
	root, err := rootOfFile(ctx, c.repository.keys, c.shape, c.file)
	if err != nil {
		return nil, err
	}
	if root != want {
		return nil, damaged("the file that was written does not have the root of the disk: %x instead of %s", root, d.Root)
	}
	result.Equal, result.Lost = true, []span{}
	return result, nil
}

// run writes all chunks below the top node. Chunks and nodes that the repository has lost end it, unless it keeps going:
// then they are in lost, and the file has zeros there.
//
// It works in rounds. A round walks the tree from a stack of tasks and hands chunks to the workers; what cannot be found by
// hints or index is put aside. Between rounds, the directories of packs are searched for all that was put aside. A disk in
// good order takes one round.
func (x *extraction) run(ctx context.Context, top task) error {
	stack := []task{top}
	for len(stack) > 0 && x.err == nil && ctx.Err() == nil {
		stack = x.round(ctx, stack)
		found, err := x.searchMissing()
		if err != nil {
			return err
		}
		stack = append(stack, found...)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	x.lost = joined(x.lost)
	return x.err
}

// round works until the stack is empty, too much is missing, or something ends the work. It returns what is left.
func (x *extraction) round(ctx context.Context, stack []task) []task {
	jobs := make(chan []task)
	var workers sync.WaitGroup
	for range min(workersMax, runtime.GOMAXPROCS(0)) {
		workers.Go(func() { x.work(jobs) })
	}
	defer workers.Wait()
	defer close(jobs)
	nodes, err := newFrames()
	if err != nil {
		x.fail(err)
	}
	for len(stack) > 0 && !x.pausing() && ctx.Err() == nil {
		t := stack[len(stack)-1]
		if t.height == 0 {
			n := len(stack)
			for n > 0 && stack[n-1].height == 0 && len(stack)-n < batchTasks {
				n--
			}
			jobs <- slices.Clone(stack[n:])
			stack = stack[:n]
			continue
		}
		stack = x.expand(nodes, t, stack[:len(stack)-1], jobs)
	}
	return stack
}

// expand reads a node, gives its chunks to the workers and puts its nodes on the stack, the first on top.
func (x *extraction) expand(nodes *frames, t task, stack []task, jobs chan<- []task) []task {
	n, err := nodes.node(x.repository, t.id, byte(t.height-1), t.places)
	if err != nil {
		x.miss(t, err)
		return stack
	}
	children := make([]task, 0, len(n.children))
	for _, c := range n.children {
		below := task{height: t.height - 1, first: t.first + int64(c.index)*x.shape.span(t.height-1), id: c.id}
		if below.first >= x.shape.chunks {
			x.fail(damaged("a node of the disk map leads beyond the end of the disk"))
			return nil
		}
		if c.hint != nil {
			below.places = []place{*c.hint}
		}
		children = append(children, below)
	}
	if t.height == leafHeight {
		jobs <- children
		return stack
	}
	slices.Reverse(children)
	return append(stack, children...)
}

// work writes chunks until there are no more jobs.
func (x *extraction) work(jobs <-chan []task) {
	reader, err := newFrames()
	if err != nil {
		x.fail(err)
	}
	for job := range jobs {
		for _, t := range job {
			if !x.failing() {
				x.write(reader, t)
			}
		}
	}
}

// write brings one chunk back.
func (x *extraction) write(reader *frames, t task) {
	content, err := reader.chunk(x.repository, t.id, t.places)
	offset, length := x.shape.extent(t.first, 1)
	if err == nil && int64(len(content)) != length {
		err = damaged("a chunk has %d bytes, want %d", len(content), length)
	}
	if err != nil {
		x.miss(t, err)
		return
	}
	if _, err := x.file.WriteAt(content, offset); err != nil {
		x.fail(err)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.written += length
	x.progress(x.written)
}

// miss puts a task aside, or gives it up when the directories of packs did not help either.
func (x *extraction) miss(t task, problem error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !t.searched {
		t.problem = problem
		x.missing = append(x.missing, t)
		return
	}
	if len(t.places) == 0 { // the search found nothing, so what was wrong at first is the reason
		problem = t.problem
	}
	offset, length := x.shape.extent(t.first, x.shape.span(t.height))
	x.lost = append(x.lost, span{offset, length})
	if x.err == nil && !x.keepGoing {
		lost := asFailure(problem)
		x.err = failed(lost.Kind, "%d bytes at %d of the disk are lost: %v", length, offset, problem).
			hinting("--keep-going writes zeros there and brings back the rest. %s", lost.Hint)
	}
}

// searchMissing searches the directories of packs for what is missing, and returns it for another round.
func (x *extraction) searchMissing() ([]task, error) {
	missing := x.missing
	x.missing = nil
	if len(missing) == 0 || x.err != nil {
		return nil, nil
	}
	nodes := slices.DeleteFunc(slices.Clone(missing), func(t task) bool { return t.height == 0 })
	chunks := slices.DeleteFunc(missing, func(t task) bool { return t.height > 0 })
	for kind, tasks := range map[byte][]task{kindTree: nodes, kindData: chunks} {
		if len(tasks) == 0 {
			continue
		}
		for i := range tasks {
			tasks[i].searched, tasks[i].places = true, nil
		}
		if err := x.repository.search(x.point, kind, tasks); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(chunks, func(a, b task) int { return cmp.Compare(a.first, b.first) })
	return append(nodes, chunks...), nil
}

func (x *extraction) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		x.err = err
	}
}

// failing reports whether the work has ended; pausing, whether it is time to search.
func (x *extraction) failing() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err != nil
}

func (x *extraction) pausing() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err != nil || len(x.missing) >= missingMax
}

// joined sorts ranges and joins neighbours.
func joined(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.Offset, b.Offset) })
	var all []span
	for _, s := range spans {
		if n := len(all); n > 0 && all[n-1].Offset+all[n-1].Length == s.Offset {
			all[n-1].Length += s.Length
			continue
		}
		all = append(all, s)
	}
	return all
}
