// Package collect finds what no restore point of a repository needs any more, gathers what is left in packs that are mostly dead,
// and deletes (doc/format.md §12).
//
// Planning reads: it walks the maps of all visible points, notes in a census what they need of each pack, and decides what is worth
// doing. Executing walks the road that the format page prescribes: condemn what nobody needs, under the rule that whoever appends
// an entry has read all before it, and delete after that. What was planned is judged again at each append, so a plan that has
// become old costs time, never data.
//
// It promises: nothing that a visible point needs, and nothing that an open session wrote, is ever condemned; a collection that dies
// anywhere leaves nothing that the next one does not finish. It must never delete what is not condemned, never take an object for
// dead because a listing does not show who needs it, and never let a clock decide what is safe. Package repo is its only user.
package collect
