// Package cache keeps the most recently used values up to a cost in bytes, and lets one caller load what several ask for at
// once. It bounds the memory of everything in a repository that is read on demand.
package cache

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

// Cache maps keys to values. Safe for concurrent use.
type Cache[K comparable, V any] struct {
	limit int64
	cost  func(V) int64

	mu      sync.Mutex // guards the fields below
	used    int64
	entries map[K]*list.Element
	order   *list.List // front: used last
	loading map[K]*load[V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

type load[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// New returns a cache that keeps values of up to limit bytes together, as cost counts them.
func New[K comparable, V any](limit int64, cost func(V) int64) *Cache[K, V] {
	return &Cache[K, V]{limit: limit, cost: cost, entries: map[K]*list.Element{}, order: list.New(), loading: map[K]*load[V]{}}
}

// Get returns the value of key, calling fetch when it is not kept. Callers that ask for the same key at the same time share
// one fetch; its error is not kept.
func (c *Cache[K, V]) Get(ctx context.Context, key K, fetch func() (V, error)) (V, error) {
	for {
		c.mu.Lock()
		if element, ok := c.entries[key]; ok {
			c.order.MoveToFront(element)
			c.mu.Unlock()
			return element.Value.(*entry[K, V]).value, nil
		}
		if l, ok := c.loading[key]; ok {
			c.mu.Unlock()
			select {
			case <-l.done:
			case <-ctx.Done():
				var none V
				return none, ctx.Err()
			}
			if l.err == nil {
				return l.value, nil
			}
			if ctx.Err() == nil && isContext(l.err) { // the other caller gave up, we did not
				continue
			}
			return l.value, l.err
		}
		l := &load[V]{done: make(chan struct{})}
		c.loading[key] = l
		c.mu.Unlock()

		l.value, l.err = fetch()
		c.mu.Lock()
		delete(c.loading, key)
		if l.err == nil {
			c.add(key, l.value)
		}
		c.mu.Unlock()
		close(l.done)
		return l.value, l.err
	}
}

// Drop forgets the value of a key.
func (c *Cache[K, V]) Drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.entries[key]; ok {
		c.used -= c.cost(c.order.Remove(element).(*entry[K, V]).value)
		delete(c.entries, key)
	}
}

// Used returns the cost of all values that are kept.
func (c *Cache[K, V]) Used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// Put keeps a value that the caller came by in another way. A key that is kept already stays as it is.
func (c *Cache[K, V]) Put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, value)
}

// add inserts a value, unless the key has one, and drops the oldest ones beyond the limit. The caller holds mu.
func (c *Cache[K, V]) add(key K, value V) {
	if _, ok := c.entries[key]; ok {
		return
	}
	c.entries[key] = c.order.PushFront(&entry[K, V]{key, value})
	c.used += c.cost(value)
	for c.used > c.limit && c.order.Len() > 1 {
		oldest := c.order.Remove(c.order.Back()).(*entry[K, V])
		delete(c.entries, oldest.key)
		c.used -= c.cost(oldest.value)
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
