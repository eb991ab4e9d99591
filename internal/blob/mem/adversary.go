package mem

import (
	"bytes"
	"slices"
	"time"
)

// Adversary does to a store what only others do: somebody with the storage's credentials, a broken disk, a list that is
// late. It is for tests. Methods on a name that does not exist do nothing and report false.
type Adversary struct{ store *Store }

// Adversary returns the store's adversary.
func (s *Store) Adversary() Adversary { return Adversary{s} }

// Names returns the names of all current objects in byte order, hidden ones included.
func (a Adversary) Names() []string {
	a.store.mu.RLock()
	defer a.store.mu.RUnlock()
	var names []string
	for name, o := range a.store.objects {
		if o.current {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Overwrite makes data a new, unlocked current version, as an unconditional put does. The name need not exist or be valid.
func (a Adversary) Overwrite(name string, data []byte) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.store.append(name, data, time.Time{})
}

// Delete turns the current version into an older one: the name reads as missing and its versions stay.
func (a Adversary) Delete(name string) bool {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	o := a.store.objects[name]
	if o == nil || !o.current {
		return false
	}
	o.current = false
	return true
}

// Erase destroys all versions of an object, locked or not, as lost storage does.
func (a Adversary) Erase(name string) bool {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	_, ok := a.store.objects[name]
	delete(a.store.objects, name)
	return ok
}

// Purge deletes the object and then each version that no lock holds, as somebody may who has all rights on the data. It
// reports whether a version is left.
func (a Adversary) Purge(name string) bool {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	o := a.store.objects[name]
	if o == nil {
		return false
	}
	now := a.store.clock.Now()
	o.current = false
	o.versions = slices.DeleteFunc(o.versions, func(v version) bool { return !v.lockedUntil.After(now) })
	if len(o.versions) == 0 {
		delete(a.store.objects, name)
	}
	return len(o.versions) > 0
}

// Damage replaces the current version's bytes by what change makes of a copy of them, without making a version.
func (a Adversary) Damage(name string, change func(data []byte) []byte) bool {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	o := a.store.objects[name]
	if o == nil || !o.current {
		return false
	}
	v := o.last()
	v.data = change(bytes.Clone(v.data))
	return true
}

// Hide makes lists miss the name, whether or not it exists yet, until Show.
func (a Adversary) Hide(name string) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	a.store.hidden[name] = true
}

// Show ends what Hide did.
func (a Adversary) Show(name string) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	delete(a.store.hidden, name)
}
