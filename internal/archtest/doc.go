// Package archtest holds the rules of doc/architecture.md and CONTRIBUTING.md that a linter cannot say, as tests: the
// import table with a reason for each ban, what a package and a function may be, what must be written down, and what no
// file may contain.
//
// It promises that a broken rule names the file and line and says why the rule is there. It must never be satisfied by
// loosening a rule quietly: whoever changes a table here changes the page that explains it too. There is no code in this
// package but its tests.
package archtest
