// Package holdfast holds the nouns that every part of Holdfast shares: typed ids, virtual machines and their disks,
// extents, restore points, and the kinds of failure.
//
// It imports the standard library alone and does no I/O. Everything else may import it; it imports nothing of ours.
// The words are explained in doc/glossary.md.
package holdfast
