package cli

import (
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// plainEvery is how often a bar writes a line where standard error is no terminal.
const plainEvery = 5 * time.Second

// Progress shows how far long work is: bars on a terminal, a line now and then elsewhere. Safe for concurrent use.
type Progress struct {
	console *Console
	clock   clock.Clock
	bars    *mpb.Progress // nil where standard error is no terminal

	mu    sync.Mutex // guards the fields below
	known map[string]*Bar
}

// NewProgress starts showing progress on the console's standard error. Wait ends it.
func (c *Console) NewProgress(clk clock.Clock) *Progress {
	p := &Progress{console: c, clock: clk, known: map[string]*Bar{}}
	if IsTerminal(c.Err) {
		p.bars = mpb.New(mpb.WithOutput(c.Err), mpb.WithWidth(32), mpb.WithRefreshRate(120*time.Millisecond))
	}
	return p
}

// Bar returns the bar of that name, made with the given total in bytes when it is new. A total of 0 means that it is not known.
func (p *Progress) Bar(name string, total int64) *Bar {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b, ok := p.known[name]; ok {
		return b
	}
	b := &Bar{p: p, name: name, total: total, began: p.clock.Now(), told: p.clock.Now()}
	if p.bars != nil {
		b.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace), decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace)),
		)
	}
	p.known[name] = b
	return b
}

// Wait ends all bars and leaves the terminal in order.
func (p *Progress) Wait() {
	p.mu.Lock()
	bars := make([]*Bar, 0, len(p.known))
	for _, b := range p.known {
		bars = append(bars, b)
	}
	p.mu.Unlock()
	for _, b := range bars {
		b.Done()
	}
	if p.bars != nil {
		p.bars.Wait()
	}
}

// Bar is one line of progress. Safe for concurrent use.
type Bar struct {
	p     *Progress
	name  string
	bar   *mpb.Bar
	began time.Time

	mu    sync.Mutex // guards the fields below
	total int64
	done  int64
	told  time.Time
	ended bool
}

// Add moves the bar by n bytes.
func (b *Bar) Add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moveTo(b.done + n)
}

// At moves the bar to a position; it never moves back.
func (b *Bar) At(position int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moveTo(max(b.done, position))
}

// moveTo sets where the bar stands. The caller holds mu.
func (b *Bar) moveTo(position int64) {
	b.done = position
	if b.bar != nil {
		b.bar.SetCurrent(position)
		return
	}
	if now := b.p.clock.Now(); now.Sub(b.told) >= plainEvery {
		b.told = now
		b.line()
	}
}

// line writes where the bar stands. The caller holds mu.
func (b *Bar) line() {
	rate := float64(b.done) / max(b.p.clock.Now().Sub(b.began).Seconds(), 1e-3)
	if b.total > 0 {
		b.p.console.Note("%s: %s of %s, %s/s", b.name, Bytes(b.done), Bytes(b.total), Bytes(int64(rate)))
		return
	}
	b.p.console.Note("%s: %s, %s/s", b.name, Bytes(b.done), Bytes(int64(rate)))
}

// Done ends the bar where it stands: what was skipped because it did not change counts as done.
func (b *Bar) Done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	if b.bar != nil {
		b.bar.SetTotal(-1, true)
	}
}
