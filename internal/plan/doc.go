// Package plan decides what is to be done now: it takes the time, what people intend and what is known, and returns
// intents. What the scheduler will do is this value; it can be printed, and it is what is done.
//
// It promises that each slot of each policy is decided exactly once: it is started, or skipped with a reason, and never
// silently passed over, however long nobody asked. Deciding twice on the same state gives the same intents, and every intent
// has a natural key, so that starting it twice can be noticed. It must never do anything itself, read a clock, or look at
// history: what a decision costs depends on what is due, not on what was.
//
// The rules are in doc/policies.md, "Plan and preview".
package plan
