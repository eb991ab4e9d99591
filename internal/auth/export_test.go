package auth

// Occupy takes a turn of a hasher and returns how to give it back.
func Occupy(h *Hasher) func() {
	h.waiting <- struct{}{}
	h.running <- struct{}{}
	return func() { <-h.running; <-h.waiting }
}

// Known is how many entries a throttle holds.
func Known(t *Throttle) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}
