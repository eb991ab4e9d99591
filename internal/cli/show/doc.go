// Package show is how the results of commands look: the values that scripts get, where an engine's own do not
// serve, and the tables that people get.
//
// It promises that both say the same. It decides nothing, reads nothing and knows no flag.
package show
