package cli

import (
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

const (
	plainEvery = 5 * time.Second        // how often a bar writes a line where standard error is no terminal
	drawEvery  = 120 * time.Millisecond // how often bars are drawn anew on a terminal
	barColumns = 32
)

// Progress shows how far long work is: bars on a terminal, a line now and then elsewhere. Safe for concurrent use.
type Progress struct {
	console *Console
	clock   clock.Clock
	bars    *mpb.Progress // nil where standard error is no terminal

	mu    sync.Mutex // guards the fields below
	known map[string]*Bar
}

// NewProgress starts showing progress on the console's standard error. Wait ends it. A console shows one at a time.
func (c *Console) NewProgress(clk clock.Clock) *Progress {
	p := &Progress{console: c, clock: clk, known: map[string]*Bar{}}
	if IsTerminal(c.Err) {
		p.bars = mpb.New(mpb.WithOutput(c.Err), mpb.WithWidth(barColumns), mpb.WithRefreshRate(drawEvery))
		c.bars.Store(p.bars)
	}
	return p
}

// Bar returns the bar of that name, made with the given total in bytes when it is new. Total 0 means that nobody knows: such a
// bar shows an amount and its speed. One with a total shows a place on the way to it, and no speed: what did not change is
// jumped over.
func (p *Progress) Bar(name string, total int64) *Bar {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b, ok := p.known[name]; ok {
		return b
	}
	b := &Bar{p: p, name: name, total: total, began: p.clock.Now(), told: p.clock.Now()}
	if p.bars != nil {
		b.bar = p.draw(name, total)
	}
	p.known[name] = b
	return b
}

// draw adds a bar to the terminal. Its total is set afterwards: a bar of this library that is born with one cannot be ended
// before it gets there.
func (p *Progress) draw(name string, total int64) *mpb.Bar {
	label := mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR))
	if total <= 0 {
		return p.bars.AddSpinner(0, label, mpb.BarWidth(1),
			mpb.AppendDecorators(decor.CurrentKibiByte("% .1f", decor.WCSyncSpace), decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace)))
	}
	bar := p.bars.AddBar(0, label,
		mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)))
	bar.SetTotal(total, false)
	return bar
}

// Wait ends all bars and leaves the terminal in order. err is how the work ended: after success the bars are full, for what was
// jumped over at the end is done, too; after an error they stay where they were.
func (p *Progress) Wait(err error) {
	p.mu.Lock()
	bars := make([]*Bar, 0, len(p.known))
	for _, b := range p.known {
		bars = append(bars, b)
	}
	p.mu.Unlock()
	if p.bars == nil {
		return
	}
	for _, b := range bars {
		b.end(err == nil)
	}
	p.bars.Wait()
	p.console.bars.CompareAndSwap(p.bars, nil)
}

// Bar is one line of progress. Safe for concurrent use.
type Bar struct {
	p     *Progress
	name  string
	total int64
	bar   *mpb.Bar // nil where standard error is no terminal
	began time.Time

	mu   sync.Mutex // guards the fields below
	done int64
	told time.Time
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
	if b.total > 0 {
		b.p.console.Note("%s: %s of %s (%d %%)", b.name, Bytes(b.done), Bytes(b.total), 100*b.done/b.total)
		return
	}
	rate := float64(b.done) / max(b.p.clock.Now().Sub(b.began).Seconds(), 1e-3)
	b.p.console.Note("%s: %s, %s/s", b.name, Bytes(b.done), Bytes(int64(rate)))
}

// end takes a drawn bar off the terminal's care, full or where it stands.
func (b *Bar) end(full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !full {
		b.bar.Abort(false)
		return
	}
	if b.total > 0 {
		b.bar.SetCurrent(b.total)
	}
	b.bar.SetTotal(-1, true)
}
